// The little system under the benchmarks: flat segments, a task state for ring 3, paging with an
// identity map of 4 KiB pages, interrupt gates, the console on COM1, and the exit by port 0xF4.
#pragma once

#include <stdint.h>

enum {
  kKernelCode = 0x08,
  kKernelData = 0x10,
  kUserCode = 0x1b,
  kUserData = 0x23,
  kTaskSelector = 0x28,
};

enum { kPageBytes = 4096, kMappedBytes = 64 << 20, kMappedTables = kMappedBytes >> 22 };
enum { kPresent = 1, kWritable = 2, kUserPage = 4 };

/// Boot: checks the boot loader's magic, then sets everything up. All pages are open to ring 3.
/// Returns the command line.
const char* start_system(uint32_t magic, const uint32_t* multiboot_info);

/// An interrupt gate (IF off in the handler).
void set_gate(uint32_t vector, void (*handler)(void), uint32_t privilege);

extern uint32_t page_directory[1024];
extern uint32_t page_tables[kMappedTables][1024];

static inline uint32_t* page_entry(const void* address) {
  const uint32_t page = (uint32_t)address / kPageBytes;
  return &page_tables[page / 1024][page % 1024];
}

void print(const char* text, uint32_t bytes);
void print_text(const char* text);

/// QEMU's isa-debug-exit: the VMM's exit status is code << 1 | 1.
enum ExitCode { kExitOk = 0, kExitWrong = 1, kExitException = 2 };
__attribute__((noreturn)) void exit_guest(enum ExitCode code);

/// Returns when the function does.
void enter_user(void (*function)(void*), void* argument, void* stack_top);
/// For the whole of a function that runs in ring 3.
void run_in_user_mode(void (*function)(void*), void* argument);

static inline void port_write(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t port_read(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
