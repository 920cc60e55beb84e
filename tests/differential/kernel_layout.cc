#include "tests/differential/kernel_layout.h"

#include <cstring>

#include "tests/differential/assembler.h"

namespace trapline::differential::kernel {
namespace {

constexpr uint32_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80;
constexpr uint32_t kAccessed = 0x20, kDirty = 0x40;

class Builder {
 public:
  Builder(Memory& memory, bool pae) : memory_(memory), pae_(pae) {}

  void build() {
    memory_.fill(0);
    build_tables();
    build_descriptors();
    for (uint32_t i = kFirstDataFrame * kPageSize; i < kMemoryBytes; ++i)
      memory_[i] = static_cast<uint8_t>(i * 7 + (i >> 8) * 13);
  }

 private:
  void put32(uint32_t address, uint32_t value) { std::memcpy(&memory_[address], &value, 4); }
  /// The upper half of a PAE entry stays 0.
  void put_entry(uint32_t table, uint32_t index, uint32_t value) {
    put32(table + index * (pae_ ? 8 : 4), value);
  }

  void build_tables() {
    for (uint32_t frame = 1; frame < kFrames; ++frame) {
      const uint32_t address = frame * kPageSize;
      const bool user = address == kUserCode || (address | 0xf00) == kUserStackTop ||
                        (frame >= kFirstDataFrame && frame % 2 == 0);
      const bool writable = address != kUserCode;
      put_entry(kLowTable, frame,
                address | kPresent | kAccessed | kDirty | (user ? kUser : 0) |
                    (writable ? kWritable : 0));
    }
    for (uint32_t space = 0; space < 2; ++space) {
      const uint32_t directory = space ? kDirectoryB : kDirectoryA;
      const uint32_t play = space ? kPlayTableB : kPlayTableA;
      const uint32_t rights = kPresent | kWritable | kUser;
      put_entry(directory, 0, kLowTable | rights);
      put_entry(directory, pae_ ? kPlayBase >> 21 : kPlayBase >> 22, play | rights);
      put32(large_entry(space, pae_), kLarge | rights);
      if (pae_) put32(space ? kPdptB : kPdptA, directory | kPresent);
      for (uint32_t page = 0; page < kPlayPages; ++page) {
        const uint32_t frame = kFirstDataFrame + (page + 3 * space) % kDataFrames;
        put_entry(play, page, frame * kPageSize | (page * 5 + space) % 8);
      }
    }
  }

  void put_descriptor(uint32_t address, uint32_t base, uint32_t limit, uint32_t attributes) {
    put32(address, (limit & 0xffff) | base << 16);
    put32(address + 4,
          (base >> 16 & 0xff) | attributes << 8 | (limit & 0xf0000) | (base & 0xff000000));
  }

  void build_descriptors() {
    // Code segments and the user's stack are marked as accessed: see unicorn_deviations().
    // Attributes: the second dword from bit 8 on, the limit's nibble left out.
    constexpr uint32_t kFlat = 0xfffff;
    put_descriptor(kGdt + kCode0, 0, kFlat, 0xc09b);
    put_descriptor(kGdt + kData0, 0, kFlat, 0xc092);
    put_descriptor(kGdt + 0x18, 0, kFlat, 0xc0fb);
    put_descriptor(kGdt + 0x20, 0, kFlat, 0xc0f3);
    put_descriptor(kGdt + kConforming, 0, kFlat, 0xc09f);
    put_descriptor(kGdt + 0x30, 0, kFlat, 0xc012);  // data, not present
    put_descriptor(kGdt + kBased, kBasedBase, kFlat, 0xc092);
    put_descriptor(kGdt + 0x40, 0xe000, 0x1fff, 0x4092);  // limited
    put_descriptor(kGdt + 0x48, 0, kFlat, 0xc090);        // read-only
    put_descriptor(kGdt + 0x50, 0, kFlat, 0xc099);        // execute-only
    put_descriptor(kGdt + kTssSelector, kTss, 0x67, 0x0089);
    put_descriptor(kGdt + kLdtSelector, kLdt, 0x1f, 0x0082);
    put_descriptor(kGdt + 0x68, 0, kFlat, 0xc01b);  // code, not present
    put_descriptor(kGdt + 0x70, 0, kFlat, 0xc0b2);  // data, DPL 1
    put_descriptor(kGdt + 0x78, 0x1000, kFlat, 0xc09b);
    put_descriptor(kLdt, 0, kFlat, 0xc092);
    put_descriptor(kLdt + 8, kBasedBase, kFlat, 0xc0f2);
    put_descriptor(kLdt + 16, 0, kFlat, 0xc012);
    put_descriptor(kLdt + 24, 0, kFlat, 0xc09b);
    const uint16_t limit = kGdtEntries * 8 - 1;
    std::memcpy(&memory_[kGdtPointer], &limit, 2);
    put32(kGdtPointer + 2, kGdt);
  }

  Memory& memory_;
  const bool pae_;
};

}  // namespace

void build_memory(Memory& memory, bool pae) {
  Builder(memory, pae).build();
  const std::vector<uint8_t> code = prologue(pae);
  std::memcpy(&memory[kPrologue], code.data(), code.size());
  const std::array<uint8_t, 4> flush = {0x0f, 0x22, 0xd8, 0xcc};  // mov cr3, eax; int3
  std::memcpy(&memory[kFlush], flush.data(), flush.size());
}

std::vector<uint8_t> prologue(bool pae) {
  Assembler a(kPrologue);
  a.put({0x0f, 0x01, 0x15});  // lgdt
  a.put32(kGdtPointer);
  a.put({0xea});
  a.put32(a.here() + 6);
  a.put16(kCode0);
  a.move(0, kData0);
  for (const uint8_t segment : {0xd0, 0xd8, 0xc0, 0xe0, 0xe8}) a.put({0x8e, segment});
  a.move(0, pae ? 0x20u : 0x10u);
  a.put({0x0f, 0x22, 0xe0});  // mov cr4, eax
  a.move(0, root(0, pae));
  a.put({0x0f, 0x22, 0xd8});
  a.move(0, kCr0);
  a.put({0x0f, 0x22, 0xc0});
  a.put({0xeb, 0});
  a.breakpoint();
  return a.bytes();
}

uint32_t play_entry(uint32_t space, uint32_t page, bool pae) {
  return (space ? kPlayTableB : kPlayTableA) + page * (pae ? 8 : 4);
}

uint32_t large_entry(uint32_t space, bool pae) {
  return (space ? kDirectoryB : kDirectoryA) +
         (pae ? (kLargeBase >> 21) * 8 : (kLargeBase >> 22) * 4);
}

uint32_t root(uint32_t space, bool pae) {
  if (pae) return space ? kPdptB : kPdptA;
  return space ? kDirectoryB : kDirectoryA;
}

}  // namespace trapline::differential::kernel
