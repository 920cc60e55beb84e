#include "runtime/native/native_space.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

#include "tests/unit/runtime/container_fixture.h"

namespace trapline {
namespace {

class NativeSpaceTest : public ContainerFixture {
 protected:
  void SetUp() override {
    ContainerFixture::SetUp();
    ASSERT_TRUE(container_);
    space_ = NativeSpace::make(std::move(container_), 1000, counters_);
    ASSERT_TRUE(space_);
  }

  NativeMapCounters counters_;
  std::unique_ptr<NativeSpace> space_;
};

TEST_F(NativeSpaceTest, OneSegmentHasOneSelector) {
  const uint16_t first = space_->selector_of(0x1000, 0xfff);
  EXPECT_NE(space_->selector_of(0x2000, 0xfff), first);
  EXPECT_EQ(space_->selector_of(0x1000, 0xfff), first);
}

TEST_F(NativeSpaceTest, ASelectorOutlivesTheNextOne) {
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint32_t old = i / 200;  // For longer than it takes to replace all.
    const uint16_t fs = space_->selector_of(old << 12, 0xfff);
    const uint16_t gs = space_->selector_of((i + 1000) << 12, 0xfff);
    EXPECT_NE(fs, gs) << i;
    EXPECT_EQ(space_->selector_of(old << 12, 0xfff), fs) << i;
  }
  EXPECT_TRUE(space_->container().flush());
}

TEST_F(NativeSpaceTest, WatchesAFewPlacesAtOnce) {
  const std::array<uint16_t, 2> two = {0x10, 0x20};
  const auto map = [&](uint32_t page) {
    space_->map(page, 1, native_access::kRead | native_access::kExecute, 0);
  };
  if (!space_->watch(0x100, two)) GTEST_SKIP() << "the host refuses";
  map(0x100);
  EXPECT_TRUE(space_->watch(0x101, two));
  map(0x101);
  EXPECT_TRUE(space_->watch(0x102, {}));
  // The same places, other code in the same page, and a page that cannot be executed any more.
  EXPECT_TRUE(space_->watch(0x100, two));
  const std::array<uint16_t, 2> others = {0x20, 0x30};
  EXPECT_TRUE(space_->watch(0x100, others));
  space_->remove(0x101);
  EXPECT_TRUE(space_->watch(0x102, two));
  map(0x102);
  EXPECT_NE(space_->rights(0x100), 0);
  EXPECT_FALSE(space_->unsettled());
  const std::array<uint16_t, 5> too_many = {0x10, 0x20, 0x30, 0x40, 0x50};
  EXPECT_FALSE(space_->watch(0x103, too_many));
  space_->become(1);
  EXPECT_TRUE(space_->watch(0x103, two));
}

TEST_F(NativeSpaceTest, WatchesOtherPagesThanBeforeButNotAllTheTime) {
  const std::array<uint16_t, 1> one = {0x10};
  if (!space_->watch(0x100, one)) GTEST_SKIP() << "the host refuses";
  const auto enter = [&](uint32_t page) {
    const bool watched = space_->watch(page, one);
    if (watched) space_->map(page, 1, native_access::kRead | native_access::kExecute, 0);
    return watched;
  };
  const auto executable = [&] {
    int pages = 0;
    for (uint32_t page = 0x100; page < 0x200; ++page) pages += space_->rights(page) != 0;
    return pages;
  };
  for (uint32_t page = 0x100; page < 0x108; ++page) {
    EXPECT_TRUE(enter(page));
    EXPECT_LE(executable(), 4);
  }
  uint32_t page = 0x108;
  while (page < 0x180 && enter(page)) ++page;
  EXPECT_LT(page, 0x180u);
  EXPECT_EQ(executable(), 4);
  space_->add_time(10'000'000);
  EXPECT_TRUE(enter(0x1f0));
  EXPECT_EQ(executable(), 4);
}

TEST_F(NativeSpaceTest, PagesThatComeAndGoAreNotRememberedForEver) {
  space_->map(0x80, 1, native_access::kRead | native_access::kWrite, 0);
  for (uint32_t i = 0; i < 10'000; ++i) {
    space_->set_translated(0x200 + i % 2, true);
    space_->set_translated(0x200 + i % 2, false);
    space_->set_translated(0x10000 + i, true);
    space_->set_translated(0x10000 + i, false);
  }
  EXPECT_LE(space_->touched(), 2048u);
  EXPECT_FALSE(space_->may_patch(0x100));
  space_->become(1);
  EXPECT_EQ(space_->rights(0x80), 0);
  for (uint32_t i = 0; i < 10'000; ++i) space_->set_translated(0x10000 + i, true);
  EXPECT_EQ(space_->touched(), 10'000u);
  space_->become(2);
  for (uint32_t i = 0; i < 10'000; ++i) ASSERT_FALSE(space_->translated(0x10000 + i));
}

TEST_F(NativeSpaceTest, FlatSegmentsStopAtTheHighestPatchedPage) {
  const std::array<uint16_t, 2> places = {0x10, 0x20};
  EXPECT_EQ(space_->flat_selectors().code, TRAPLINE_FLAT_CS);
  EXPECT_EQ(space_->flat_selectors().data, TRAPLINE_FLAT_DATA);
  space_->map_patched(0x100, 0, places);
  const auto with = space_->flat_selectors();
  EXPECT_NE(with.code, TRAPLINE_FLAT_CS);
  EXPECT_NE(with.data, TRAPLINE_FLAT_DATA);
  EXPECT_TRUE(NativeSpace::is_flat_code(with.code));
  EXPECT_TRUE(space_->patched_at(0x100020));
  EXPECT_FALSE(space_->patched_at(0x100021));
  EXPECT_FALSE(space_->patched_at(0x101020));
  space_->remove(0x100);
  EXPECT_FALSE(space_->patched_at(0x100020));
  EXPECT_EQ(space_->flat_selectors().code, TRAPLINE_FLAT_CS);
  space_->map_patched(0x100, 0, places);
  space_->become(1);
  EXPECT_EQ(space_->flat_selectors().data, TRAPLINE_FLAT_DATA);
  EXPECT_TRUE(space_->container().flush());
}

TEST_F(NativeSpaceTest, CodeAboveWritableDataIsNotPatched) {
  space_->map(0x100, 1, native_access::kRead | native_access::kWrite, 0);
  EXPECT_TRUE(space_->may_patch(0xff));
  EXPECT_FALSE(space_->may_patch(0x101));
  space_->remove_writing(0x100);
  EXPECT_TRUE(space_->may_patch(0x101));
}

TEST_F(NativeSpaceTest, StopsThatAreTooFrequentEndThePatches) {
  const std::array<uint16_t, 1> places = {0x10};
  space_->map_patched(0xf0, 0, places);
  space_->map_patched(0x100, 0, places);
  for (int i = 0; i < 1000; ++i) {
    space_->add_time(1'000'000);
    ASSERT_TRUE(space_->afford_stop()) << i;
  }
  int stops = 0;
  while (space_->afford_stop()) ++stops;
  EXPECT_EQ(stops, 63);
  space_->give_up_patches();
  EXPECT_TRUE(space_->patched(0xf0));  // It lowers the floor, and may do.
  EXPECT_TRUE(space_->may_patch(0xff));
  EXPECT_TRUE(space_->afford_stop());
  EXPECT_TRUE(space_->translated(0x100));
  EXPECT_EQ(space_->rights(0x100), 0);
  EXPECT_FALSE(space_->may_patch(0x100));
  space_->become(1);
  EXPECT_TRUE(space_->may_patch(0x100));
  EXPECT_TRUE(space_->afford_stop());
}

}  // namespace
}  // namespace trapline
