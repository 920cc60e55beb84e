// How translated code goes on by way of the execution table, for whoever has to know whether it has
// read the table already.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace trapline {

/// JMP to the register host::kDelta, which is what blocks end in that have read the table.
inline constexpr std::array<uint8_t, 3> kTableJump = {0x41, 0xff, 0xe1};
/// Its last byte comes at most so many bytes after the read of the table's address.
inline constexpr size_t kTableJumpReach = 16;

/// Whether code of which this is left may be at that. Async-signal-safe.
inline bool jumps_by_table(std::span<const uint8_t> left) {
  const auto near = left.first(std::min(left.size(), kTableJumpReach));
  return std::ranges::search(near, kTableJump).begin() != near.end();
}

}  // namespace trapline
