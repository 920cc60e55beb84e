#include "runtime/devices/clock.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

struct ClockTest : ::testing::Test {
  FakeClock clock;
  EventQueue queue{clock};
  std::string log;
  Timer a{queue, [this] { log += 'a'; }};
  Timer b{queue, [this] { log += 'b'; }};
};

TEST_F(ClockTest, CallsWhatIsDueInOrder) {
  a.arm(20);
  b.arm(10);
  EXPECT_EQ(queue.next_due(), 10u);
  clock.time = 9;
  queue.run_due();
  EXPECT_EQ(log, "");
  clock.time = 30;
  queue.run_due();
  EXPECT_EQ(log, "ba");
  EXPECT_FALSE(a.armed());
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(ClockTest, SlackLastsUntilTheFirstHasUsedItUp) {
  EXPECT_EQ(queue.next_due_at_latest(), std::nullopt);
  a.arm(10, 100);
  EXPECT_EQ(queue.next_due(), 10u);
  EXPECT_EQ(queue.next_due_at_latest(), 110u);
  b.arm(20, 5);
  EXPECT_EQ(queue.next_due_at_latest(), 25u);
  // It does not last from one arming to the next, and never makes a timer late by itself.
  b.arm(40);
  EXPECT_EQ(queue.next_due_at_latest(), 40u);
  clock.time = 10;
  queue.run_due();
  EXPECT_EQ(log, "a");
}

TEST_F(ClockTest, PeriodsHaveSlackWhileTheyAreShort) {
  EXPECT_EQ(slack_of_period(4'000'000), 4'000'000u);
  EXPECT_EQ(slack_of_period(1'000'000), 5'000'000u);
  EXPECT_EQ(slack_of_period(5'000'000), 5'000'000u);
  EXPECT_EQ(slack_of_period(5'000'001), 0u);
  EXPECT_EQ(slack_of_period(0), 0u);
}

TEST_F(ClockTest, ArmingAgainReplaces) {
  a.arm(10);
  a.arm(50);
  clock.time = 20;
  queue.run_due();
  EXPECT_EQ(log, "");
  EXPECT_EQ(a.due(), 50u);
  a.disarm();
  clock.time = 60;
  queue.run_due();
  EXPECT_EQ(log, "");
}

TEST_F(ClockTest, CallbacksMayArmAndDisarmOthers) {
  Timer first{queue, [&] {
                a.disarm();
                b.arm(100);
                first.arm(1);  // Passed already: due next time.
                log += 'f';
              }};
  first.arm(5);
  a.arm(6);
  b.arm(7);
  clock.time = 10;
  queue.run_due();
  EXPECT_EQ(log, "f");
  EXPECT_EQ(queue.next_due(), 1u);
  first.disarm();
  EXPECT_EQ(queue.next_due(), 100u);
}

TEST_F(ClockTest, TellsOfAnEarlierFirstTimer) {
  int told = 0;
  queue.on_earlier([&] { ++told; });
  a.arm(50);
  EXPECT_EQ(told, 1);
  b.arm(60);
  EXPECT_EQ(told, 1);
  b.arm(40);
  EXPECT_EQ(told, 2);
}

TEST_F(ClockTest, ADestroyedTimerIsForgotten) {
  {
    Timer gone{queue, [this] { log += 'x'; }};
    gone.arm(1);
  }
  clock.time = 5;
  queue.run_due();
  EXPECT_EQ(log, "");
}

}  // namespace
}  // namespace trapline
