#include "tests/differential/real_machine.h"

#include <chrono>
#include <cstdio>
#include <cstring>

#include "tests/differential/real_layout.h"
#include "tests/differential/text.h"

namespace trapline::differential::kernel {
namespace {

uint16_t read16(const Machine& machine, uint32_t address) {
  uint16_t value = 0;
  machine.read_memory({address}, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

/// Goes on at the next step, in the code segment that was interrupted.
void skip_to(CpuState& state, const KernelCase& test, uint32_t linear) {
  state.eip = test.next_step(linear) - state.segment[kCs].base;
  state.shadow = InterruptShadow::kNone;
}

/// Takes back what the delivery of an exception pushed. Returns the event.
KernelEvent undo_delivery(const Machine& machine, uint32_t stub, CpuState& state) {
  const uint32_t sp = state.gpr[kEsp] & 0xffff;
  const uint32_t base = state.segment[kSs].base;
  const uint16_t ip = read16(machine, base + sp);
  const uint16_t selector = read16(machine, base + sp + 2);
  state.segment[kCs].selector = selector;
  state.segment[kCs].base = uint32_t{selector} << 4;
  state.gpr[kEsp] = (state.gpr[kEsp] & 0xffff0000) | ((sp + 6) & 0xffff);
  return {static_cast<uint8_t>(stub), state.segment[kCs].base + ip, 0};
}

}  // namespace

Result<std::unique_ptr<MachineRealBackend>> MachineRealBackend::create(const Switches& switches) {
  Machines machines;
  for (const bool delivers : {false, true}) {
    MachineOptions options;
    options.memory_bytes = 4u << 20;
    options.code_cache_bytes = 16u << 20;
    options.switches = switches;
    options.exit_on_exceptions = delivers ? 1u << static_cast<int>(Vector::kBreakpoint) : ~0u;
    auto machine = Machine::create(options);
    if (!machine.ok()) return machine.error();
    machines[delivers] = machine.take();
  }
  return std::unique_ptr<MachineRealBackend>(new MachineRealBackend(std::move(machines)));
}

void MachineRealBackend::load(Machine& machine, const KernelCase& test) {
  constexpr uint32_t kLine = 64;
  Memory now, wanted;
  build_real_memory(test, wanted);
  machine.read_memory({0}, std::as_writable_bytes(std::span(now)));
  for (uint32_t line = 0; line < kMemoryBytes; line += kLine) {
    if (std::memcmp(&now[line], &wanted[line], kLine) == 0) continue;
    machine.write_memory({line}, std::as_bytes(std::span(wanted).subspan(line, kLine)));
  }
  CpuState state = CpuState::flat32(0);
  state.gpr = test.gpr;
  state.cr0 = cr0::kEt | cr0::kNe;
  state.eflags = eflags::kFixed1;
  state.idtr = {kVectors, kVectorsLimit};
  for (size_t i = 0; i < 6; ++i) state.segment[i] = Segment::real(test.selectors[i], i == kCs);
  state.eip = test.origin - state.segment[kCs].base;
  machine.set_state(state);
}

void MachineRealBackend::run(const KernelCase& test, KernelOutcome& outcome) {
  Machine& machine = *machines_[test.delivers];
  load(machine, test);
  run_steps(machine, test, outcome);
  const CpuState& state = machine.state();
  outcome.gpr = state.gpr;
  outcome.eip = state.eip;
  outcome.eflags = state.eflags;
  for (size_t i = 0; i < 6; ++i) outcome.selectors[i] = state.segment[i].selector;
  outcome.cr0 = state.cr0;
  machine.read_memory({0}, std::as_writable_bytes(std::span(outcome.memory)));
}

void MachineRealBackend::run_steps(Machine& machine, const KernelCase& test,
                                   KernelOutcome& outcome) {
  outcome.events.clear();
  for (;;) {
    const Exit exit = machine.run({std::nullopt, std::chrono::milliseconds(500)});
    const CpuState& state = machine.state();
    if (exit.kind != Exit::Kind::kException) {
      if (exit.kind != Exit::Kind::kDeadline)
        std::fprintf(stderr, "The engine left case %llu with exit kind %d. %s\n", ull(test.number),
                     static_cast<int>(exit.kind), exit.message.c_str());
      outcome.ending = exit.kind == Exit::Kind::kDeadline ? Ending::kTimeout : Ending::kLost;
      return;
    }
    const uint32_t linear = state.segment[kCs].base + state.eip;
    const bool breakpoint = exit.fault.vector == Vector::kBreakpoint;
    if (breakpoint && linear == test.end + 1) {
      outcome.ending = Ending::kEnd;
      return;
    }
    CpuState next = state;
    KernelEvent event{static_cast<uint8_t>(exit.fault.vector), linear, 0};
    const uint32_t stub = linear - 1 - kFaultStubs;
    if (breakpoint && stub < kFirstInt) event = undo_delivery(machine, stub, next);
    outcome.events.push_back(event);
    if (outcome.events.size() == kMaxEvents) {
      outcome.ending = Ending::kTooManyEvents;
      return;
    }
    skip_to(next, test, event.eip);
    machine.set_state(next);
  }
}

}  // namespace trapline::differential::kernel
