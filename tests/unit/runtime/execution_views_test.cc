// Which entry tables count as used.
#include "runtime/execution_views.h"

#include <gtest/gtest.h>

#include <memory>

namespace trapline {
namespace {

constexpr uint64_t kEmptySlot = 0x100000000000;

class ExecutionViewsTest : public ::testing::Test {
 protected:
  ExecutionViewsTest() { EXPECT_TRUE(views_.make_empty_table(kEmptySlot, 0x8000).ok()); }

  static std::unique_ptr<EntryTable> table(uint32_t page) {
    auto made = std::make_unique<EntryTable>(CodeEntry{1, 2});
    made->page = page;
    return made;
  }

  ExecutionViews views_{2};
};

TEST_F(ExecutionViewsTest, ATableIsUsedUntilTheMappingGoes) {
  const auto code = table(0x400);
  ExecutionView& one = views_.get(1, 0);
  ExecutionView& two = views_.get(2, 0);
  EXPECT_TRUE(views_.set(one, *code));
  EXPECT_FALSE(views_.set(one, *code));
  EXPECT_EQ(one.table[0x400], slot_of(*code));
  EXPECT_TRUE(views_.set(two, *code));
  EXPECT_EQ(code->uses, 2u);
  views_.drop_page(1, 0x400);
  views_.drop_page(1, 0x400);
  views_.drop_page(2, 0x401);
  EXPECT_EQ(code->uses, 1u);
  EXPECT_EQ(one.table[0x400], kEmptySlot - 0x400 * 0x8000);
  views_.drop_page(2, 0x400);
  EXPECT_EQ(code->uses, 0u);
}

TEST_F(ExecutionViewsTest, AnotherTableTakesItsPlace) {
  const auto code = table(0x400);
  const auto other = table(0x400);
  ExecutionView& view = views_.get(1, 0);
  views_.set(view, *code);
  EXPECT_TRUE(views_.set(view, *other));
  EXPECT_EQ(code->uses, 0u);
  EXPECT_EQ(other->uses, 1u);
}

TEST_F(ExecutionViewsTest, WhatIsForgottenStaysUsed) {
  const auto code = table(0x400);
  views_.set(views_.get(1, 0), *code);
  views_.get(2, 0);
  ExecutionView& third = views_.get(3, 0);  // The first one's.
  EXPECT_NE(third.table[0x400], slot_of(*code));
  EXPECT_EQ(code->uses, 1u);
  views_.set(third, *code);
  views_.drop_view(3);
  EXPECT_NE(third.table[0x400], slot_of(*code));
  EXPECT_EQ(code->uses, 2u);
}

}  // namespace
}  // namespace trapline
