// Limits and types of a program's own segments, which processors obey and QEMU does not.
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>

#include "check.h"

static sigjmp_buf escape;
static void on_fault(int number) {
  siglongjmp(escape, number);
}

static uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void define(int index, unsigned limit, unsigned contents, unsigned read_only) {
  struct user_desc segment = {.entry_number = (unsigned)index,
                              .base_addr = (unsigned)(uintptr_t)words};
  segment.limit = limit;
  segment.contents = contents;
  segment.read_exec_only = read_only;
  segment.seg_32bit = 1;
  segment.useable = 1;
  REQUIRE("modify_ldt", syscall(SYS_modify_ldt, 1, &segment, sizeof segment) == 0);
  __asm__ volatile("movw %w0, %%fs" ::"r"(index << 3 | 7));
}

static int reads(uint32_t offset) {
  uint32_t value = 0;
  if (sigsetjmp(escape, 1) != 0) return 0;
  __asm__ volatile("movl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
  return value == words[offset / 4] || offset % 4 != 0;
}

static int writes(uint32_t offset) {
  if (sigsetjmp(escape, 1) != 0) return 0;
  __asm__ volatile("movb $9, %%fs:(%0)" ::"r"(offset) : "memory");
  return words[offset / 4] == 9;
}

int main(void) {
  signal(SIGSEGV, on_fault);
  define(3, 15, MODIFY_LDT_CONTENTS_DATA, 0);
  CHECK("inside", reads(0) && reads(12) && writes(8));
  CHECK("beyond", !reads(16) && !reads(13) && !writes(16) && !reads(0xfffffffc));
  define(3, 15, MODIFY_LDT_CONTENTS_DATA, 1);
  CHECK("read-only", reads(4) && !writes(4));
  define(4, 15, MODIFY_LDT_CONTENTS_STACK, 0);
  CHECK("expand-down", reads(16) && reads(28) && !reads(12) && !reads(13) && !reads(0));
  __asm__ volatile("movw %w0, %%fs" ::"r"(0));
  CHECK("null selector", !reads(0));
  return finish();
}
