// ptrace: stepping, breakpoints, another's memory and registers, system calls.
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "check.h"

// Ten instructions with known effects; the labels are places for breakpoints.
extern char steps_begin[], steps_inner[], steps_end[];
static uint32_t __attribute__((noipa)) steps(uint32_t count) {
  uint32_t result;
  __asm__ volatile(
      ".globl steps_begin, steps_inner, steps_end\n"
      "steps_begin: xorl %%eax, %%eax\n"
      "1: addl %%ecx, %%eax\n"
      "steps_inner: roll $1, %%eax\n"
      "decl %%ecx\n"
      "jnz 1b\n"
      "steps_end: nop\n"
      : "=&a"(result), "+c"(count));
  return result;
}

static volatile uint32_t exchanged = 0x1234;

static pid_t traced(void (*body)(void)) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    body();
    _exit(0);
  }
  int status;
  REQUIRE("first stop", waitpid(child, &status, 0) == child && WIFSTOPPED(status));
  return child;
}

// Lets it go on; the signal that stops it, or 256 + its exit status.
static int resume(pid_t child, int request) {
  int status;
  REQUIRE("resume", ptrace((enum __ptrace_request)request, child, NULL, NULL) == 0);
  REQUIRE("stop", waitpid(child, &status, 0) == child);
  return WIFSTOPPED(status) ? WSTOPSIG(status) : 256 + WEXITSTATUS(status);
}

static struct user_regs_struct registers_of(pid_t child) {
  struct user_regs_struct registers;
  REQUIRE("registers", ptrace(PTRACE_GETREGS, child, NULL, &registers) == 0);
  return registers;
}

static uint32_t place(const char* label) {
  return (uint32_t)(uintptr_t)label;
}

static void set_breakpoint(pid_t child, const char* label, long* original) {
  *original = ptrace(PTRACE_PEEKTEXT, child, label, NULL);
  REQUIRE("poke", ptrace(PTRACE_POKETEXT, child, label, (void*)((*original & ~0xffl) | 0xcc)) == 0);
}

// Takes the breakpoint that was just hit out again and goes back to it.
static void remove_breakpoint(pid_t child, const char* label, long original) {
  struct user_regs_struct registers = registers_of(child);
  CHECK("breakpoint's place", (uint32_t)registers.eip == place(label) + 1);
  registers.eip = (long)place(label);
  ptrace(PTRACE_POKETEXT, child, label, (void*)original);
  ptrace(PTRACE_SETREGS, child, NULL, &registers);
}

static void body_of_steps(void) {
  _exit(steps(7) == steps(7) ? 3 : 4);
}

static void single_steps(void) {
  const pid_t child = traced(body_of_steps);
  long original;
  set_breakpoint(child, steps_begin, &original);
  CHECK("breakpoint", resume(child, PTRACE_CONT) == SIGTRAP);
  remove_breakpoint(child, steps_begin, original);
  uint32_t hash = (uint32_t)kHashStart;
  int count = 0;
  while ((uint32_t)registers_of(child).eip != place(steps_end) && count < 1000) {
    REQUIRE("step", resume(child, PTRACE_SINGLESTEP) == SIGTRAP);
    const struct user_regs_struct registers = registers_of(child);
    const uint32_t seen[] = {(uint32_t)registers.eip - place(steps_begin), (uint32_t)registers.eax,
                             (uint32_t)registers.ecx};
    hash = hash_bytes(hash, seen, sizeof seen);
    count++;
  }
  CHECK("steps", count == 1 + 7 * 4);
  report("stepped", hash);
  CHECK("ended", resume(child, PTRACE_CONT) == 256 + 3);
}

static void breakpoints(void) {
  const pid_t child = traced(body_of_steps);
  int hits = 0;
  for (int i = 0; i < 14; i++) {
    long original;
    set_breakpoint(child, steps_inner, &original);
    hits += resume(child, PTRACE_CONT) == SIGTRAP;
    CHECK("counter", (int)registers_of(child).ecx == 7 - i % 7);
    remove_breakpoint(child, steps_inner, original);
    REQUIRE("step over", resume(child, PTRACE_SINGLESTEP) == SIGTRAP);
  }
  CHECK("hits", hits == 14);
  CHECK("ended", resume(child, PTRACE_CONT) == 256 + 3);
}

static void body_of_exchange(void) {
  while (exchanged == 0x1234) raise(SIGUSR1);
  _exit(exchanged == 0x5678 ? 5 : 6);
}

static void memory(void) {
  const pid_t child = traced(body_of_exchange);
  CHECK("signal stop", resume(child, PTRACE_CONT) == SIGUSR1);
  CHECK("peek", ptrace(PTRACE_PEEKDATA, child, &exchanged, NULL) == 0x1234);
  CHECK("poke", ptrace(PTRACE_POKEDATA, child, &exchanged, (void*)0x5678) == 0);
  CHECK("mine is untouched", exchanged == 0x1234);
  CHECK("ended", resume(child, PTRACE_CONT) == 256 + 5);
}

static void body_of_calls(void) {
  for (int i = 0; i < 5; i++) syscall(SYS_getppid);
  _exit(syscall(SYS_getpgid, 0) == 4711 ? 9 : 10);
}

// Every entry and exit is seen; the result of one call is replaced.
static void system_calls(void) {
  const pid_t child = traced(body_of_calls);
  int parents = 0, stop, inside = 0;
  while ((stop = resume(child, PTRACE_SYSCALL)) == SIGTRAP) {
    inside = !inside;
    struct user_regs_struct registers = registers_of(child);
    parents += inside && registers.orig_eax == SYS_getppid;
    if (!inside && registers.orig_eax == SYS_getpgid) {
      registers.eax = 4711;
      ptrace(PTRACE_SETREGS, child, NULL, &registers);
    }
  }
  CHECK("calls seen", parents == 5);
  CHECK("replaced result", stop == 256 + 9);
}

static void body_of_floats(void) {
  const double pi = 3.25;
  __asm__ volatile("fldl %0; int3; fstp %%st(0)" ::"m"(pi));
}

static void float_registers(void) {
  const pid_t child = traced(body_of_floats);
  CHECK("int3", resume(child, PTRACE_CONT) == SIGTRAP);
  struct user_fpregs_struct floats;
  REQUIRE("float registers", ptrace(PTRACE_GETFPREGS, child, NULL, &floats) == 0);
  const unsigned char expected[] = {0, 0, 0, 0, 0, 0, 0, 0xd0, 0, 0x40};
  CHECK("st0", memcmp(floats.st_space, expected, sizeof expected) == 0);
  CHECK("ended", resume(child, PTRACE_CONT) == 256);
}

int main(void) {
  single_steps();
  breakpoints();
  memory();
  system_calls();
  float_registers();
  return finish();
}
