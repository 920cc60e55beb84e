#include "runtime/native/held_processor.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

cpu_set_t affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  return set;
}

class HeldProcessorTest : public testing::Test {
 protected:
  void TearDown() override { sched_setaffinity(0, sizeof before_, &before_); }
  bool as_before() const {
    const cpu_set_t now = affinity();
    return CPU_EQUAL(&now, &before_);
  }

  const cpu_set_t before_ = affinity();
  HeldProcessor processor_;
};

TEST_F(HeldProcessorTest, HoldsTheThreadWhereItRuns) {
  EXPECT_EQ(processor_.hold(kSecond), -1);  // The kernel may choose first.
  EXPECT_TRUE(as_before());
  const int held = processor_.hold(kSecond + 1);
  ASSERT_GE(held, 0);
  const cpu_set_t now = affinity();
  EXPECT_EQ(CPU_COUNT(&now), 1);
  EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(held), &now));
  EXPECT_EQ(sched_getcpu(), held);
  EXPECT_EQ(processor_.hold(kSecond + 2), held);
  processor_.release();
  EXPECT_TRUE(as_before());
}

TEST_F(HeldProcessorTest, TheOthersAreThoseThatTheThreadMightRunOn) {
  const cpu_set_t none = processor_.others();
  EXPECT_EQ(CPU_COUNT(&none), 0);
  processor_.hold(kSecond);
  const int held = processor_.hold(kSecond + 1);
  ASSERT_GE(held, 0);
  cpu_set_t others = processor_.others();
  EXPECT_FALSE(CPU_ISSET(static_cast<size_t>(held), &others));
  CPU_SET(static_cast<size_t>(held), &others);
  EXPECT_TRUE(CPU_EQUAL(&others, &before_));
}

TEST_F(HeldProcessorTest, SetsTheThreadFreeInTheEnd) {
  {
    HeldProcessor processor;
    processor.hold(kSecond);
    EXPECT_GE(processor.hold(kSecond + 1), 0);
  }
  EXPECT_TRUE(as_before());
}

TEST_F(HeldProcessorTest, LetsTheKernelChooseAgain) {
  processor_.hold(kSecond);
  EXPECT_GE(processor_.hold(kSecond + 1), 0);
  EXPECT_EQ(processor_.hold(2 * kSecond), -1);
  EXPECT_TRUE(as_before());
  EXPECT_GE(processor_.hold(2 * kSecond + 1), 0);
}

TEST_F(HeldProcessorTest, IsSetFreeInTimeThoughNobodyHoldsOn) {
  processor_.hold(kSecond);
  EXPECT_GE(processor_.hold(kSecond + 1), 0);
  processor_.release_in_time(kSecond + 2);
  const cpu_set_t now = affinity();
  EXPECT_EQ(CPU_COUNT(&now), 1);
  processor_.release_in_time(2 * kSecond);
  EXPECT_TRUE(as_before());
}

TEST_F(HeldProcessorTest, LeavesWhatSomebodyElseDecided) {
  if (CPU_COUNT(&before_) < 2) GTEST_SKIP() << "one processor";
  processor_.hold(kSecond);
  EXPECT_GE(processor_.hold(kSecond + 1), 0);
  sched_setaffinity(0, sizeof before_, &before_);
  cpu_set_t other = before_;
  CPU_CLR(static_cast<size_t>(sched_getcpu()), &other);
  sched_setaffinity(0, sizeof other, &other);
  processor_.release();
  const cpu_set_t now = affinity();
  EXPECT_TRUE(CPU_EQUAL(&now, &other));
}

}  // namespace
}  // namespace trapline
