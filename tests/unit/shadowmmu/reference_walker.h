// A second opinion on page walks, written from the manual in the plainest way and sharing nothing
// with the walker under test. It changes nothing; it says which entries hardware would write.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "shadowmmu/page_walk.h"

namespace trapline {

struct ReferenceWalk {
  bool fault = false;
  uint32_t error = 0;
  uint64_t physical = 0;
  bool user = true, writable = true, execute_disabled = false, large = false, dirty = true;
  std::vector<std::pair<uint64_t, uint64_t>> updates;  ///< Address and new value of an entry.
};

/// `read` gives a table entry of 4 or 8 bytes.
inline ReferenceWalk reference_walk(const PagingContext& context,
                                    const std::function<uint64_t(uint64_t, int)>& read,
                                    uint32_t linear, Access access, bool user_mode) {
  ReferenceWalk out;
  const bool write = access == Access::kWrite;
  const bool fetch = access == Access::kExecute;
  const auto fail = [&](uint32_t low_bits) {
    out.fault = true;
    out.error = low_bits | (write ? 2u : 0u) | (user_mode ? 4u : 0u) |
                (fetch && context.pae && context.nxe ? 16u : 0u);
    return out;
  };
  if (!context.paging) {
    out.physical = linear & context.address_mask;
    return out;
  }

  const int width = context.pae ? 8 : 4;
  uint64_t table;
  if (context.pae) {
    const uint64_t pdpte = context.pdpte[linear / 0x40000000];
    if (pdpte % 2 == 0) return fail(0);
    table = pdpte % (uint64_t{1} << 40) / 4096 * 4096;
  } else {
    table = context.root / 4096 * 4096;
  }

  // Level 2 is the directory's, level 1 the table's.
  for (int level = 2; level >= 1; --level) {
    const uint64_t reach = level == 1 ? 4096 : (context.pae ? 0x200000 : 0x400000);
    const uint64_t index = linear / reach % (context.pae ? 512 : 1024);
    const uint64_t place = (table + index * static_cast<uint64_t>(width)) & context.address_mask;
    const uint64_t entry = read(place, width);
    if ((entry & 1) == 0) return fail(0);

    const bool leaf = level == 1 || ((entry & 0x80) != 0 && (context.pae || context.pse));
    uint64_t frame;
    uint64_t reserved = 0;
    if (context.pae) {
      for (int bit = context.physical_bits; bit < 63; ++bit) reserved |= uint64_t{1} << bit;
      if (!context.nxe) reserved |= 0x8000000000000000;
      if (leaf && level == 2) reserved |= 0x1fe000;
      frame = entry & 0x000000fffffff000;
    } else {
      frame = entry & 0xfffff000;
      if (leaf && level == 2) {
        const int high_bits = context.pse36 ? context.physical_bits - 32 : 0;
        for (int bit = 13 + high_bits; bit <= 21; ++bit) reserved |= uint64_t{1} << bit;
        frame = (entry & 0xffc00000) + ((entry >> 13) % 256 << 32);
      }
    }
    if (entry & reserved) return fail(9);

    out.user = out.user && (entry & 4);
    out.writable = out.writable && (entry & 2);
    if (context.pae && context.nxe && (entry >> 63)) out.execute_disabled = true;

    if (!leaf) {
      if ((entry & 0x20) == 0) out.updates.emplace_back(place, entry | 0x20);
      table = frame;
      continue;
    }
    out.large = level == 2;
    bool allowed = true;
    if (user_mode && !out.user) allowed = false;
    if (write && !out.writable && (user_mode || context.write_protect)) allowed = false;
    if (fetch && out.execute_disabled) allowed = false;
    if (!allowed) return fail(1);
    const uint64_t marked = entry | 0x20 | (write ? 0x40 : 0);
    out.dirty = marked & 0x40;
    if (marked != entry) out.updates.emplace_back(place, marked);
    out.physical = (frame / reach * reach + linear % reach) & context.address_mask;
    break;
  }
  return out;
}

}  // namespace trapline
