#include "runtime/native/policy.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint32_t kView = 7;

class Policy : public testing::Test {
 protected:
  /// Interrupts every 4 ms, with so many entries to the kernel in between.
  void ticks(int count, uint64_t entries_between, uint32_t view = kView) {
    for (int i = 0; i < count; ++i) {
      now_ += 4 * kMillisecond;
      entries_ += entries_between;
      policy_.look(view, now_, entries_);
    }
  }
  void stays(int count, uint64_t time, NativeCause cause = NativeCause::kInstruction,
             uint64_t cost = 12'000) {
    for (int i = 0; i < count; ++i) {
      now_ += time;
      policy_.stayed(kView, now_, time, cost, cause);
    }
  }

  NativePolicy policy_;
  uint64_t now_ = kMillisecond;
  uint64_t entries_ = 0;
};

TEST_F(Policy, PromotesWhatComputes) {
  ticks(2, 1);
  EXPECT_FALSE(policy_.native(kView));
  ticks(1, 1);
  EXPECT_TRUE(policy_.native(kView));
  EXPECT_FALSE(policy_.native(kView + 1));
  EXPECT_EQ(policy_.counters().promotions, 1u);
}

TEST_F(Policy, LeavesSystemCallsAlone) {
  ticks(100, 1000);
  EXPECT_FALSE(policy_.native(kView));
}

TEST_F(Policy, LeavesProcessesThatTakeTurnsAlone) {
  for (int i = 0; i < 50; ++i) ticks(1, 1, kView + static_cast<uint32_t>(i) % 2);
  EXPECT_FALSE(policy_.native(kView));
}

TEST_F(Policy, DemotesWhatHasManyEventsButNotWhileItWarmsUp) {
  ticks(3, 1);
  stays(300, 1'000);
  EXPECT_TRUE(policy_.native(kView));
  stays(1000, 1'000);
  EXPECT_FALSE(policy_.native(kView));
  EXPECT_EQ(policy_.counters().demotions, 1u);
}

TEST_F(Policy, KeepsWhatComputesBetweenEvents) {
  ticks(3, 1);
  stays(300, 1'000);
  stays(10'000, 150'000);
  EXPECT_TRUE(policy_.native(kView));
  EXPECT_EQ(policy_.counters().demotions, 0u);
}

TEST_F(Policy, KeepsWhatComputesLongerThanHandingOverTakes) {
  ticks(3, 1);
  stays(1, 2'000);
  stays(10'000, 60'000);
  EXPECT_TRUE(policy_.native(kView));
}

/// With two processors handing over costs next to nothing, but a signal is part of each stay.
TEST_F(Policy, TakesNoSignalForCodeThatComputes) {
  ticks(3, 1);
  stays(200, 4'000, NativeCause::kSystemCall, 500);
  EXPECT_TRUE(policy_.native(kView));
  stays(2'000, 4'100, NativeCause::kSystemCall, 500);
  EXPECT_FALSE(policy_.native(kView));
}

/// A kick may come at once, and needs no fault.
TEST_F(Policy, TakesNoFaultForCodeThatComputesWhereKicksAreCheaper) {
  ticks(3, 1);
  for (int i = 0; i < 100; ++i) {
    stays(1, 500, NativeCause::kKick, 500);
    stays(10, 10'000, NativeCause::kTranslated, 500);
  }
  EXPECT_FALSE(policy_.native(kView));
}

TEST_F(Policy, DoesNotJudgeByOneShortStayForEver) {
  ticks(3, 1);
  stays(1, 500, NativeCause::kTranslated, 500);
  stays(1'000, 10'000, NativeCause::kTranslated, 500);
  EXPECT_FALSE(policy_.native(kView));
}

TEST_F(Policy, TakesNoLongStayForASignal) {
  ticks(3, 1);
  stays(1'000, 4'000'000, NativeCause::kKick, 50'000);
  EXPECT_TRUE(policy_.native(kView));
  EXPECT_EQ(policy_.counters().demotions, 0u);
}

TEST_F(Policy, LetsItsPagesBeMapped) {
  ticks(3, 1);
  stays(500, 2'000, NativeCause::kMapping);
  stays(500, 2'000, NativeCause::kCode);
  EXPECT_TRUE(policy_.native(kView));
  stays(5000, 2'000, NativeCause::kMapping);  // Again and again the same ones.
  EXPECT_FALSE(policy_.native(kView));
}

TEST_F(Policy, LetsMoreBeInvestedAfterALongWait) {
  int first = 0;
  int before = 0;
  for (int i = 0; i < 8; ++i) {
    while (!policy_.native(kView)) ticks(1, 1);
    int events = 0;
    for (; policy_.native(kView); ++events) stays(1, 1'000);
    EXPECT_GE(events, before);
    if (i == 0) first = events;
    before = events;
  }
  EXPECT_GT(before, 3 * first);
  EXPECT_LT(before, 8 * first);  // After 128 times the wait.
}

TEST_F(Policy, LeavesBurstsOfPageFaultsToTranslatedCode) {
  ticks(3, 1);
  stays(10, 5'000, NativeCause::kReflected);
  stays(1, 50'000, NativeCause::kReflected);
  stays(10, 5'000, NativeCause::kReflected);
  EXPECT_TRUE(policy_.native(kView));
  stays(10, 5'000, NativeCause::kReflected);
  EXPECT_FALSE(policy_.native(kView));
  EXPECT_EQ(policy_.counters().rests, 1u);
  EXPECT_EQ(policy_.counters().demotions, 0u);
  EXPECT_FALSE(policy_.native(kView + 1));
  EXPECT_FALSE(policy_.native(kView));
  ticks(1, 1000);
  EXPECT_TRUE(policy_.native(kView));
}

TEST_F(Policy, WaitsLongerEachTime) {
  uint64_t longest = 0;
  for (int i = 0; i < 8; ++i) {
    const uint64_t begin = now_;
    while (!policy_.native(kView)) ticks(1, 1);
    const uint64_t waited = now_ - begin;
    if (i > 1) {
      EXPECT_GT(waited, longest);
    }
    longest = waited;
    while (policy_.native(kView)) stays(1, 5'000);
  }
  EXPECT_GT(longest, 1000 * kMillisecond);
  EXPECT_LT(longest, 10'000 * kMillisecond);
}

TEST_F(Policy, ForgetsAViewThatIsGone) {
  ticks(3, 1);
  policy_.forget(kView);
  EXPECT_FALSE(policy_.native(kView));
}

}  // namespace
}  // namespace trapline
