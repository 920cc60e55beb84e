// The bits of page-table entries and the two layouts that they come in.
#pragma once

#include <cstdint>

#include "shadowmmu/page_walk.h"
#include "shadowmmu/physical_memory.h"
#include "vcpu/address.h"

namespace trapline::paging {

inline constexpr uint32_t kPresent = 1u << 0;
inline constexpr uint32_t kWritable = 1u << 1;
inline constexpr uint32_t kUser = 1u << 2;
inline constexpr uint32_t kWriteThrough = 1u << 3;
inline constexpr uint32_t kCacheDisable = 1u << 4;
inline constexpr uint32_t kAccessed = 1u << 5;
inline constexpr uint32_t kDirty = 1u << 6;        ///< Leaves only.
inline constexpr uint32_t kPageSizeBit = 1u << 7;  ///< Directory entries; PAT in a table's.
inline constexpr uint32_t kGlobal = 1u << 8;
inline constexpr uint32_t kAvailable = 7u << 9;
inline constexpr uint32_t kLargePat = 1u << 12;
inline constexpr uint64_t kNoExecute = uint64_t{1} << 63;

/// 4-byte entries: a directory of 1024, tables of 1024, large pages of 4 MiB.
class TwoLevel {
 public:
  using Entry = uint32_t;
  static constexpr uint32_t kLargeOffset = (1u << 22) - 1;

  explicit TwoLevel(const PagingContext& context)
      : pse_(context.pse),
        large_reserved_(kHighFrameBits << (context.pse36 ? context.physical_bits - 32 : 0) &
                        kHighFrameBits) {}

  static constexpr uint32_t directory_index(uint32_t linear) { return linear >> 22; }
  static constexpr uint32_t table_index(uint32_t linear) { return (linear >> 12) & 1023; }
  static constexpr uint64_t base(Entry entry) { return entry & ~kPageMask; }
  static constexpr bool no_execute(Entry) { return false; }

  bool large(Entry entry) const { return pse_ && (entry & kPageSizeBit); }
  Entry reserved() const { return 0; }
  /// Bit 12 is PAT. With PSE-36, bits from 13 on are the physical address's bits from 32 on.
  Entry large_reserved() const { return large_reserved_; }
  uint64_t large_base(Entry entry) const {
    const uint64_t low = entry & ~kLargeOffset;
    return low | (uint64_t{entry >> 13 & 0xff} << 32);
  }

 private:
  static constexpr uint32_t kHighFrameBits = 0x1ffu << 13;

  bool pse_;
  Entry large_reserved_;
};

/// 8-byte entries: four directories of 512, tables of 512, large pages of 2 MiB.
class Pae {
 public:
  using Entry = uint64_t;
  static constexpr uint32_t kLargeOffset = (1u << 21) - 1;

  explicit Pae(const PagingContext& context)
      : reserved_((~uint64_t{0} << context.physical_bits & ~kNoExecute) |
                  (context.nxe ? 0 : kNoExecute)) {}

  static constexpr uint32_t directory_number(uint32_t linear) { return linear >> 30; }
  static constexpr uint32_t directory_index(uint32_t linear) { return (linear >> 21) & 511; }
  static constexpr uint32_t table_index(uint32_t linear) { return (linear >> 12) & 511; }
  static constexpr uint64_t base(Entry entry) {
    return entry & ((uint64_t{1} << kPhysicalBits) - kPageSize);
  }
  static constexpr bool no_execute(Entry entry) { return entry & kNoExecute; }

  bool large(Entry entry) const { return entry & kPageSizeBit; }
  Entry reserved() const { return reserved_; }
  /// Bit 12 is PAT.
  Entry large_reserved() const { return reserved_ | (0xffu << 13); }
  uint64_t large_base(Entry entry) const { return base(entry) & ~uint64_t{kLargeOffset}; }

 private:
  Entry reserved_;
};

}  // namespace trapline::paging
