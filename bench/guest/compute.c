// The compute kernels as a guest: mode=ring0, mode=ring3 or, without the option, both in turn.
#include "harness.h"
#include "kernel.h"
#include "system.h"

static const char* mode;
static int failures;

static void report(const struct Sample* sample) {
  char line[kLineBytes];
  print(line, format_sample(line, sample, mode));
  if (sample->checksum != kKernels[sample->kernel].checksum) ++failures;
}

/// The kernel's side of interrupt 0x80; EBX is the sample.
__attribute__((used)) void report_from_user(const struct Sample* sample) {
  report(sample);
}

void report_gate(void);
__asm__(
    ".globl report_gate\n"
    "report_gate:\n"
    "  pusha\n"
    "  push %ebx\n"
    "  call report_from_user\n"
    "  pop %ebx\n"
    "  popa\n"
    "  iret\n");

/// What runs in ring 3 besides the kernels and their harness.
#define USER_TEXT __attribute__((section(".user_text")))

USER_TEXT static void report_to_kernel(const struct Sample* sample) {
  __asm__ volatile("int $0x80" : : "b"(sample) : "memory");
}

USER_TEXT static void measure_in_user_mode(void* options) {
  measure_kernels(options, report_to_kernel);
}

void guest_main(uint32_t magic, const uint32_t* multiboot_info);
void guest_main(uint32_t magic, const uint32_t* multiboot_info) {
  struct Options options = parse_options(start_system(magic, multiboot_info));
  set_gate(0x80, report_gate, 3);
  if (option_allows(options.text, "mode", "ring0")) {
    mode = "ring0";
    measure_kernels(&options, report);
  }
  if (option_allows(options.text, "mode", "ring3")) {
    mode = "ring3";
    run_in_user_mode(measure_in_user_mode, &options);
  }
  exit_guest(failures == 0 ? kExitOk : kExitWrong);
}
