#include "runtime/cli/terminal.h"

#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <functional>

#include "tests/unit/runtime/pseudo_terminal.h"

namespace trapline {
namespace {

/// Runs it in a child whose controlling terminal this is, in the foreground.
pid_t start(const PseudoTerminal& terminal, const std::function<void()>& what) {
  const pid_t child = fork();
  if (child != 0) return child;
  setsid();
  ioctl(terminal.program(), TIOCSCTTY, 0);
  what();
  _exit(0);
}

int wait_for(pid_t child, int options = 0) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, options), child);
  return status;
}

/// Modes change on another process's time.
bool soon(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) usleep(1000);
  return condition();
}

TEST(RawTerminal, IsRawForItsLife) {
  PseudoTerminal pty;
  {
    const auto terminal = RawTerminal::take(pty.program());
    ASSERT_NE(terminal, nullptr);
    EXPECT_TRUE(pty.raw());
    EXPECT_TRUE(terminal->ready());
    terminal->tell("hello\r\n");
    EXPECT_EQ(pty.see("\n"), "hello\r\n");
  }
  EXPECT_TRUE(pty.as_before());
}

TEST(RawTerminal, IsNothingElse) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(RawTerminal::take(ends[0]), nullptr);
  close(ends[0]);
  close(ends[1]);
  EXPECT_EQ(RawTerminal::take(-1), nullptr);
}

TEST(RawTerminal, GivenBackForGoodStaysSo) {
  PseudoTerminal pty;
  const auto terminal = RawTerminal::take(pty.program());
  restore_terminal();
  EXPECT_TRUE(pty.as_before());
  EXPECT_FALSE(terminal->ready());
  EXPECT_TRUE(pty.as_before());
  restore_terminal();
}

TEST(RawTerminal, IsGivenBackByFatalSignals) {
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGUSR1}) {
    PseudoTerminal pty;
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = start(pty, [&] {
      std::signal(number, SIG_DFL);  // Sanitizers have handlers of their own.
      restore_terminal_on_fatal_signals();
      const auto terminal = RawTerminal::take(pty.program());
      (void)!write(ready[1], "x", 1);
      while (true) pause();
    });
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    EXPECT_TRUE(pty.raw());
    kill(child, number);
    const int status = wait_for(child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << number;
    EXPECT_TRUE(pty.as_before()) << number;
    close(ready[0]);
    close(ready[1]);
  }
}

TEST(RawTerminal, IsGivenBackWhileTheProcessIsStopped) {
  PseudoTerminal pty;
  const pid_t child = start(pty, [&] {
    const auto terminal = RawTerminal::take(pty.program());
    while (true) pause();
  });
  EXPECT_TRUE(soon([&] { return pty.raw(); }));
  for (int round = 0; round < 3; ++round) {
    kill(child, SIGTSTP);
    EXPECT_TRUE(WIFSTOPPED(wait_for(child, WUNTRACED)));
    EXPECT_TRUE(pty.as_before());
    kill(child, SIGCONT);
    EXPECT_TRUE(soon([&] { return pty.raw(); }));
  }
  // A stop that nobody is told of: the shell changes the modes, as it does for every job.
  kill(child, SIGSTOP);
  EXPECT_TRUE(WIFSTOPPED(wait_for(child, WUNTRACED)));
  termios cooked = pty.modes();
  cooked.c_lflag |= ICANON | ECHO;
  tcsetattr(pty.program(), TCSANOW, &cooked);
  kill(child, SIGCONT);
  EXPECT_TRUE(soon([&] { return pty.raw(); }));
  kill(child, SIGKILL);
  wait_for(child);
}

TEST(RawTerminal, IsLeftAloneInTheBackground) {
  PseudoTerminal pty;
  const pid_t shell = start(pty, [&] {
    const pid_t job = fork();
    if (job == 0) {
      setpgid(0, 0);
      const auto terminal = RawTerminal::take(pty.program());
      if (terminal->ready()) _exit(1);  // Touching the modes would stop us, besides.
      while (!terminal->ready()) usleep(1000);
      _exit(0);
    }
    setpgid(job, job);
    usleep(100'000);
    if (!pty.as_before()) _exit(2);
    std::signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(pty.program(), job);
    int status = 0;
    waitpid(job, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
  });
  EXPECT_EQ(wait_for(shell), 0);
}

}  // namespace
}  // namespace trapline
