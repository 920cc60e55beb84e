/* The first task of a GNU Mach that has no Hurd: it uses its memory, its stack and the coprocessor as
   the kernel hands them out, page by page, and says what was wrong through the kernel's console. The
   kernel is entered by Mach's own way, a far call through a call gate. */

#define PAGE 4096
#define PAGES 2048

static volatile unsigned memory[PAGES * PAGE / sizeof(unsigned)];
static int failed;

static void mach_print(const char *text) {
  int number = -30; /* The trap's own. */
  /* The kernel skips one word, where a library's stub has its return address. */
  asm volatile("push %1\n\tpush $0\n\tlcall $7, $0\n\tadd $8, %%esp"
               : "+a"(number)
               : "r"(text)
               : "ecx", "edx", "memory", "cc");
}

static void check(const char *what, int holds) {
  if (holds) return;
  failed = 1;
  mach_print("FAIL ");
  mach_print(what);
  mach_print("\n");
}

/* Pages that nobody has touched are zero, and keep what is written. */
static void check_memory(void) {
  unsigned zero = 1, kept = 1;
  for (unsigned page = 0; page < PAGES; ++page) {
    zero &= memory[page * PAGE / sizeof(unsigned)] == 0;
    memory[page * PAGE / sizeof(unsigned)] = page * 2654435761u;
  }
  for (unsigned page = 0; page < PAGES; ++page)
    kept &= memory[page * PAGE / sizeof(unsigned)] == page * 2654435761u;
  check("fresh memory is zero", zero);
  check("memory keeps what is written", kept);
}

static __attribute__((noinline)) unsigned deep(unsigned level) {
  volatile unsigned frame[256];
  frame[0] = level;
  frame[255] = level == 0 ? 0 : deep(level - 1);
  return frame[0] + frame[255];
}

/* The first x87 instruction of a task makes the kernel switch the coprocessor to it. */
static void check_floats(void) {
  volatile double sum = 0;
  for (int i = 1000; i > 0; --i) sum += 1.0 / ((double)i * i);
  check("floating point", sum > 1.643934566 && sum < 1.643934567);
}

void _start(void) {
  check_memory();
  check("the stack", deep(60) == 60 * 61 / 2);
  check_floats();
  mach_print(failed ? "the task failed\n" : "the task passed\n");
  for (;;) asm volatile("pause");
}
