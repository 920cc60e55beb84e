// One input of the fuzzer: random bytes as guest code, in a random state that the first bytes of
// the input choose.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "translator/switches.h"
#include "vcpu/state.h"

namespace trapline::fuzz {

/// Bytes of an input before its code: a setup number, then the seed of everything random in memory
/// and state. Shorter inputs are as if filled up with zeros.
inline constexpr size_t kSetupBytes = 4;
inline constexpr size_t kSeedBytes = 8;
inline constexpr size_t kHeaderBytes = kSetupBytes + kSeedBytes;
/// Longer code is cut off.
inline constexpr size_t kMaxCode = 3840;

/// Runs the input for so many instructions in a new machine, then in a second one with other
/// switches. Nothing, or a sentence with what is wrong. A crash is the caller's to notice.
std::optional<std::string> run_input(std::span<const uint8_t> input, uint64_t instructions = 2000);

}  // namespace trapline::fuzz
