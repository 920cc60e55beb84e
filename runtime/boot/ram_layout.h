// Where RAM lies in a PC, as boot loaders tell kernels: low memory, the hole that adapters and ROMs
// own, then up to 3 GiB, and the rest from 4 GiB.
#pragma once

#include <algorithm>
#include <cstdint>

namespace trapline {

struct RamLayout {
  static constexpr uint64_t kLowEnd = 0xa0000;
  static constexpr uint64_t kHighStart = 0x100000;
  static constexpr uint64_t kHoleStart = uint64_t{3} << 30;
  static constexpr uint64_t kAboveStart = uint64_t{4} << 30;

  uint64_t bytes = 0;

  constexpr uint64_t low_end() const { return std::min(bytes, kLowEnd); }
  /// One past the RAM that begins at 1 MiB.
  constexpr uint64_t high_end() const { return std::clamp(bytes, kHighStart, kHoleStart); }
  constexpr uint64_t above_bytes() const { return bytes > kHoleStart ? bytes - kHoleStart : 0; }

  /// Whether a loader may put `size` bytes at `address`.
  constexpr bool usable(uint64_t address, uint64_t size) const {
    return within(address, size, 0, low_end()) || within(address, size, kHighStart, high_end());
  }

 private:
  static constexpr bool within(uint64_t address, uint64_t size, uint64_t start, uint64_t end) {
    return address >= start && address <= end && size <= end - address;
  }
};

}  // namespace trapline
