// fork, vfork, exec, wait and exit: copies of memory stay apart, statuses and arguments arrive.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

extern char** environ;

static int wait_for(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

static void statuses(void) {
  for (int code = 0; code < 256; code += 5) {
    const pid_t child = fork();
    if (child == 0) _exit(code);
    const int status = wait_for(child);
    CHECK("exit status", WIFEXITED(status) && WEXITSTATUS(status) == code);
  }
  const int kill_by[] = {SIGKILL, SIGTERM, SIGABRT, SIGUSR1};
  for (unsigned i = 0; i < sizeof kill_by / sizeof *kill_by; i++) {
    const pid_t child = fork();
    if (child == 0) {
      const struct rlimit none = {0, 0};
      setrlimit(RLIMIT_CORE, &none);
      raise(kill_by[i]);
      _exit(99);
    }
    const int status = wait_for(child);
    CHECK("killed", WIFSIGNALED(status) && WTERMSIG(status) == kill_by[i]);
  }
  CHECK("no child left", waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

// Parent and children write to the same pages: each sees its own.
static void copies_on_write(void) {
  enum { kPages = 64, kPage = 4096, kChildren = 8 };
  static unsigned char memory[kPages * kPage];
  memset(memory, 0xaa, sizeof memory);
  pid_t children[kChildren];
  for (int i = 0; i < kChildren; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      for (int page = i % 3; page < kPages; page += 3) memory[page * kPage + i] = (unsigned char)i;
      int right = 1;
      for (int page = 0; page < kPages; page++) {
        right &= memory[page * kPage + i] == (page % 3 == i % 3 ? i : 0xaa);
        right &= memory[page * kPage + kPage - 1] == 0xaa;
      }
      _exit(right ? 7 : 8);
    }
    memory[kPage * i + 100] = 0x55;
  }
  for (int i = 0; i < kChildren; i++) {
    const int status = wait_for(children[i]);
    CHECK("child's copy", WIFEXITED(status) && WEXITSTATUS(status) == 7);
  }
  int right = 1;
  for (int page = 0; page < kPages; page++)
    for (int i = 0; i < kChildren; i++) right &= memory[page * kPage + i] == 0xaa;
  CHECK("parent's copy", right);
}

// A chain of generations, each of which adds to what it inherited and returns by its status.
static int generation(int depth, int sum) {
  if (depth == 0) return sum & 0x7f;
  const pid_t child = fork();
  if (child == 0) _exit(generation(depth - 1, sum + depth * 3));
  const int status = wait_for(child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

static void vforks(void) {
  volatile int shared = 1;
  for (volatile int i = 0; i < 20; i++) {
    const pid_t child = vfork();
    if (child == 0) {
      shared++;
      _exit(0);
    }
    wait_for(child);
  }
  CHECK("vfork shares memory", shared == 21);
}

// The program again with other arguments; `argv[1]` says what to do then.
static void execs(const char* self) {
  for (int i = 0; i < 20; i++) {
    const pid_t child = fork();
    if (child == 0) {
      char count[16];
      snprintf(count, sizeof count, "%d", i);
      char* arguments[] = {"again", "--check", count, "with space", "", NULL};
      char* environment[] = {"ONE=1", "EMPTY=", NULL};
      execve(self, arguments, environment);
      _exit(120);
    }
    const int status = wait_for(child);
    CHECK("exec", WIFEXITED(status) && WEXITSTATUS(status) == 30 + i);
  }
  char* nothing[] = {"none", NULL};
  CHECK("exec of nothing", execve("/none/such", nothing, environ) == -1 && errno == ENOENT);
}

static int after_exec(int count, char** arguments) {
  const int right = count == 5 && strcmp(arguments[0], "again") == 0 &&
                    strcmp(arguments[3], "with space") == 0 && arguments[4][0] == '\0' &&
                    strcmp(getenv("ONE"), "1") == 0 && strcmp(getenv("EMPTY"), "") == 0 &&
                    getenv("PATH") == NULL;
  return right ? 30 + atoi(arguments[2]) : 121;
}

// Many at once, with the processor handed from one to the next.
static void crowd(void) {
  enum { kCrowd = 40 };
  volatile uint32_t* results = mmap(NULL, kCrowd * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE("shared memory", results != MAP_FAILED);
  for (int i = 0; i < kCrowd; i++) {
    if (fork() == 0) {
      uint32_t state = 1000u + (uint32_t)i;
      for (int round = 0; round < 20; round++) {
        for (int step = 0; step < 1000; step++) next_random(&state);
        sched_yield();
      }
      results[i] = state;
      _exit(0);
    }
  }
  int ended = 0;
  while (wait(NULL) > 0) ended++;
  CHECK("crowd ended", ended == kCrowd);
  report("crowd",
         hash_bytes((uint32_t)kHashStart, (const void*)results, kCrowd * sizeof(uint32_t)));
}

int main(int count, char** arguments) {
  if (count > 1 && strcmp(arguments[1], "--check") == 0) return after_exec(count, arguments);
  statuses();
  copies_on_write();
  report("generations", (uint32_t)generation(12, 0));
  vforks();
  execs(arguments[0]);
  crowd();
  return finish();
}
