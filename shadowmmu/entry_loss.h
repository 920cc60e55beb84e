// What a change of a page table's or directory's entry takes from the pages derived through it.
#pragma once

#include <cstdint>

#include "shadowmmu/paging_bits.h"

namespace trapline::paging {

enum class Loss : uint8_t { kNothing, kWriting, kEverything };

// Bits of a present entry that may come without taking anything away; NX is one that may go.
inline constexpr uint32_t kGains = kWritable | kUser | kAccessed | kDirty;
inline constexpr uint32_t kMeaningless = kWriteThrough | kCacheDisable | kGlobal | kAvailable;

template <typename Entry>
Loss loss(Entry before, Entry after, Entry ignored) {
  Entry changed = static_cast<Entry>((before ^ after) & ~ignored);
  changed &= static_cast<Entry>(~(after & kGains));
  changed &= static_cast<Entry>(~(before & kNoExecute));
  if (changed == 0) return Loss::kNothing;
  return (changed & ~Entry{kWritable | kDirty}) == 0 ? Loss::kWriting : Loss::kEverything;
}

template <typename Layout>
Loss table_loss(typename Layout::Entry before, typename Layout::Entry after) {
  return loss<typename Layout::Entry>(before, after, kMeaningless | kPageSizeBit);
}

template <typename Layout>
Loss directory_loss(const Layout& layout, typename Layout::Entry before,
                    typename Layout::Entry after) {
  using Entry = typename Layout::Entry;
  if (!layout.large(before)) {
    const Loss lost = loss<Entry>(before, after, kMeaningless | kDirty);
    return lost == Loss::kNothing ? lost : Loss::kEverything;
  }
  return loss<Entry>(before, after, kMeaningless | kLargePat);
}

}  // namespace trapline::paging
