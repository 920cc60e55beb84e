#include "system.h"

#include "text.h"

enum { kMultibootMagic = 0x2badb002, kHasCommandLine = 4, kCommandLineIndex = 4 };
enum { kCom1 = 0x3f8, kLineStatus = 5, kTransmitterEmpty = 0x20, kDebugExit = 0xf4 };

struct TableRegister {
  uint16_t limit;
  uint32_t base;
} __attribute__((packed));

struct TaskState {
  uint32_t link, esp0, ss0, rest[22];
  uint16_t trap, io_map;
};

uint32_t page_directory[1024] __attribute__((aligned(4096)));
uint32_t page_tables[kMappedTables][1024] __attribute__((aligned(4096)));

extern void (*const exception_stubs[32])(void);
void leave_user(void);

struct TaskState task_state;
static uint64_t gdt[6];
static uint64_t idt[256];
static uint8_t user_stack[1 << 20] __attribute__((aligned(4096)));

static void load_segments(void) {
  const uint32_t task = (uint32_t)&task_state;
  gdt[1] = 0x00cf9b000000ffff;
  gdt[2] = 0x00cf93000000ffff;
  gdt[3] = 0x00cffb000000ffff;
  gdt[4] = 0x00cff3000000ffff;
  gdt[5] = 0x0000890000000000 | (sizeof task_state - 1) | (uint64_t)(task & 0xffffff) << 16 |
           (uint64_t)(task >> 24) << 56;
  const struct TableRegister gdtr = {sizeof gdt - 1, (uint32_t)gdt};
  __asm__ volatile(
      "lgdt %0\n\t"
      "ljmp %1, $1f\n"
      "1:\n\t"
      "mov %2, %%ds\n\t"
      "mov %2, %%es\n\t"
      "mov %2, %%fs\n\t"
      "mov %2, %%gs\n\t"
      "mov %2, %%ss"
      :
      : "m"(gdtr), "i"(kKernelCode), "r"(kKernelData)
      : "memory");
  task_state.ss0 = kKernelData;
  task_state.io_map = sizeof task_state;
  __asm__ volatile("ltr %w0" : : "r"(kTaskSelector) : "memory");
}

void set_gate(uint32_t vector, void (*handler)(void), uint32_t privilege) {
  const uint32_t address = (uint32_t)handler;
  idt[vector] = (address & 0xffff) | kKernelCode << 16 |
                (uint64_t)(0x8e00 | privilege << 13 | (address & 0xffff0000)) << 32;
}

static void load_gates(void) {
  for (uint32_t vector = 0; vector < 32; ++vector) set_gate(vector, exception_stubs[vector], 0);
  set_gate(0x81, leave_user, 3);
  const struct TableRegister idtr = {sizeof idt - 1, (uint32_t)idt};
  __asm__ volatile("lidt %0" : : "m"(idtr) : "memory");
}

static void start_paging(void) {
  const uint32_t rights = kPresent | kWritable | kUserPage;
  for (uint32_t table = 0; table < kMappedTables; ++table) {
    page_directory[table] = (uint32_t)page_tables[table] | rights;
    for (uint32_t page = 0; page < 1024; ++page)
      page_tables[table][page] = (table * 1024 + page) * kPageBytes | rights;
  }
  uint32_t control;
  __asm__ volatile("mov %0, %%cr3" : : "r"(page_directory) : "memory");
  __asm__ volatile("mov %%cr0, %0" : "=r"(control));
  __asm__ volatile("mov %0, %%cr0" : : "r"(control | 0x80010000u) : "memory");  // PG and WP
}

const char* start_system(uint32_t magic, const uint32_t* multiboot_info) {
  port_write(0x21, 0xff);  // No interrupts from a PC's controllers.
  port_write(0xa1, 0xff);
  load_segments();
  load_gates();
  start_paging();
  __asm__ volatile("sti");
  if (magic != kMultibootMagic) {
    print_text("not started by a Multiboot loader\n");
    exit_guest(kExitWrong);
  }
  if (!(multiboot_info[0] & kHasCommandLine)) return "";
  return (const char*)multiboot_info[kCommandLineIndex];
}

void print(const char* text, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) {
    while (!(port_read(kCom1 + kLineStatus) & kTransmitterEmpty)) {
    }
    port_write(kCom1, (uint8_t)text[i]);
  }
}

void print_text(const char* text) {
  uint32_t bytes = 0;
  while (text[bytes] != 0) ++bytes;
  print(text, bytes);
}

void exit_guest(enum ExitCode code) {
  port_write(kDebugExit, (uint8_t)code);
  for (;;) __asm__ volatile("cli; hlt");
}

void run_in_user_mode(void (*function)(void*), void* argument) {
  enter_user(function, argument, user_stack + sizeof user_stack);
}

/// What the stubs push: PUSHAD's registers, then vector, error code, EIP.
__attribute__((noreturn)) void unexpected_exception(const uint32_t* frame);
void unexpected_exception(const uint32_t* frame) {
  uint32_t fault_address;
  __asm__ volatile("mov %%cr2, %0" : "=r"(fault_address));
  char line[kLineBytes];
  char* end = append_text(line, "unexpected exception ");
  end = append_decimal(end, frame[8]);
  end = append_hex(append_text(end, " error "), frame[9]);
  end = append_hex(append_text(end, " eip "), frame[10]);
  end = append_hex(append_text(end, " cr2 "), fault_address);
  end = append_text(end, "\n");
  print(line, (uint32_t)(end - line));
  exit_guest(kExitException);
}
