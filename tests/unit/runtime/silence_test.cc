#include "runtime/native/silence.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

namespace trapline {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr Silence::Time kBegin{};

TEST(Silence, CountsAllTimeOfOneThatSleeps) {
  Silence silence(kBegin, {milliseconds(7), false});
  silence.look(kBegin + milliseconds(30), {milliseconds(7), false});
  silence.look(kBegin + milliseconds(50), {milliseconds(9), false});
  EXPECT_EQ(silence.length(), milliseconds(50));
}

TEST(Silence, CountsOfOneThatIsHeldUpOnlyWhatItRan) {
  Silence silence(kBegin, {milliseconds(7), true});
  silence.look(kBegin + milliseconds(3000), {milliseconds(8), true});
  EXPECT_EQ(silence.length(), milliseconds(1));
  silence.look(kBegin + milliseconds(3005), {milliseconds(13), true});
  EXPECT_EQ(silence.length(), milliseconds(6));
}

TEST(Silence, CountsNoMoreThanHasPassed) {
  Silence silence(kBegin, {milliseconds(7), true});
  silence.look(kBegin + milliseconds(5), {milliseconds(70), true});
  EXPECT_EQ(silence.length(), milliseconds(5));
  silence.look(kBegin + milliseconds(10), {milliseconds(0), true});  // Nobody knows it any more.
  EXPECT_EQ(silence.length(), milliseconds(5));
}

TEST(ProcessUse, FindsTheStateBehindAnyName) {
  EXPECT_TRUE(ProcessUse::held_up_in("17 (a) R 1 17"));
  EXPECT_TRUE(ProcessUse::held_up_in("17 (memfd:a) S b) D 1 17"));
  EXPECT_FALSE(ProcessUse::held_up_in("17 (R) R) S 1 17"));
  EXPECT_FALSE(ProcessUse::held_up_in("17 (a) Z 1 17"));
  EXPECT_FALSE(ProcessUse::held_up_in("17 (a) "));
  EXPECT_FALSE(ProcessUse::held_up_in(""));
}

/// Ends with the test.
class Child {
 public:
  explicit Child(void (*body)()) : pid_(fork()) {
    if (pid_ == 0) {
      body();
      _exit(0);
    }
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

template <typename Condition>
bool comes_true(Condition condition) {
  for (const auto end = steady_clock::now() + std::chrono::seconds(20);
       steady_clock::now() < end;) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

TEST(ProcessUse, TellsWhoSleeps) {
  const Child child([] {
    for (;;) pause();
  });
  EXPECT_TRUE(comes_true([&] { return !ProcessUse::of(child.pid()).held_up; }));
}

TEST(ProcessUse, TellsWhatABusyOneUsed) {
  const Child child([] {
    for (;;) getppid();
  });
  const auto before = ProcessUse::of(child.pid()).processor_time;
  EXPECT_TRUE(comes_true(
      [&] { return ProcessUse::of(child.pid()).processor_time > before + milliseconds(5); }));
  EXPECT_TRUE(ProcessUse::of(child.pid()).held_up);
}

TEST(ProcessUse, KnowsNothingOfNoProcess) {
  const ProcessUse use = ProcessUse::of(-1);
  EXPECT_FALSE(use.held_up);
  EXPECT_EQ(use.processor_time, std::chrono::nanoseconds(0));
}

}  // namespace
}  // namespace trapline
