// Stores and DMA with every consequence.
#include "tests/unit/shadowmmu/mmu_fixture.h"

namespace trapline {
namespace {

using namespace entry;

class StoreTest : public MmuTest {};

TEST_F(StoreTest, EverySizeReadsBackAlignedAndNot) {
  for (const uint32_t size : {1u, 2u, 4u, 8u}) {
    for (uint32_t offset = 0; offset < 8; ++offset) {
      const uint64_t value = 0x1122334455667788u >> (64 - 8 * size);
      mmu.store({kData + 64 + offset}, size, 0xffffffffffffffffu);
      mmu.store({kData + 64 + offset}, size, 0x1122334455667788u >> (64 - 8 * size));
      EXPECT_EQ(mmu.load({kData + 64 + offset}, size), value);
      EXPECT_EQ(guest.get(kData + 64 + offset, size), value);
    }
  }
  mmu.store({kData + kPageSize - 8}, 8, 42);
  EXPECT_EQ(mmu.load({kData + kPageSize - 8}, 8), 42u);
}

TEST_F(StoreTest, CodeIsReportedAfterItChanged) {
  struct Reader final : MmuObserver {
    void mapping_dropped(View&, uint32_t) override {}
    void view_dropped(View&) override {}
    void code_written(Physical address, uint32_t bytes) override {
      std::byte now[8];
      memory->read(address, std::span(now, bytes));
      std::memcpy(&value, now, bytes);
      // What a translator does when nothing is left of the frame.
      mmu->allow_writes(address.frame(), denial::kCode);
    }
    PhysicalMemory* memory = nullptr;
    ShadowMmu* mmu = nullptr;
    uint64_t value = 0;
  } reader;
  ShadowMmu other(guest.memory(), reader, {});
  reader.memory = &guest.memory();
  reader.mmu = &other;
  other.deny_writes(kData >> kPageShift, denial::kCode);
  other.store({kData + 12}, 4, 0xcafef00d);
  EXPECT_EQ(reader.value, 0xcafef00du);
  reader.value = 0;
  other.store({kData + 12}, 4, 1);
  EXPECT_EQ(reader.value, 0u) << "the frame is no code any more";
}

TEST_F(StoreTest, OnlyCodeFramesAreReported) {
  mmu.deny_writes(kData >> kPageShift, denial::kCode);
  mmu.deny_writes((kData >> kPageShift) + 1, denial::kWatch);
  mmu.store({kData + 0x10}, 2, 1);
  mmu.store({kData + 0x1010}, 2, 1);
  mmu.store({kData + 0x2010}, 2, 1);
  ASSERT_EQ(seen.code.size(), 1u);
  EXPECT_EQ(seen.code[0], std::pair(uint64_t{kData + 0x10}, 2u));
}

TEST_F(StoreTest, AFrameMayBeTableAndCode) {
  map_two_level(kDirectory, 2, kAll);
  View& view = activate(kDirectory);
  resolve(view, kBase, Access::kRead);
  mmu.deny_writes(kTable >> kPageShift, denial::kCode);
  mmu.store({kTable}, 4, 0);
  EXPECT_EQ(view.read_entry(kBasePage), 0u);
  EXPECT_FALSE(traced(kTable));
  EXPECT_EQ(guest.memory().frame(kTable >> kPageShift).denials, denial::kCode);
  ASSERT_EQ(seen.code.size(), 1u);
  EXPECT_EQ(seen.code[0], std::pair(uint64_t{kTable}, 4u));
}

TEST_F(StoreTest, DmaAcrossFramesFiresEverything) {
  map_two_level(kDirectory, 1024, kAll);
  View& view = activate(kDirectory);
  for (uint32_t i = 0; i < 1024; ++i) resolve(view, kBase + i * kPageSize, Access::kRead);
  mmu.deny_writes((kTable >> kPageShift) + 1, denial::kCode);
  std::vector<std::byte> bytes(3 * kPageSize, std::byte{0});
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251);
  mmu.dma_write({kTable + 2002}, bytes);  // From the middle of entry 500 on.
  std::vector<std::byte> back(bytes.size());
  mmu.dma_read({kTable + 2002}, back);
  EXPECT_EQ(back, bytes);
  EXPECT_NE(view.read_entry(kBasePage + 499), 0u);
  for (uint32_t i = 500; i < 1024; ++i) EXPECT_EQ(view.read_entry(kBasePage + i), 0u) << i;
  ASSERT_EQ(seen.code.size(), 1u);
  EXPECT_EQ(seen.code[0], std::pair(uint64_t{kTable + kPageSize}, kPageSize));
  EXPECT_EQ(mmu.counters().traced_writes, 1u);
}

TEST_F(StoreTest, DmaThatWritesTheSameAgainDropsNothing) {
  map_two_level(kDirectory, 4, kAll);
  View& view = activate(kDirectory);
  resolve(view, kBase, Access::kWrite);
  std::vector<std::byte> bytes(kPageSize);
  mmu.dma_read({kTable}, bytes);
  const uint64_t removals = mmu.removals();
  mmu.dma_write({kTable}, bytes);
  EXPECT_EQ(mmu.removals(), removals);
}

TEST_F(StoreTest, DmaPastTheEndOfRamIsLost) {
  std::vector<std::byte> bytes(2 * kPageSize, std::byte{5});
  const uint64_t end = guest.memory().ram_end().value;
  mmu.dma_write({end - kPageSize}, bytes);
  mmu.dma_read({end - kPageSize}, bytes);
  EXPECT_EQ(bytes[kPageSize - 1], std::byte{5});
  EXPECT_EQ(bytes[kPageSize], std::byte{0xff});
}

}  // namespace
}  // namespace trapline
