#include "shadowmmu/adjacent_pages.h"

#include <gtest/gtest.h>

#include <memory>

#include "shadowmmu/physical_memory.h"
#include "vcpu/address.h"

namespace trapline {
namespace {

using State = AdjacentPages::State;

class AdjacentPagesTest : public testing::Test {
 protected:
  static constexpr uint64_t kPages = 256;

  AdjacentPages::Found find(uint64_t first, uint64_t second) {
    return pages_.find(first * kPageSize, second * kPageSize);
  }
  AdjacentPages::Found find_often(uint64_t first, uint64_t second) {
    for (uint32_t i = 1; i < AdjacentPages::kOften; ++i)
      EXPECT_EQ(find(first, second).state, State::kNotYet);
    return find(first, second);
  }
  std::byte& byte_of(uint64_t page, uint64_t offset) { return memory_->frame(page).host[offset]; }

  std::unique_ptr<PhysicalMemory> memory_ = PhysicalMemory::create(kPages * kPageSize).take();
  AdjacentPages pages_{memory_->ram_file()};
};

TEST_F(AdjacentPagesTest, ArePagesOfRam) {
  const AdjacentPages::Found found = find_often(7, 3);
  ASSERT_EQ(found.state, State::kNew);
  byte_of(7, kPageSize - 1) = std::byte{0x12};
  byte_of(3, 0) = std::byte{0x34};
  EXPECT_EQ(found.host[kPageSize - 1], std::byte{0x12});
  EXPECT_EQ(found.host[kPageSize], std::byte{0x34});
  found.host[kPageSize + 5] = std::byte{0x56};
  EXPECT_EQ(byte_of(3, 5), std::byte{0x56});
  EXPECT_EQ(find(7, 3).state, State::kThere);
  EXPECT_EQ(find(7, 3).host, found.host);
  EXPECT_EQ(find(3, 7).state, State::kNotYet);
  memory_->clear();
  EXPECT_EQ(found.host[kPageSize], std::byte{0});
}

TEST_F(AdjacentPagesTest, ThoseUnusedLongestAreForgotten) {
  for (uint64_t i = 0; i < AdjacentPages::kPairs; ++i)
    EXPECT_EQ(find_often(2 * i, 2 * i + 2).state, State::kNew);
  EXPECT_EQ(find(0, 2).state, State::kThere);
  const AdjacentPages::Found other = find_often(200, 100);
  ASSERT_EQ(other.state, State::kNew);
  byte_of(100, 1) = std::byte{0x77};
  EXPECT_EQ(other.host[kPageSize + 1], std::byte{0x77});
  EXPECT_EQ(find(0, 2).state, State::kThere);
  EXPECT_EQ(find(2, 4).state, State::kNotYet);
}

TEST_F(AdjacentPagesTest, ManyThatAreAskedForSeldomAreNeverThere) {
  for (int round = 0; round < 10; ++round)
    for (uint64_t i = 0; i <= AdjacentPages::kPairs; ++i)
      EXPECT_EQ(find(2 * i, 2 * i + 2).state, State::kNotYet);
}

TEST_F(AdjacentPagesTest, TheHostMayRefuse) {
  AdjacentPages none(-1);
  for (uint32_t i = 1; i < AdjacentPages::kOften; ++i) none.find(0, 2 * kPageSize);
  EXPECT_EQ(none.find(0, 2 * kPageSize).state, State::kFailed);
}

}  // namespace
}  // namespace trapline
