// Machines whose user code runs natively, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/machine.h"

namespace trapline {

inline constexpr uint32_t kCode = 0x10000;
inline constexpr uint32_t kData = 0x20000;

/// Paging is off, so that a page is its own frame.
inline std::unique_ptr<Machine> machine_with(const std::vector<uint8_t>& code,
                                             DirectExecution direct = DirectExecution::kAlways,
                                             bool at_once = false, MachineOptions options = {}) {
  options.memory_bytes = 1u << 20;
  options.code_cache_bytes = 1u << 20;
  options.exit_on_exceptions = ~0u;
  options.direct_execution = direct;
  options.native_at_once = at_once;
  auto machine = Machine::create(options).take();
  EXPECT_EQ(machine->native_refusal(), "");
  machine->write_memory({kCode}, std::as_bytes(std::span(code)));
  CpuState state = CpuState::flat32(3);
  state.eip = kCode;
  state.eflags |= eflags::kIf;
  state.gpr[kEsp] = kData + 0x800;
  state.gpr[kEcx] = 1'000'000;
  machine->set_state(state);
  return machine;
}

}  // namespace trapline
