// Signals: what a handler sees, what it may change, and that nothing is lost around it.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "check.h"

static volatile sig_atomic_t seen;
static siginfo_t last_info;
static sigjmp_buf escape;

static void count_signal(int number) {
  seen += number;
}

static void record(int number, siginfo_t* info, void* context) {
  (void)context;
  seen = number;
  last_info = *info;
}

static void record_and_escape(int number, siginfo_t* info, void* context) {
  record(number, info, context);
  siglongjmp(escape, 1);
}

static void install(int number, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {.sa_flags = SA_SIGINFO | flags};
  action.sa_sigaction = handler;
  REQUIRE("sigaction", sigaction(number, &action, NULL) == 0);
}

// Runs `statement`, which must bring that signal.
#define FAULTS(name, number, statement)                \
  do {                                                 \
    install(number, record_and_escape, SA_NODEFER);    \
    seen = 0;                                          \
    if (sigsetjmp(escape, 1) == 0) {                   \
      statement;                                       \
      CHECK(name " did not fault", 0);                 \
    } else {                                           \
      CHECK(name, seen == number);                     \
      printf("%s code %d\n", name, last_info.si_code); \
    }                                                  \
  } while (0)

static void faults(void) {
  volatile int zero = 0;
  const uint16_t unmasked = 0x37b;  // Divide by zero is no longer masked.
  char* page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE("mmap", page != MAP_FAILED);
  FAULTS("null read", SIGSEGV, (void)*(volatile char*)zero);
  CHECK("null address", last_info.si_addr == NULL);
  FAULTS("write to read-only page", SIGSEGV, *(volatile char*)(page + 123) = 1);
  CHECK("its address", last_info.si_addr == page + 123);
  FAULTS("kernel address", SIGSEGV, (void)*(volatile char*)0xc0100000);
  FAULTS("privileged instruction", SIGSEGV, __asm__ volatile("hlt"));
  FAULTS("port access", SIGSEGV, __asm__ volatile("outb %al, $0x80"));
  FAULTS("bad selector", SIGSEGV, __asm__ volatile("mov %0, %%fs" ::"r"(0x1234)));
  FAULTS("int 0x21", SIGSEGV, __asm__ volatile("int $0x21"));
  FAULTS("divide by zero", SIGFPE, __asm__ volatile("div %0" ::"r"(zero), "a"(1), "d"(0)));
  FAULTS("divide overflow", SIGFPE,
         __asm__ volatile("idiv %0" ::"r"(-1), "a"(0x80000000), "d"(-1)));
  FAULTS("undefined instruction", SIGILL, __asm__ volatile("ud2"));
  FAULTS("breakpoint", SIGTRAP, __asm__ volatile("int3"));
  FAULTS("overflow trap", SIGSEGV,
         __asm__ volatile("movb $0x7f, %%al; addb $1, %%al; into" ::
                              : "eax"));
  FAULTS("x87 divide by zero", SIGFPE, {
    __asm__ volatile("fldcw %0" ::"m"(unmasked));
    __asm__ volatile("fld1; fldz; fdivrp; fwait");
  });
  __asm__ volatile("fninit");
  munmap(page, 4096);
}

// A handler repairs the page or steps over the instruction, and the program goes on.
static char* guarded;
static void repair(int number, siginfo_t* info, void* context) {
  (void)context;
  seen += number == SIGSEGV;
  mprotect((void*)((uintptr_t)info->si_addr & ~4095u), 4096, PROT_READ | PROT_WRITE);
}
static void step_over(int number, siginfo_t* info, void* context) {
  (void)info;
  ucontext_t* frame = context;
  seen += number == SIGILL;
  frame->uc_mcontext.gregs[REG_EIP] += 2;
  frame->uc_mcontext.gregs[REG_EAX] += 5;
}

