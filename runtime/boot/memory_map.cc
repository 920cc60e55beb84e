#include "runtime/boot/memory_map.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

MemoryMap::MemoryMap(const RamLayout& ram, std::span<const MemoryRange> special) {
  put({0, ram.low_end()});
  put({RamLayout::kHighStart, ram.high_end() - RamLayout::kHighStart});
  put({RamLayout::kAboveStart, ram.above_bytes()});
  put({kBiosData, RamLayout::kLowEnd - kBiosData, MemoryKind::kReserved});
  put({kBiosRom, RamLayout::kHighStart - kBiosRom, MemoryKind::kReserved});
  for (const MemoryRange& range : special) put(range);
}

/// Cuts the range out of what is there, then adds it.
void MemoryMap::put(const MemoryRange& range) {
  if (range.bytes == 0) return;
  std::vector<MemoryRange> kept;
  for (const MemoryRange& old : ranges_) {
    const uint64_t left = std::min(old.end(), range.address);
    const uint64_t right = std::max(old.address, range.end());
    if (old.address < left) kept.push_back({old.address, left - old.address, old.kind});
    if (right < old.end()) kept.push_back({right, old.end() - right, old.kind});
  }
  kept.push_back(range);
  std::ranges::sort(kept, {}, &MemoryRange::address);
  ranges_ = std::move(kept);
}

bool MemoryMap::usable(uint64_t address, uint64_t bytes) const {
  return std::ranges::any_of(ranges_, [&](const MemoryRange& range) {
    return range.kind == MemoryKind::kUsable && address >= range.address &&
           address <= range.end() && bytes <= range.end() - address;
  });
}

std::optional<uint64_t> MemoryMap::highest_room(uint64_t bytes, uint64_t lowest,
                                                uint64_t limit) const {
  std::optional<uint64_t> found;
  for (const MemoryRange& range : ranges_) {
    const uint64_t start = std::max(range.address, lowest);
    const uint64_t end = std::min(range.end(), limit);
    if (range.kind != MemoryKind::kUsable || end < start || end - start < bytes) continue;
    const uint64_t address = (end - bytes) & ~(kPage - 1);
    if (address >= start) found = address;
  }
  return found;
}

}  // namespace trapline
