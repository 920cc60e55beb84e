// The debug registers through ptrace: stops at writes and at instructions, and only at those.
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "check.h"

static volatile uint32_t watched[4];

static void __attribute__((noinline)) landmark(void) {
  __asm__ volatile("");
}

static void body(void) {
  for (uint32_t i = 0; i < 6; i++) {
    watched[0] = i;
    watched[1] = i;
    watched[2] += i;
    landmark();
  }
  _exit(11);
}

static int set(pid_t child, int number, uintptr_t value) {
  const size_t offset = offsetof(struct user, u_debugreg) + (size_t)number * sizeof(int);
  return ptrace(PTRACE_POKEUSER, child, offset, value) == 0;
}

static int resume(pid_t child) {
  int status;
  REQUIRE("resume", ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
  REQUIRE("stop", waitpid(child, &status, 0) == child);
  return WIFSTOPPED(status) ? WSTOPSIG(status) : 256 + WEXITSTATUS(status);
}

static int hit(pid_t child) {
  const size_t offset = offsetof(struct user, u_debugreg) + 6 * sizeof(int);
  const long status = ptrace(PTRACE_PEEKUSER, child, offset, NULL);
  set(child, 6, 0);
  return (int)(status & 15);
}

int main(void) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    body();
  }
  int status;
  REQUIRE("first stop", waitpid(child, &status, 0) == child && WIFSTOPPED(status));
  REQUIRE("addresses", set(child, 0, (uintptr_t)&watched[1]) && set(child, 1, (uintptr_t)landmark));
  // Register 0: writes of four bytes; register 1: execution.
  REQUIRE("control", set(child, 7, 0xd0000 | 1 << 2 | 1));
  for (uint32_t i = 0; i < 6; i++) {
    CHECK("write", resume(child) == SIGTRAP && hit(child) == 1);
    CHECK("after the write", (uint32_t)ptrace(PTRACE_PEEKDATA, child, &watched[1], NULL) == i);
    CHECK("execution", resume(child) == SIGTRAP && hit(child) == 2);
    CHECK("place", (uintptr_t)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, regs.eip),
                                     NULL) == (uintptr_t)landmark);
  }
  CHECK("ended", resume(child) == 256 + 11);
  return finish();
}