static void resumptions(void) {
  enum { kPages = 50 };
  guarded = mmap(NULL, kPages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  install(SIGSEGV, repair, 0);
  seen = 0;
  for (int i = 0; i < kPages; i++) guarded[i * 4096 + i] += (char)(i + 1);
  int right = 1;
  for (int i = 0; i < kPages; i++) right &= guarded[i * 4096 + i] == i + 1;
  CHECK("repaired pages", seen == kPages && right);
  install(SIGILL, step_over, 0);
  seen = 0;
  unsigned sum = 7;
  for (int i = 0; i < 100; i++) __asm__ volatile("ud2" : "+a"(sum));
  CHECK("stepped over", seen == 100 && sum == 507);
}

static char other_stack[32768];
static void on_other_stack(int number, siginfo_t* info, void* context) {
  (void)info, (void)context;
  char here;
  seen = &here > other_stack && &here < other_stack + sizeof other_stack ? number : -1;
}
static void overflow_and_escape(int number, siginfo_t* info, void* context) {
  on_other_stack(number, info, context);
  siglongjmp(escape, 1);
}
static int recurse(int depth) {
  volatile char space[1024];
  space[0] = (char)depth;
  return depth < 0 ? 0 : recurse(depth + 1) + space[0];
}

static void stacks(void) {
  const stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
  REQUIRE("sigaltstack", sigaltstack(&stack, NULL) == 0);
  install(SIGUSR1, on_other_stack, SA_ONSTACK);
  raise(SIGUSR1);
  CHECK("handler on its stack", seen == SIGUSR1);
  install(SIGSEGV, overflow_and_escape, SA_ONSTACK | SA_NODEFER);
  seen = 0;
  if (sigsetjmp(escape, 1) == 0) recurse(0);
  CHECK("stack overflow", seen == SIGSEGV);
}

static void masks_and_queues(void) {
  sigset_t blocked, pending;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  for (int i = 0; i < 3; i++) sigaddset(&blocked, SIGRTMIN + i);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  signal(SIGUSR2, count_signal);
  seen = 0;
  raise(SIGUSR2), raise(SIGUSR2);
  sigpending(&pending);
  CHECK("pending", sigismember(&pending, SIGUSR2) && seen == 0);
  for (int i = 2; i >= 0; i--)
    for (int value = 0; value < 3; value++)
      sigqueue(getpid(), SIGRTMIN + i, (union sigval){.sival_int = value});
  sigset_t real_time = blocked;
  sigdelset(&real_time, SIGUSR2);
  for (int i = 0; i < 9; i++) {
    siginfo_t info;
    const int number = sigwaitinfo(&real_time, &info);
    CHECK("queue order", number == SIGRTMIN + i / 3 && info.si_value.sival_int == i % 3);
  }
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);
  CHECK("delivered once", seen == SIGUSR2);
}

// The registers that a handler's own computing must not disturb, interrupted at arbitrary places.
static volatile double disturbed = 1.0;
static void disturb(int number) {
  (void)number;
  seen++;
  for (int i = 1; i < 20; i++) disturbed = disturbed * 1.5 / i + 3.0;
  __asm__ volatile("fninit; xorl %%ecx, %%ecx; xorl %%edx, %%edx; stc; std; cld" ::: "ecx", "edx");
}
static void registers_survive(void) {
  struct sigaction action = {.sa_handler = disturb, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
  seen = 0;
  setitimer(ITIMER_REAL, &often, NULL);
  uint32_t state = 99, hash = (uint32_t)kHashStart;
  double sum = 0;
  int rounds = 0;
  for (; seen < 50; rounds++) {
    state = 99, sum = 0, hash = (uint32_t)kHashStart;
    for (int i = 0; i < 20000; i++) {
      next_random(&state);
      sum += (double)state / 3.0;
      hash = (hash ^ state) * 16777619u;
    }
  }
  setitimer(ITIMER_REAL, &never, NULL);
  report("interrupted computing", hash_bytes(hash, &sum, sizeof sum));
}

static void system_calls_end_or_restart(void) {
  int ends[2];
  REQUIRE("pipe", pipe(ends) == 0);
  for (int restart = 0; restart < 2; restart++) {
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = restart ? SA_RESTART : 0};
    sigaction(SIGALRM, &action, NULL);
    const pid_t child = fork();
    if (child == 0) {
      usleep(60000);
      _exit(write(ends[1], "r", 1) != 1);
    }
    const struct itimerval once = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &once, NULL);
    char byte = 0;
    const ssize_t got = read(ends[0], &byte, 1);
    CHECK(restart ? "restarted" : "interrupted",
          restart ? got == 1 && byte == 'r' : got == -1 && errno == EINTR);
    if (!restart) CHECK("then read", read(ends[0], &byte, 1) == 1);
    waitpid(child, NULL, 0);
  }
  struct timespec left = {0, 0};
  /* So late that the host cannot well keep the guest from falling asleep before. */
  const struct itimerval once = {{0, 0}, {0, 300000}};
  setitimer(ITIMER_REAL, &once, NULL);
  const struct timespec long_time = {5, 0};
  CHECK("nanosleep", nanosleep(&long_time, &left) == -1 && errno == EINTR && left.tv_sec == 4);
}

static void between_processes(void) {
  install(SIGCHLD, record, 0);
  seen = 0;
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  CHECK("stop", kill(child, SIGSTOP) == 0);
  int status;
  CHECK("stopped", waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
  kill(child, SIGCONT);
  CHECK("continued", waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
  kill(child, SIGTERM);
  CHECK("terminated", waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGTERM);
  CHECK("SIGCHLD", seen == SIGCHLD && last_info.si_pid == child);
}

int main(void) {
  faults();
  resumptions();
  stacks();
  masks_and_queues();
  registers_survive();
  system_calls_end_or_restart();
  between_processes();
  return finish();
}
