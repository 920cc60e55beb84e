#include "nano.h"
#include "operations.h"
#include "system.h"

enum { kCheap = 20000, kMiddling = 4000, kDear = 1000 };
enum { kDivide = 0, kPageFault = 14 };
enum { kSysenterCs = 0x174, kSysenterEsp = 0x175, kSysenterEip = 0x176 };

uint8_t nano_pages[8][4096] __attribute__((aligned(4096)));
uint32_t* nano_entry_0;
uint32_t* nano_entry_1;
uint32_t nano_root_a;
uint32_t nano_root_b;

static uint32_t second_directory[1024] __attribute__((aligned(4096)));
static uint32_t second_table[1024] __attribute__((aligned(4096)));
static uint8_t sysenter_stack[4096] __attribute__((aligned(16)));

static void flush(void) {
  uint32_t root;
  __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(root) : : "memory");
}

/// Page 0 and its neighbour present, mapped to their own frames, accessed and dirty.
static void map_pages(void) {
  nano_entry_0 = page_entry(nano_pages[0]);
  nano_entry_1 = page_entry(nano_pages[1]);
  *nano_entry_0 = (uint32_t)nano_pages[0] | kPresent | kWritable | kUserPage;
  flush();
  for (unsigned i = 0; i < 8; ++i) *(volatile uint32_t*)nano_pages[i] = i;
}

static void prepare_divide(void) {
  set_gate(kDivide, nano_divide_gate, 0);
}

static void prepare_interrupt(void) {
  set_gate(0x80, nano_iret_gate, 3);
  set_gate(0x82, nano_iret_gate, 0);
}

static void prepare_fault_skip(void) {
  map_pages();
  *nano_entry_0 &= ~(uint32_t)kPresent;
  flush();
  set_gate(kPageFault, nano_fault_skip_gate, 0);
}

static void prepare_fault_fix(void) {
  map_pages();
  set_gate(kPageFault, nano_fault_fix_gate, 0);
}

static void write_msr(uint32_t index, uint32_t value) {
  __asm__ volatile("wrmsr" : : "c"(index), "a"(value), "d"(0));
}

static void prepare_sysenter(void) {
  write_msr(kSysenterCs, kKernelCode);
  write_msr(kSysenterEsp, (uint32_t)(sysenter_stack + sizeof sysenter_stack));
  write_msr(kSysenterEip, (uint32_t)nano_sysenter_entry);
}

/// The second root shares every page table but the one of nano_pages, where page 2 shows page 3.
static void prepare_roots(void) {
  map_pages();
  const uint32_t table = (uint32_t)nano_pages[2] >> 22;
  const uint32_t page = (uint32_t)nano_pages[2] >> 12 & 1023;
  for (unsigned i = 0; i < 1024; ++i) {
    second_directory[i] = page_directory[i];
    second_table[i] = page_tables[table][i];
  }
  second_directory[table] = (uint32_t)second_table | kPresent | kWritable | kUserPage;
  second_table[page] = (uint32_t)nano_pages[3] | kPresent | kWritable | kUserPage;
  nano_root_a = (uint32_t)page_directory;
  nano_root_b = (uint32_t)second_directory;
}

const struct Nano kNanos[] = {
    {"empty", nano_empty, 1, kCheap, 0, 0},
    {"port-input", nano_port_input, 8, kDear, 0, 0},
    {"port-input-e9", nano_port_input_e9, 8, kDear, 0, 0},
    {"call-return", nano_call_return, 8, kCheap, 0, 0},
    {"call-indirect", nano_call_indirect, 8, kCheap, 0, 0},
    {"indirect-jump", nano_indirect_jump, 8, kCheap, 0, 0},
    {"indirect-jump-8", nano_indirect_jump_8, 1, kCheap, 0, 0},
    {"pushf", nano_pushf, 8, kMiddling, 0, 0},
    {"popf", nano_popf, 8, kMiddling, 0, 0},
    {"cli-sti", nano_cli_sti, 8, kMiddling, 0, 0},
    {"int80-iret", nano_int80, 4, kDear, prepare_interrupt, 1},
    {"sysenter-sysexit", nano_sysenter, 4, kDear, prepare_sysenter, 1},
    {"int-iret-ring0", nano_interrupt, 4, kDear, prepare_interrupt, 0},
    {"divide-fault", nano_divide_fault, 1, kDear, prepare_divide, 0},
    {"page-fault", nano_fault_skip, 1, kDear, prepare_fault_skip, 0},
    {"page-fault-fix", nano_fault_fix, 1, kDear, prepare_fault_fix, 0},
    {"pte-write", nano_pte_write, 4, kMiddling, map_pages, 0},
    {"pte-write-burst", nano_pte_write_burst, 8, kMiddling, map_pages, 0},
    {"pte-remap", nano_pte_remap, 1, kMiddling, map_pages, 0},
    {"invlpg", nano_invlpg, 8, kMiddling, map_pages, 0},
    {"invlpg-touch", nano_invlpg_touch, 8, kMiddling, map_pages, 0},
    {"cr3-switch", nano_cr3_switch, 8, kDear, prepare_roots, 0},
    {"cr3-switch-touch", nano_cr3_switch_touch, 8, kDear, prepare_roots, 0},
    {"segment-load", nano_segment_load, 8, kMiddling, 0, 0},
    {"rep-movs-64", nano_rep_movs, 4, kMiddling, map_pages, 0},
    {"unaligned-load", nano_unaligned_load, 8, kMiddling, map_pages, 0},
    {"unaligned-store", nano_unaligned_store, 8, kMiddling, map_pages, 0},
    {"crossing-load", nano_crossing_load, 8, kMiddling, map_pages, 0},
    {"crossing-store", nano_crossing_store, 8, kMiddling, map_pages, 0},
    {"rdtsc", nano_rdtsc, 8, kMiddling, 0, 0},
    {"cpuid", nano_cpuid, 1, kDear, 0, 0},
    {"smc-next", nano_smc_next, 1, kDear, 0, 0},
    {"smc-call", nano_smc_call, 1, kDear, 0, 0},
    {"data-in-code-page", nano_data_in_code_page, 8, kMiddling, 0, 0},
};
const unsigned kNanoCount = sizeof kNanos / sizeof kNanos[0];
