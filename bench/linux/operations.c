// Times operations of the Linux that it runs on, by its monotonic clock: one line for each, in
// nanoseconds per operation, the fastest and the median of several batches.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kBatches = 9, kPage = 4096, kPages = 2048 };

static const char* self;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void require(int holds, const char* what) {
  if (holds) return;
  printf("operation=%s failed\n", what);
  exit(1);
}

static void system_calls(int count) {
  for (int i = 0; i < count; i++) syscall(SYS_getpid);
}

static void interrupt_calls(int count) {
  int result;
  for (int i = 0; i < count; i++) {
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(SYS_getpid) : "memory");
  }
}

static char* fresh_pages;

static void prepare_pages(void) {
  fresh_pages =
      mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(fresh_pages != MAP_FAILED, "page-fault");
  madvise(fresh_pages, kPages * kPage, MADV_NOHUGEPAGE);
}

static void touch_pages(int count) {
  for (int i = 0; i < count; i++) *(volatile char*)(fresh_pages + i * kPage) = 1;
}

static void release_pages(void) {
  munmap(fresh_pages, kPages * kPage);
}

static char buffer[512 << 10];

/// A program that keeps looking what time it is, and in between waits for memory, not for code.
static void measure_fills(int count) {
  for (int i = 0; i < count; i++) {
    memset(buffer, (int)now(), sizeof buffer);
    __asm__ volatile("" : : "m"(buffer));
  }
}

static int there[2], back[2];
static pid_t partner;

static void start_partner(void) {
  require(pipe(there) == 0 && pipe(back) == 0, "pipe");
  partner = fork();
  if (partner != 0) return;
  char byte;
  close(there[1]);
  while (read(there[0], &byte, 1) == 1) require(write(back[1], &byte, 1) == 1, "pipe");
  _exit(0);
}

static void ping_pong(int count) {
  char byte = 'x';
  for (int i = 0; i < count; i++) {
    require(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "pipe");
  }
}

static void end_partner(void) {
  close(there[0]), close(there[1]), close(back[0]), close(back[1]);
  waitpid(partner, NULL, 0);
}

static void wait_for(pid_t child, int expected) {
  int status = -1;
  waitpid(child, &status, 0);
  require(WIFEXITED(status) && WEXITSTATUS(status) == expected, "fork");
}

static void forks(int count) {
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) _exit(7);
    wait_for(child, 7);
  }
}

static void execs(int count) {
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) {
      execl(self, self, "exit", (char*)NULL);
      _exit(1);
    }
    wait_for(child, 7);
  }
}

// Position-independent and dynamically linked: everything is somewhere else each time.
static void program_starts(int count) {
  static const char kProgram[] = "/usr/bin/xz";
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) {
      const int nowhere = open("/dev/null", O_WRONLY);
      if (nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
      execl(kProgram, kProgram, "--version", (char*)NULL);
      _exit(1);
    }
    wait_for(child, 0);
  }
}

static void compute(void) {
  const double begin = now();
  while (now() - begin < 8e7) {
    for (volatile int i = 0; i < 1000000; i++) continue;
  }
}

// Whoever judges programs by those before them gets it wrong.
static void compute_first(void) {
  const pid_t child = fork();
  if (child == 0) {
    execl(self, self, "compute", (char*)NULL);
    _exit(1);
  }
  wait_for(child, 7);
}

typedef struct {
  const char* name;
  void (*prepare)(void);
  void (*run)(int count);
  void (*finish)(void);
  int count;
} Operation;

static int compare(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void measure(const Operation* operation) {
  double batches[kBatches];
  for (int i = -1; i < kBatches; i++) {  // The first one warms up.
    if (operation->prepare != NULL) operation->prepare();
    const double begin = now();
    operation->run(operation->count);
    const double spent = now() - begin;
    if (operation->finish != NULL) operation->finish();
    if (i >= 0) batches[i] = spent / operation->count;
  }
  qsort(batches, kBatches, sizeof *batches, compare);
  printf("operation=%s ns=%.1f median=%.1f ok\n", operation->name, batches[0],
         batches[kBatches / 2]);
}

static const Operation operations[] = {
    {"getpid", NULL, system_calls, NULL, 100000},
    {"getpid-int80", NULL, interrupt_calls, NULL, 100000},
    {"page-fault", prepare_pages, touch_pages, release_pages, kPages},
    {"timed-fill", NULL, measure_fills, NULL, 5000},
    {"pipe-ping-pong", start_partner, ping_pong, end_partner, 2000},
    {"fork-exit", NULL, forks, NULL, 100},
    {"fork-exec", NULL, execs, NULL, 60},
    {"program-start", NULL, program_starts, NULL, 30},
    {"start-after-long", compute_first, program_starts, NULL, 3},
};

int main(int count, char** arguments) {
  if (count > 1) {
    if (strcmp(arguments[1], "compute") == 0) compute();
    _exit(7);
  }
  self = arguments[0];
  setvbuf(stdout, NULL, _IONBF, 0);
  printf("operations begin\n");
  const double begin = now();
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) measure(&operations[i]);
  printf("clock=monotonic ns=%.0f ok\n", now() - begin);
  printf("operations end\n");
  return 0;
}
