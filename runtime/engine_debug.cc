// Debug exceptions: breakpoints of the guest's debug registers, and single steps.
//
// Breakpoints for execution are part of the mode, so that blocks end before them; they are found
// where a block begins. While one for data is armed, every access goes through C++
// (mode::kWatched), where it is compared with them; what it met waits in debug_met_ until the
// instruction is through.
#include <algorithm>

#include "runtime/engine.h"
#include "vcpu/debug_registers.h"

namespace trapline {

/// A number for the addresses at which blocks must end; 0 when there are none.
uint32_t Engine::find_breakpoint_set() {
  const CpuState& state = context_->cpu;
  const DebugRegisters debug(state);
  std::vector<uint32_t> addresses;
  for (int i = 0; i < DebugRegisters::kCount; ++i)
    if (debug.armed(i, BreakpointKind::kExecute)) addresses.push_back(state.dr[i]);
  if (addresses.empty()) return 0;
  std::sort(addresses.begin(), addresses.end());
  const auto known = std::find(breakpoint_sets_.begin(), breakpoint_sets_.end(), addresses);
  if (known == breakpoint_sets_.end()) {
    breakpoint_sets_.push_back(std::move(addresses));
    return static_cast<uint32_t>(breakpoint_sets_.size());
  }
  return static_cast<uint32_t>(known - breakpoint_sets_.begin()) + 1;
}

std::span<const uint32_t> Engine::guest_breakpoints() const {
  if (mode_.breakpoints == 0) return {};
  return breakpoint_sets_[mode_.breakpoints - 1];
}

/// The fault of the breakpoint at CS:EIP, if there is one.
std::optional<Fault> Engine::execution_breakpoint() {
  CpuState& state = context_->cpu;
  const DebugRegisters debug(state);
  if (!debug.any()) return std::nullopt;
  const uint32_t met = debug.met_by_execution({state.segment[kCs].base + state.eip});
  if (!met) return std::nullopt;
  state.dr[6] |= met;
  return Fault::plain(Vector::kDebug);
}

void Engine::note_debug(uint32_t met) {
  if (!met) return;
  debug_met_ |= met;
  context_->hot.attention = 1;
}

bool Engine::note_access(Linear address, uint32_t size, bool write) {
  const DebugRegisters debug(context_->cpu);
  if (!debug.any()) return false;
  const uint32_t met = debug.met_by_access(address, size, write);
  note_debug(met);
  return met != 0;
}

void Engine::note_port(uint16_t port, uint32_t size) {
  const DebugRegisters debug(context_->cpu);
  if (debug.any()) note_debug(debug.met_by_port(port, size));
}

/// Between two instructions: the debug exception that the last one ended with.
std::optional<Exit> Engine::debug_trap(bool stepped) {
  CpuState& state = context_->cpu;
  if (state.shadow == InterruptShadow::kMovSs) return std::nullopt;
  const uint32_t met = std::exchange(debug_met_, 0) | (stepped ? dr6::kSingleStep : 0);
  if (!met) return std::nullopt;
  state.dr[6] |= met;
  ++counters_.exceptions;
  context_->hot.compare_unfinished = 0;
  if (options_.exit_on_exceptions >> static_cast<int>(Vector::kDebug) & 1) {
    Exit exit;
    exit.kind = Exit::Kind::kException;
    exit.fault = Fault::plain(Vector::kDebug);
    return exit;
  }
  if (deliver_trap(cpu_, Vector::kDebug) != Delivered::kTripleFault) return std::nullopt;
  Exit exit;
  exit.kind = Exit::Kind::kTripleFault;
  return exit;
}

}  // namespace trapline
