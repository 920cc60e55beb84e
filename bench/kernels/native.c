// The kernels as a native 32-bit Linux program without a C library. Takes the options as its one
// argument. Before the samples it prints "clock=monotonic ns=... cycles=... ok", an interval
// measured with both clocks, from which a reader gets the frequency of the time stamp counter.
#include "harness.h"
#include "kernel.h"
#include "tsc.h"

enum SystemCall { kExit = 1, kWrite = 4, kPrctl = 172, kClockGettime = 265 };
enum { kSetThpDisable = 41, kClockMonotonic = 1 };

static int failures;

static int system_call(enum SystemCall number, uint32_t a, uint32_t b, uint32_t c) {
  int result;
  __asm__ volatile("int $0x80"
                   : "=a"(result)
                   : "0"(number), "b"(a), "c"(b), "d"(c), "S"(0), "D"(0)
                   : "memory");
  return result;
}

static void print(const char* line, uint32_t bytes) {
  system_call(kWrite, 1, (uint32_t)line, bytes);
}

static void report(const struct Sample* sample) {
  char line[kLineBytes];
  print(line, format_sample(line, sample, "native"));
  if (sample->checksum != kKernels[sample->kernel].checksum) ++failures;
}

static uint64_t nanoseconds(void) {
  uint32_t time[2];
  system_call(kClockGettime, kClockMonotonic, (uint32_t)time, 0);
  return (uint64_t)time[0] * 1000000000u + time[1];
}

static void print_clock(void) {
  const uint64_t start = nanoseconds();
  const uint64_t cycles = read_tsc();
  uint64_t now;
  do now = nanoseconds();
  while (now - start < 20000000);
  char line[kLineBytes];
  char* end = append_text(line, "clock=monotonic ns=");
  end = append_decimal(end, now - start);
  end = append_text(end, " cycles=");
  end = append_decimal(end, read_tsc() - cycles);
  end = append_text(end, " ok\n");
  print(line, (uint32_t)(end - line));
}

__attribute__((used, noreturn)) void native_main(int count, char** arguments) {
  // Neither side has huge pages.
  system_call(kPrctl, kSetThpDisable, 1, 0);
  print_clock();
  const struct Options options = parse_options(count > 1 ? arguments[1] : "");
  measure_kernels(&options, report);
  system_call(kExit, failures != 0, 0, 0);
  __builtin_unreachable();
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  mov (%esp), %eax\n"
    "  lea 4(%esp), %edx\n"
    "  and $-16, %esp\n"
    "  sub $8, %esp\n"
    "  push %edx\n"
    "  push %eax\n"
    "  call native_main\n");
