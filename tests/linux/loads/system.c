// What programs ask of the kernel and of the processor besides: clocks, both kinds of system call,
// segments of their own (16-bit code among them), flags.
#include <asm/ldt.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#include "check.h"

static int64_t now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void clocks(void) {
  int forward = 1;
  int64_t last = now(CLOCK_MONOTONIC);
  for (int i = 0; i < 20000; i++) {
    const int64_t next = now(CLOCK_MONOTONIC);
    forward &= next >= last;
    last = next;
  }
  CHECK("monotonic", forward);
  struct timeval day;
  gettimeofday(&day, NULL);
  const int64_t apart = now(CLOCK_REALTIME) - (day.tv_sec * 1000000000ll + day.tv_usec * 1000);
  CHECK("two clocks agree", apart >= 0 && apart < 100000000 && time(NULL) - day.tv_sec <= 1);
  const int64_t before = now(CLOCK_MONOTONIC);
  for (int i = 0; i < 10; i++) {
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
  }
  const int64_t slept = now(CLOCK_MONOTONIC) - before;
  CHECK("nanosleep", slept >= 50000000 && slept < 500000000);
  struct timeval limit = {0, 30000};
  const int64_t selecting = now(CLOCK_MONOTONIC);
  CHECK("select", select(0, NULL, NULL, NULL, &limit) == 0);
  const int64_t selected = now(CLOCK_MONOTONIC) - selecting;
  CHECK("select's time", selected >= 30000000 && selected < 500000000);
  const int64_t working = now(CLOCK_PROCESS_CPUTIME_ID);
  volatile uint32_t sum = 0;
  while (now(CLOCK_PROCESS_CPUTIME_ID) - working < 20000000) sum += 1;
  CHECK("processor time", sum > 0);
}

static int raw_call(int number) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "0"(number) : "memory");
  return result;
}

static void calls(void) {
  const int self = getpid();
  int right = 1;
  for (int i = 0; i < 2000; i++) {
    right &= raw_call(SYS_getpid) == self;
    right &= (int)syscall(SYS_getpid) == self;
  }
  CHECK("both kinds of call", right);
  CHECK("no such call", raw_call(9999) == -ENOSYS);
  struct utsname names;
  CHECK("uname", uname(&names) == 0 && strcmp(names.sysname, "Linux") == 0);
  CHECK("bad pointer", uname((struct utsname*)16) == -1 && errno == EFAULT);
  unsigned char random[64];
  CHECK("getrandom", syscall(SYS_getrandom, random, sizeof random, 0) == sizeof random);
}

static void flags(void) {
  uint32_t before, after;
  __asm__ volatile(
      "pushfl; popl %0; movl %0, %1; xorl $0x200000, %1; pushl %1; popfl; pushfl; popl %1"
      : "=&r"(before), "=&r"(after));
  CHECK("ID can be changed", ((before ^ after) & 0x200000) != 0);
  __asm__ volatile("pushfl; orl $0x3000, (%%esp); popfl; pushfl; popl %0" : "=r"(after));
  CHECK("IOPL and IF cannot", (after & 0x3200) == 0x200);
  __asm__ volatile(
      "pushfl; orl $0x4000, (%%esp); popfl; pushfl; popl %0; pushfl; andl $~0x4000, "
      "(%%esp); popfl"
      : "=r"(after));
  CHECK("NT can", (after & 0x4000) != 0);
  getppid();
}

static int selector(int index) {
  return index << 3 | 7;
}

static int define(int index, void* base, unsigned limit, unsigned contents, unsigned wide) {
  struct user_desc segment = {.entry_number = (unsigned)index,
                              .base_addr = (unsigned)(uintptr_t)base};
  segment.limit = limit;
  segment.contents = contents;
  segment.seg_32bit = wide;
  segment.useable = 1;
  return syscall(SYS_modify_ldt, 1, &segment, sizeof segment) == 0;
}

// Their limits are the business of limits.c, since QEMU does not obey them.
static void data_segments(void) {
  static uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  REQUIRE("modify_ldt", define(3, words, 15, MODIFY_LDT_CONTENTS_DATA, 1));
  uint32_t sum = 0, value;
  __asm__ volatile("movw %w0, %%fs" ::"r"(selector(3)));
  for (uint32_t i = 0; i < 4; i++) {
    __asm__ volatile("movl %%fs:(,%1,4), %0" : "=r"(value) : "r"(i));
    sum += value;
  }
  CHECK("based segment", sum == 10);
  REQUIRE("expand-down", define(4, words, 0, MODIFY_LDT_CONTENTS_STACK, 1));
  __asm__ volatile("movw %w1, %%fs; movl %%fs:16, %0; xorl %%ecx, %%ecx; movw %%cx, %%fs"
                   : "=&r"(value)
                   : "r"(selector(4))
                   : "ecx");
  CHECK("expand-down segment", value == 5);
}

// 16-bit code: mov ax, 0x1234; add ax, bx; mul cx; lret with operand size 32.
static void narrow_code(void) {
  static const unsigned char code[] = {0xb8, 0x34, 0x12, 0x01, 0xd8, 0xf7, 0xe1, 0x66, 0xcb};
  unsigned char* page =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE("mmap", page != MAP_FAILED);
  memcpy(page + 16, code, sizeof code);
  REQUIRE("16-bit segment", define(5, page, 4095, MODIFY_LDT_CONTENTS_CODE, 0));
  const struct {
    uint32_t offset;
    uint16_t selector;
  } __attribute__((packed)) target = {16, (uint16_t)selector(5)};
  uint32_t low = 0xdead0000, high = 0xbeef0000;
  for (uint32_t i = 1; i < 100; i++) {
    low = 0xdead0000, high = 0xbeef0000;
    __asm__ volatile("lcall *%4" : "+a"(low), "+d"(high) : "b"(i), "c"(300), "m"(target) : "cc");
    const uint32_t product = (0x1234 + i) * 300;
    CHECK("16-bit code",
          low == (0xdead0000 | (product & 0xffff)) && high == (0xbeef0000 | product >> 16));
  }
  munmap(page, 4096);
}

int main(void) {
  clocks();
  calls();
  flags();
  data_segments();
  narrow_code();
  return finish();
}
