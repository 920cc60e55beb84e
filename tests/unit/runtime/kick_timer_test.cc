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

void on_signal(int) {
  if (timer_under_test->too_early()) {
    early = early + 1;
  } else {
    kicks = kicks + 1;
    timer_under_test->kicked(KickTarget::kThread);
  }
}

class KickTimerTest : public testing::Test {
 protected:
  void SetUp() override {
    early = 0;
    kicks = 0;
    timer_under_test = &timer_;
    signal(kSignal, on_signal);
    ASSERT_TRUE(timer_.make(kSignal));
  }
  void TearDown() override {
    timer_.disarm();
    signal(kSignal, SIG_DFL);
  }
  /// Until it goes off; 0: it does not.
  uint64_t left() const {
    itimerspec spec{};
    timer_gettime(timer_.id(), &spec);
    return static_cast<uint64_t>(spec.it_value.tv_sec) * kSecond +
           static_cast<uint64_t>(spec.it_value.tv_nsec);
  }
  // Both hold however long the thread is kept from going on in between.
  bool goes_off_by(uint64_t when) const {
    const uint64_t now = nanoseconds_now();
    return now + left() <= when;
  }
  bool goes_off_from(uint64_t when) const {
    const uint64_t then = left();
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

TEST_F(KickTimerTest, RepeatsFromTheDeadlineOn) {
  const uint64_t due = nanoseconds_now() + 5 * kMillisecond;
  timer_.arm(due);
  wait_for([] { return kicks >= 3; });
  EXPECT_GE(kicks, 3);
  EXPECT_GE(nanoseconds_now(), due);
  EXPECT_TRUE(timer_.repeats());
  timer_.disarm();
  EXPECT_EQ(left(), 0u);
  EXPECT_FALSE(timer_.repeats());
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

TEST_F(KickTimerTest, ComesAfterWhomItIsLentTo) {
  const uint64_t due = nanoseconds_now() + 100 * kSecond;
  timer_.arm(due);
  timer_.lend();
  expect_set_for(due + KickTimer::kGrace);
  timer_.take_back();  // Far from the deadline it may stay so.
  timer_.lend();
  expect_set_for(due + KickTimer::kGrace);
  timer_.arm(due + 4 * kMillisecond);  // The next one: what was set is early.
  expect_set_for(due + KickTimer::kGrace);
  timer_.lend();
  expect_set_for(due + 4 * kMillisecond + KickTimer::kGrace);
}

TEST_F(KickTimerTest, IsPreciseAgainNearTheDeadline) {
  const uint64_t due = nanoseconds_now() + 50 * kMillisecond;
  timer_.arm(due);
  timer_.lend();
  wait_for([&] { return nanoseconds_now() > due - KickTimer::kNear / 2; });
  timer_.take_back();
  EXPECT_TRUE(kicks > 0 || goes_off_by(due));
  wait_for([] { return kicks > 0; });
  EXPECT_GT(kicks, 0);
  EXPECT_GE(nanoseconds_now(), due);
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
  EXPECT_TRUE(timer_.repeats());
  timer_.arm(due + kSecond);
  expect_set_for(due + kSecond);
}

}  // namespace
}  // namespace trapline
