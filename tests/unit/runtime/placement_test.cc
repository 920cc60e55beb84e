#include "runtime/native/placement.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

constexpr uint64_t kMicrosecond = 1'000;
constexpr uint64_t kMillisecond = 1'000'000;
constexpr int kContainer = 7;
constexpr int kOther = 8;

class PlacementTest : public testing::Test {
 protected:
  /// Stays of that length, with so much time in between.
  void stays(int count, uint64_t ran, bool due = false, uint64_t between = 20 * kMicrosecond) {
    for (int i = 0; i < count; ++i) {
      now_ += between;
      placement_.goes_on(kContainer, now_);
      now_ += ran;
      placement_.stopped(now_, ran, due);
    }
  }
  /// A look after the usual time, of which so much was spent waiting.
  void look(uint64_t in_vain, uint64_t container_in_vain = 0, int container = kContainer) {
    now_ += 60 * kMillisecond;
    waited_ += in_vain;
    container_waited_ += container_in_vain;
    ASSERT_TRUE(placement_.wants_look(now_));
    placement_.look(now_, waited_, container, container_waited_);
  }

  Placement placement_;
  uint64_t now_ = kMillisecond;
  uint64_t waited_ = 1'000 * kMillisecond;  ///< Before.
  uint64_t container_waited_ = 2'000 * kMillisecond;
};

TEST_F(PlacementTest, IsTogetherAtFirst) {
  stays(20, 50 * kMicrosecond);
  EXPECT_FALSE(placement_.apart());
  EXPECT_FALSE(placement_.wants_look(now_));
}

TEST_F(PlacementTest, IsApartWhereStaysAreShort) {
  stays(40, 50 * kMicrosecond);
  EXPECT_TRUE(placement_.apart());
}

TEST_F(PlacementTest, IsApartWhereLongStaysEndAtTheirDeadline) {
  stays(40, 4 * kMillisecond, true);
  EXPECT_TRUE(placement_.apart());
}

TEST_F(PlacementTest, IsTogetherWhereStaysAreLongAndEndAtAnyTime) {
  stays(100, 2 * kMillisecond);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, IsTogetherWhereTheThreadIsAwayForLong) {
  stays(100, 2 * kMillisecond, false, 2 * kMillisecond);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, IsTogetherWhereContainersTakeTurns) {
  for (int i = 0; i < 100; ++i) {
    now_ += 20 * kMicrosecond;
    placement_.goes_on(i % 2 ? kContainer : kOther, now_);
    now_ += kMillisecond;
    placement_.stopped(now_, kMillisecond, false);
  }
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, GoesTogetherAgainWhenTurnsAreLate) {
  stays(40, 50 * kMicrosecond);
  ASSERT_TRUE(placement_.apart());
  stays(64, 2 * kMillisecond, false, kMillisecond);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, StaysAsItIsWhereNeitherIsMuchBetter) {
  const auto some_are_late = [&] {  // Four ends of 18 turns.
    for (int i = 0; i < 64 * 9; ++i) stays(1, 2 * kMillisecond, i % 9 % 2 == 0);
  };
  some_are_late();
  EXPECT_FALSE(placement_.apart());
  placement_ = Placement();
  stays(32, 50 * kMicrosecond);
  ASSERT_TRUE(placement_.apart());
  some_are_late();
  EXPECT_TRUE(placement_.apart());
}

TEST_F(PlacementTest, LeavesACrowdedHostAndComesBackLaterAndLater) {
  uint64_t before = 0;
  for (int i = 0; i < 3; ++i) {
    while (!placement_.apart()) stays(1, 50 * kMicrosecond);
    look(0);  // The first one has nothing to compare with.
    look(10 * kMillisecond);
    EXPECT_TRUE(placement_.apart());
    look(30 * kMillisecond);
    EXPECT_FALSE(placement_.apart());
    const uint64_t left = now_;
    while (!placement_.apart()) stays(1, 50 * kMicrosecond);
    EXPECT_GT(now_ - left, 240 * kMillisecond + before);
    before = now_ - left;
  }
  for (int i = 0; i < 30; ++i) look(0);
  look(50 * kMillisecond);
  ASSERT_FALSE(placement_.apart());
  const uint64_t left = now_;
  while (!placement_.apart()) stays(1, 50 * kMicrosecond);
  EXPECT_LT(now_ - left, 300 * kMillisecond);  // It has been good for long.
}

TEST_F(PlacementTest, DoesNotCompareWhatTwoContainersWaitedFor) {
  stays(40, 50 * kMicrosecond);
  look(0);
  look(0, 900 * kMillisecond, kOther);
  EXPECT_TRUE(placement_.apart());
  look(0, 30 * kMillisecond, kOther);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, ComparesTheThreadWhicheverContainerRuns) {
  stays(40, 50 * kMicrosecond);
  look(0);
  look(30 * kMillisecond, 0, kOther);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, IsTogetherForGoodWhereTheHostDoesNotTell) {
  stays(40, 50 * kMicrosecond);
  ASSERT_TRUE(placement_.apart());
  placement_.look(now_, std::nullopt, kContainer, container_waited_);
  EXPECT_FALSE(placement_.apart());
  now_ += 100'000 * kMillisecond;
  stays(100, 50 * kMicrosecond);
  EXPECT_FALSE(placement_.apart());
}

TEST_F(PlacementTest, IsTogetherForAWhileWhereAContainerIsGone) {
  stays(40, 50 * kMicrosecond);
  ASSERT_TRUE(placement_.apart());
  placement_.look(now_, waited_, kContainer, std::nullopt);
  EXPECT_FALSE(placement_.apart());
  stays(100, 50 * kMicrosecond);
  EXPECT_FALSE(placement_.apart());
  now_ += 250 * kMillisecond;
  stays(100, 50 * kMicrosecond);
  EXPECT_TRUE(placement_.apart());
}

TEST_F(PlacementTest, TheThreadLooksForLongOnlyAfterWhatWasShort) {
  EXPECT_EQ(placement_.thread_looks(), 0u);
  stays(40, 50 * kMicrosecond);
  EXPECT_EQ(placement_.thread_looks(), Placement::kThreadLooks);
  stays(1, 4 * kMillisecond, true);
  EXPECT_EQ(placement_.thread_looks(), Placement::kBriefLooks);
}

}  // namespace
}  // namespace trapline
