// The memory map that a PC's firmware reports and boot loaders hand on: which addresses are RAM for
// the kernel, and which are something else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/boot/ram_layout.h"

namespace trapline {

/// The numbers are those of the E820 interface and of Multiboot.
enum class MemoryKind : uint32_t { kUsable = 1, kReserved = 2, kAcpiData = 3, kAcpiNvs = 4 };

struct MemoryRange {
  uint64_t address = 0;
  uint64_t bytes = 0;
  MemoryKind kind = MemoryKind::kUsable;

  constexpr uint64_t end() const { return address + bytes; }
  bool operator==(const MemoryRange&) const = default;
};

class MemoryMap {
 public:
  /// Where the BIOS keeps its data, on top of low memory, and where its ROM is.
  static constexpr uint64_t kBiosData = 0x9fc00;
  static constexpr uint64_t kBiosRom = 0xf0000;

  /// RAM without what the BIOS owns and without `special`, of which later ones win. Those may lie
  /// in RAM, which then is no longer usable, or outside of it.
  MemoryMap(const RamLayout& ram, std::span<const MemoryRange> special);

  /// By address, without overlaps.
  const std::vector<MemoryRange>& ranges() const { return ranges_; }
  bool usable(uint64_t address, uint64_t bytes) const;
  /// The highest page in usable memory that `bytes` can begin at, so that they lie at `lowest` or
  /// above and end at `limit` or below.
  std::optional<uint64_t> highest_room(uint64_t bytes, uint64_t lowest, uint64_t limit) const;

 private:
  void put(const MemoryRange& range);

  std::vector<MemoryRange> ranges_;
};

}  // namespace trapline
