#include "tests/differential/kernel_machine.h"

#include <chrono>
#include <cstdio>
#include <cstring>

#include "tests/differential/text.h"
#include "vcpu/assert.h"

namespace trapline::differential::kernel {

Result<std::unique_ptr<MachineKernelBackend>> MachineKernelBackend::create(
    const Switches& switches) {
  MachineOptions options;
  options.memory_bytes = 4u << 20;
  options.code_cache_bytes = 16u << 20;
  options.switches = switches;
  options.exit_on_exceptions = ~0u;
  auto machine = Machine::create(options);
  if (!machine.ok()) return machine.error();
  return std::unique_ptr<MachineKernelBackend>(new MachineKernelBackend(machine.take()));
}

MachineKernelBackend::MachineKernelBackend(std::unique_ptr<Machine> machine)
    : machine_(std::move(machine)) {
  for (const bool pae : {false, true}) {
    build_memory(start_memory_[pae], pae);
    set_memory(start_memory_[pae]);
    CpuState state = CpuState::flat32(0);
    state.eip = kPrologue;
    state.tr = Segment{};
    machine_->set_state(state);
    const Exit exit = machine_->run();
    TRAPLINE_ASSERT(exit.kind == Exit::Kind::kException &&
                    exit.fault.vector == Vector::kBreakpoint);
    start_state_[pae] = machine_->state();
    machine_->read_memory({0}, std::as_writable_bytes(std::span(start_memory_[pae])));
  }
}

void MachineKernelBackend::set_memory(const Memory& wanted) {
  constexpr uint32_t kLine = 64;
  Memory now;
  machine_->read_memory({0}, std::as_writable_bytes(std::span(now)));
  for (uint32_t line = 0; line < kMemoryBytes; line += kLine) {
    if (std::memcmp(&now[line], &wanted[line], kLine) == 0) continue;
    machine_->write_memory({line}, std::as_bytes(std::span(wanted).subspan(line, kLine)));
  }
}

void MachineKernelBackend::run(const KernelCase& test, KernelOutcome& outcome) {
  Memory memory = start_memory_[test.pae];
  std::memcpy(&memory[test.origin], test.code.data(), test.code.size());
  if (!test.user_code.empty())
    std::memcpy(&memory[kUserCode], test.user_code.data(), test.user_code.size());
  set_memory(memory);
  CpuState state = start_state_[test.pae];
  state.gpr = test.gpr;
  state.eip = test.origin;
  state.eflags = eflags::kFixed1;
  machine_->set_state(state);
  run_steps(test, outcome);
  capture(outcome);
}

void MachineKernelBackend::run_steps(const KernelCase& test, KernelOutcome& outcome) {
  outcome.events.clear();
  for (;;) {
    const Exit exit = machine_->run({std::nullopt, std::chrono::milliseconds(500)});
    const CpuState& state = machine_->state();
    if (exit.kind != Exit::Kind::kException) {
      if (exit.kind != Exit::Kind::kDeadline)
        std::fprintf(stderr, "The engine left case %llu with exit kind %d. %s\n", ull(test.number),
                     static_cast<int>(exit.kind), exit.message.c_str());
      outcome.ending = exit.kind == Exit::Kind::kDeadline ? Ending::kTimeout : Ending::kLost;
      return;
    }
    if (exit.fault.vector == Vector::kBreakpoint && state.eip == test.end + 1) {
      outcome.ending = Ending::kEnd;
      return;
    }
    const bool page_fault = exit.fault.vector == Vector::kPageFault;
    outcome.events.push_back(
        {static_cast<uint8_t>(exit.fault.vector), state.eip, page_fault ? exit.fault.linear : 0});
    if (state.cpl == 3 || outcome.events.size() == kMaxEvents) {
      outcome.ending = state.cpl == 3 ? Ending::kUser : Ending::kTooManyEvents;
      return;
    }
    CpuState next = state;
    next.eip = test.next_step(state.eip);
    if (page_fault) next.cr2 = exit.fault.linear;
    next.shadow = InterruptShadow::kNone;
    machine_->set_state(next);
  }
}

void MachineKernelBackend::capture(KernelOutcome& outcome) const {
  const CpuState& state = machine_->state();
  outcome.gpr = state.gpr;
  outcome.eip = state.eip;
  outcome.eflags = state.eflags;
  for (size_t i = 0; i < 6; ++i) outcome.selectors[i] = state.segment[i].selector;
  outcome.ldtr = state.ldtr.selector;
  outcome.tr = state.tr.selector;
  outcome.cr0 = state.cr0;
  // A page fault that is an exit is not delivered; its address is in the event.
  outcome.cr2 = !outcome.events.empty() && outcome.events.back().vector == 14
                    ? outcome.events.back().cr2
                    : state.cr2;
  outcome.cr3 = state.cr3;
  outcome.cr4 = state.cr4;
  machine_->read_memory({0}, std::as_writable_bytes(std::span(outcome.memory)));
}

}  // namespace trapline::differential::kernel
