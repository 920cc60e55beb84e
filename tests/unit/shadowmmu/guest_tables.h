// What the tests of this folder share: guest page tables written by hand.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>

#include "shadowmmu/page_walk.h"
#include "shadowmmu/physical_memory.h"

namespace trapline {

/// Bits of entries, spelled again so that the tests do not lean on what they test.
namespace entry {
inline constexpr uint64_t kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100;
inline constexpr uint64_t kNx = uint64_t{1} << 63;
inline constexpr uint64_t kAll = kP | kW | kU;
}  // namespace entry

class GuestTables {
 public:
  explicit GuestTables(uint64_t bytes = 16u << 20)
      : memory_(PhysicalMemory::create(bytes).take()) {}

  PhysicalMemory& memory() { return *memory_; }

  uint64_t get(uint64_t address, size_t size) const {
    uint64_t value = 0;
    memory_->read({address}, std::as_writable_bytes(std::span(&value, 1)).first(size));
    return value;
  }
  void put(uint64_t address, size_t size, uint64_t value) {
    memory_->write({address}, std::as_bytes(std::span(&value, 1)).first(size));
  }
  uint32_t get32(uint64_t address) const { return static_cast<uint32_t>(get(address, 4)); }
  uint64_t get64(uint64_t address) const { return get(address, 8); }
  void put32(uint64_t address, uint64_t value) { put(address, 4, value); }
  void put64(uint64_t address, uint64_t value) { put(address, 8, value); }

  static PagingContext two_level(uint32_t root) {
    PagingContext context;
    context.paging = context.pse = context.write_protect = true;
    context.root = root;
    return context;
  }
  /// PAE with the four directories behind each other from `directories` on.
  static PagingContext pae(uint64_t directories) {
    PagingContext context;
    context.paging = context.pae = context.write_protect = context.nxe = true;
    for (uint64_t i = 0; i < 4; ++i) context.pdpte[i] = (directories + i * kPageSize) | entry::kP;
    return context;
  }

 private:
  std::unique_ptr<PhysicalMemory> memory_;
};

}  // namespace trapline
