// The random machine that an input runs in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tests/differential/random.h"
#include "vcpu/state.h"

namespace trapline::fuzz {

inline constexpr uint64_t kMemoryBytes = 1u << 20;

struct Guest {
  std::vector<uint8_t> memory;  ///< From physical address 0.
  CpuState state;
  bool exits_on_exceptions = false;
  bool has_ports = true;
  bool interrupts = false;  ///< One is pending at the start, and an NMI.
  uint8_t vector = 0;
  bool breakpoint = false;
  uint32_t breakpoint_at = 0;
};

/// `setup` picks the mode and which parts are random; `seed` what they hold.
Guest make_guest(uint32_t setup, uint64_t seed, std::span<const uint8_t> code);

}  // namespace trapline::fuzz
