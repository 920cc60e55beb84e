#include "runtime/native/processor_wait.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "runtime/native/held_processor.h"

namespace trapline {
namespace {

class ProcessorWaitTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!wait_.of(gettid())) GTEST_SKIP() << "the host does not tell";
  }

  ProcessorWait wait_;
};

/// Two threads that compute on one processor wait for each other.
TEST_F(ProcessorWaitTest, GrowsWhereTwoWantOneProcessor) {
  const pid_t here = gettid();
  const uint64_t before = *wait_.of(here);
  HeldProcessor processor;
  ASSERT_GE(processor.hold(0), 0);
  std::atomic<bool> ends{false};
  std::thread other([&] {
    while (!ends) {
    }
  });
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (*wait_.of(here) <= before && std::chrono::steady_clock::now() < limit) {
  }
  ends = true;
  other.join();
  EXPECT_GT(*wait_.of(here), before);
}

TEST_F(ProcessorWaitTest, TellsOfWhoeverItIsAskedFor) {
  EXPECT_TRUE(wait_.of(getpid()));
  EXPECT_FALSE(wait_.of(-5));
  EXPECT_TRUE(wait_.of(gettid()));
}

TEST_F(ProcessorWaitTest, DoesNotTellOfAProcessThatHasEnded) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0)
    for (;;) pause();
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!wait_.of(child) && std::chrono::steady_clock::now() < limit) {  // It has not run yet.
  }
  EXPECT_TRUE(wait_.of(child));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FALSE(wait_.of(child));
  EXPECT_TRUE(wait_.of(gettid()));
}

}  // namespace
}  // namespace trapline
