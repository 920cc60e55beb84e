// Where a case's code, data and stack lie. The addresses are the same on every backend, so that
// pointers, fault addresses and pushed return addresses compare as they are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vcpu/address.h"

namespace trapline::differential {

/// Two pages of code, executable and not writable, with nothing mapped around them. No address that
/// random operands are likely to have: what stands at the exits differs between backends.
inline constexpr uint32_t kCodeBase = 0x1a4c6000;
inline constexpr uint32_t kCodePages = 2;
inline constexpr uint32_t kCodeBytes = kCodePages * kPageSize;

/// A piece of the window: what a case may read and write, and what is compared.
struct Region {
  uint32_t base = 0;
  uint32_t pages = 0;
  bool writable = true;
  uint32_t first_page = 0;  ///< Where its content starts in a WindowImage.
  constexpr uint32_t end() const { return base + pages * kPageSize; }
};

inline constexpr Region kData{0x20000000, 2, true, 0};
/// Follows kData directly, so that writes can run from writable into read-only memory.
inline constexpr Region kReadOnly{0x20002000, 1, false, 2};
inline constexpr Region kStack{0x30000000, 1, true, 3};
/// Loop counters and jump tables of generated blocks; instructions are not steered here.
inline constexpr Region kCounters{0x28000000, 1, true, 4};
/// What 16-bit addresses reach.
inline constexpr Region kLow{0x00008000, 1, true, 5};

inline constexpr std::array kRegions{kData, kReadOnly, kStack, kCounters, kLow};
inline constexpr uint32_t kWindowPages = 6;
inline constexpr uint32_t kWindowBytes = kWindowPages * kPageSize;

struct alignas(kPageSize) WindowImage {
  std::array<uint8_t, kWindowBytes> bytes{};
};

/// The selectors of the host's flat segments for 32-bit user code, which every backend shows.
inline constexpr uint16_t kCodeSelector = 0x23;
inline constexpr uint16_t kDataSelector = 0x2b;
/// FS: based with a 4 GiB limit, so that fs:[0x4000] is the start of the data.
inline constexpr uint16_t kFsSelector = 0x07;
inline constexpr uint32_t kFsBase = kData.base - 0x4000;
/// GS: based with a limit that ends with the writable data.
inline constexpr uint16_t kGsSelector = 0x0f;
inline constexpr uint32_t kGsBase = kData.base;
inline constexpr uint32_t kGsLimit = 2 * kPageSize - 1;

/// Segments of 16-bit code and its data: each ends, at 64 KiB, where its region ends. Cases of such
/// code have linear EIPs, and offsets in registers.
inline constexpr uint16_t kCode16Selector = 0x17;
inline constexpr uint32_t kCode16Base = kCodeBase + kCodeBytes - 0x10000;
inline constexpr uint16_t kStack16Selector = 0x1f;
inline constexpr uint32_t kStack16Base = kStack.end() - 0x10000;
inline constexpr uint16_t kData16Selector = 0x27;  ///< DS and ES.
inline constexpr uint32_t kData16Base = kReadOnly.end() - 0x10000;

/// Offset into a WindowImage of a linear address, or kWindowBytes when it is outside.
constexpr uint32_t window_offset(uint32_t linear) {
  for (const Region& region : kRegions) {
    if (linear >= region.base && linear < region.end())
      return region.first_page * kPageSize + (linear - region.base);
  }
  return kWindowBytes;
}

/// The linear address of an offset into a WindowImage.
constexpr uint32_t window_linear(uint32_t offset) {
  const uint32_t page = offset / kPageSize;
  for (const Region& region : kRegions) {
    if (page >= region.first_page && page < region.first_page + region.pages)
      return region.base + (offset - region.first_page * kPageSize);
  }
  return 0;
}

}  // namespace trapline::differential
