// Values that are likely to show a difference: boundaries, special floating point, odd states.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "tests/differential/case.h"
#include "tests/differential/random.h"

namespace trapline::differential {

uint32_t interesting_integer(Random& random);
float interesting_float(Random& random);
double interesting_double(Random& random);
/// An x87 register: normal, denormal, pseudo-denormal, unnormal, infinite, NaN, zero, integer.
std::array<uint8_t, 10> interesting_extended(Random& random);
/// Fills a vector register or memory with elements of one randomly chosen type.
void interesting_bytes(Random& random, std::span<uint8_t> out);
/// BCD in FBLD's layout, mostly valid.
std::array<uint8_t, 10> interesting_decimal(Random& random);

enum class FpuMood : uint8_t {
  kAny,    ///< Exceptions may be unmasked or pending, the stack in any state.
  kQuiet,  ///< Everything masked, nothing pending.
};

/// A state that FXRSTOR accepts, with ES and B as the flags and masks make them.
void random_fpu(Random& random, FpuMood mood, FpuImage& fpu);
uint32_t random_mxcsr(Random& random, FpuMood mood);
uint32_t random_eflags(Random& random);
/// What POPF may load without arming single-step traps or alignment checks.
inline constexpr uint32_t kUnwelcomeFlags = eflags::kTf | eflags::kAc;

/// The content of the window that all cases of a run start from.
void fill_window(uint64_t seed, WindowImage& image);

}  // namespace trapline::differential
