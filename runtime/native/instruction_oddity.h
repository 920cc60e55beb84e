// What bytes tell by themselves of whether anybody executes them as 32-bit user code.
#pragma once

#include <cstdint>
#include <span>

namespace trapline {

/// How odd the instruction is that the bytes begin with: 0 if it is usual, 1 if such are rare, kOdd
/// if user code does without it, above all since it faults outside ring 0. Where branches go is not
/// looked at. Needs as many bytes as the instruction has.
uint32_t oddity(std::span<const uint8_t> bytes);

/// Of instructions in a row: nobody executes them.
inline constexpr uint32_t kOdd = 3;

/// Whether no branch goes so far.
constexpr bool is_odd_distance(int32_t distance) {
  constexpr int32_t kFarthest = 32 << 20;
  return distance < -kFarthest || distance > kFarthest;
}

}  // namespace trapline
