#include "runtime/kick_timer.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "runtime/host_ticks.h"

namespace trapline {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMillisecond;
constexpr int kSignal = SIGUSR2;

KickTimer* timer_under_test = nullptr;
volatile int early = 0;
volatile int kicks = 0;
volatile Kick outcome = Kick::kNoticed;
/// Until it goes off again after a kick, at least.
volatile uint64_t shortest_pause = 0;

/// Until it goes off; 0: it does not.
uint64_t left(const KickTimer& timer) {
  itimerspec spec{};
  timer_gettime(timer.id(), &spec);
  return static_cast<uint64_t>(spec.it_value.tv_sec) * kSecond +
         static_cast<uint64_t>(spec.it_value.tv_nsec);
}

void on_signal(int) {
  if (timer_under_test->too_early()) {
    early = early + 1;
  } else {
    kicks = kicks + 1;
    timer_under_test->kicked(outcome);
    if (const uint64_t now = left(*timer_under_test); now < shortest_pause) shortest_pause = now;
  }
}

class KickTimerTest : public testing::Test {
 protected:
  void SetUp() override {
    early = 0;
    kicks = 0;
    outcome = Kick::kNoticed;
    shortest_pause = ~uint64_t{0};
    timer_under_test = &timer_;
    signal(kSignal, on_signal);
    ASSERT_TRUE(timer_.make(kSignal));
  }
  void TearDown() override {
    timer_.disarm();
    signal(kSignal, SIG_DFL);
  }
  // Both hold however long the thread is kept from going on in between.
  bool goes_off_by(uint64_t when) const {
    const uint64_t now = nanoseconds_now();
    return now + left(timer_) <= when;
  }
  bool goes_off_from(uint64_t when) const {
    const uint64_t then = left(timer_);
    return nanoseconds_now() + then >= when;
  }
  void expect_set_for(uint64_t when) const {
    EXPECT_TRUE(goes_off_by(when));
    EXPECT_TRUE(goes_off_from(when));
  }
  template <typename Condition>
  static void wait_for(Condition condition) {
    const uint64_t end = nanoseconds_now() + 20 * kSecond;
    while (!condition() && nanoseconds_now() < end) {
    }
  }

  KickTimer timer_;
};

TEST_F(KickTimerTest, AKickThatCameTooSoonIsMadeAgainSoon) {
  outcome = Kick::kTooSoon;
  const uint64_t due = nanoseconds_now() + 5 * kMillisecond;
  timer_.arm(due);
  const auto made_again = [] { return kicks >= 3 && shortest_pause <= KickTimer::kRetry; };
  wait_for(made_again);
  EXPECT_TRUE(made_again());
  EXPECT_TRUE(timer_.retries());
  EXPECT_GE(nanoseconds_now(), due);
}

TEST_F(KickTimerTest, AnyOtherOneIsMadeAgainMuchLater) {
  const uint64_t due = nanoseconds_now() + 5 * kMillisecond;
  timer_.arm(due);
  wait_for([] { return kicks >= 3; });
  EXPECT_GE(kicks, 3);
  EXPECT_GE(nanoseconds_now(), due + 2 * KickTimer::kInterval);
  EXPECT_FALSE(timer_.retries());
  timer_.disarm();
  EXPECT_EQ(left(timer_), 0u);
}

TEST_F(KickTimerTest, IsSetAgainAfterAKick) {
  timer_.arm(nanoseconds_now() + kMillisecond);
  wait_for([] { return kicks > 0; });
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  expect_set_for(due);
}

TEST_F(KickTimerTest, IsLeftAloneWhereItGoesOffTooEarlyAndThenSetAgain) {
  const uint64_t soon = nanoseconds_now() + 30 * kMillisecond;
  const uint64_t due = soon + 100 * kSecond;
  timer_.arm(soon);
  timer_.arm(due);
  EXPECT_TRUE(goes_off_by(soon));
  wait_for([] { return early > 0; });
  EXPECT_EQ(early, 1);
  EXPECT_EQ(kicks, 0);
  expect_set_for(due);
}

TEST_F(KickTimerTest, IsSetWhereItWouldBeLate) {
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due + kSecond);
  timer_.arm(due);
  expect_set_for(due);
}

TEST_F(KickTimerTest, ComesLongAfterWhomItIsLentTo) {
  constexpr uint64_t kPeriod = KickTimer::kGrace / 2;
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  timer_.lend();
  EXPECT_TRUE(timer_.lent());
  expect_set_for(due + KickTimer::kGrace);
  timer_.arm(due +
             kPeriod);  // The next one is lent as well, and what was set still comes after it.
  timer_.lend();
  expect_set_for(due + KickTimer::kGrace);
  timer_.arm(due + 2 * kPeriod);
  expect_set_for(due + KickTimer::kGrace);
  timer_.lend();
  expect_set_for(due + 2 * kPeriod + KickTimer::kGrace);
}

TEST_F(KickTimerTest, IsPreciseOnceItIsTakenBack) {
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  timer_.lend();
  timer_.take_back();
  EXPECT_FALSE(timer_.lent());
  expect_set_for(due);
  timer_.arm(due - kSecond);
  expect_set_for(due - kSecond);
}

TEST_F(KickTimerTest, ADeadlineThatIsTakenBackTooLateIsMetAtOnce) {
  timer_.arm(nanoseconds_now() + 50 * kSecond);
  timer_.lend();
  timer_.arm(nanoseconds_now() + 1);
  timer_.take_back();
  wait_for([] { return kicks > 0; });
  EXPECT_GT(kicks, 0);
}

TEST_F(KickTimerTest, IsLentNoMoreOnceItIsOff) {
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  timer_.lend();
  timer_.disarm();
  timer_.arm(due);
  expect_set_for(due);
}

TEST_F(KickTimerTest, KicksThoughItWasLentWhenNobodySeesToTheDeadline) {
  const uint64_t due = nanoseconds_now() + 5 * kMillisecond;
  timer_.arm(due);
  timer_.lend();
  wait_for([] { return kicks > 0; });
  EXPECT_GT(kicks, 0);
  EXPECT_GE(nanoseconds_now(), due + KickTimer::kGrace);
}

TEST_F(KickTimerTest, IsSetAgainAfterItWasSetFromElsewhere) {
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  timer_.lost();
  timer_.arm(due + kSecond);
  expect_set_for(due + kSecond);
}

}  // namespace
}  // namespace trapline
