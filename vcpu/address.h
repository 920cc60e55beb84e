// Guest addresses as types that cannot be mixed up. shadowmmu/ alone turns one into another.
#pragma once

#include <compare>
#include <cstdint>

namespace trapline {

inline constexpr uint32_t kPageShift = 12;
inline constexpr uint32_t kPageSize = 1u << kPageShift;
inline constexpr uint32_t kPageMask = kPageSize - 1;
inline constexpr uint32_t kLinearPages = 1u << (32 - kPageShift);

/// A guest linear address: after segmentation, before paging. Wraps at 4 GiB.
struct Linear {
  uint32_t value = 0;

  constexpr uint32_t page() const { return value >> kPageShift; }
  constexpr uint32_t offset() const { return value & kPageMask; }
  constexpr Linear operator+(uint32_t bytes) const { return {value + bytes}; }
  constexpr auto operator<=>(const Linear&) const = default;
};

/// A guest physical address. 64 bits wide, because PAE guests see more than 4 GiB.
struct Physical {
  uint64_t value = 0;

  constexpr uint64_t frame() const { return value >> kPageShift; }
  constexpr uint32_t offset() const { return static_cast<uint32_t>(value) & kPageMask; }
  constexpr Physical operator+(uint64_t bytes) const { return {value + bytes}; }
  constexpr auto operator<=>(const Physical&) const = default;
};

}  // namespace trapline
