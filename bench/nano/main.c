// Runs the nanobenchmarks. Options: nanos=NAME,NAME (all without it), batches=N. One line each:
//   nano=port-input cycles=181.25 batches=20 operations=8000 ok
// The cycles are of one operation: the fastest batch less the fastest empty loop.
#include "nano.h"
#include "system.h"
#include "text.h"
#include "tsc.h"

struct Batches {
  const struct Nano* nano;
  uint32_t count;
  uint32_t loops;
  uint32_t fastest;  ///< In cycles, a whole batch.
  uint32_t wrong;
};

static void measure(void* argument) {
  struct Batches* batches = argument;
  batches->fastest = UINT32_MAX;
  for (uint32_t i = 0; i < batches->count; ++i) {
    const uint64_t start = read_tsc();
    batches->wrong |= batches->nano->run(batches->loops);
    const uint64_t cycles = read_tsc() - start;
    if (cycles < batches->fastest) batches->fastest = (uint32_t)cycles;
  }
}

static uint32_t fastest_empty_loop(uint32_t count, uint32_t loops) {
  struct Batches batches = {&kNanos[0], count, loops, 0, 0};
  measure(&batches);
  return batches.fastest;
}

/// In hundredths, rounded down: the dividend fits 64 bits, the quotient 32.
static uint32_t hundredths(uint32_t cycles, uint32_t operations) {
  const uint64_t dividend = (uint64_t)cycles * 100;
  uint32_t low = (uint32_t)dividend;
  uint32_t rest = (uint32_t)(dividend >> 32);
  __asm__("divl %2" : "+a"(low), "+d"(rest) : "r"(operations) : "cc");
  return low;
}

static void print_result(const struct Batches* batches, uint32_t empty) {
  const uint32_t operations = batches->loops * batches->nano->operations;
  const uint32_t net = batches->fastest > empty ? batches->fastest - empty : 0;
  const uint32_t cycles = hundredths(net, operations);
  char line[kLineBytes];
  char* end = append_text(append_text(line, "nano="), batches->nano->name);
  end = append_decimal(append_text(end, " cycles="), cycles / 100);
  *end++ = '.';
  *end++ = (char)('0' + cycles % 100 / 10);
  *end++ = (char)('0' + cycles % 10);
  end = append_decimal(append_text(end, " batches="), batches->count);
  end = append_decimal(append_text(end, " operations="), operations);
  end = append_text(end, batches->wrong == 0 ? " ok\n" : " WRONG\n");
  print(line, (uint32_t)(end - line));
}

void guest_main(uint32_t magic, const uint32_t* multiboot_info);
void guest_main(uint32_t magic, const uint32_t* multiboot_info) {
  const char* options = start_system(magic, multiboot_info);
  const uint32_t count = option_number(options, "batches", 20);
  uint32_t wrong = 0;
  for (uint32_t i = 1; i < kNanoCount; ++i) {
    const struct Nano* nano = &kNanos[i];
    if (!option_allows(options, "nanos", nano->name)) continue;
    if (nano->prepare != 0) nano->prepare();
    struct Batches batches = {nano, count, nano->loops, 0, 0};
    if (nano->user) {
      run_in_user_mode(measure, &batches);
    } else {
      measure(&batches);
    }
    print_result(&batches, fastest_empty_loop(count, nano->loops));
    wrong |= batches.wrong;
  }
  exit_guest(wrong == 0 ? kExitOk : kExitWrong);
}
