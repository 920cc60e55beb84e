// What operations.asm defines.
#pragma once

#include <stdint.h>

uint32_t nano_empty(uint32_t loops);
uint32_t nano_port_input(uint32_t loops);
uint32_t nano_port_input_e9(uint32_t loops);
uint32_t nano_call_return(uint32_t loops);
uint32_t nano_call_indirect(uint32_t loops);
uint32_t nano_indirect_jump(uint32_t loops);
uint32_t nano_indirect_jump_8(uint32_t loops);
uint32_t nano_pushf(uint32_t loops);
uint32_t nano_popf(uint32_t loops);
uint32_t nano_cli_sti(uint32_t loops);
uint32_t nano_interrupt(uint32_t loops);
uint32_t nano_int80(uint32_t loops);
uint32_t nano_sysenter(uint32_t loops);
uint32_t nano_divide_fault(uint32_t loops);
uint32_t nano_fault_skip(uint32_t loops);
uint32_t nano_fault_fix(uint32_t loops);
uint32_t nano_pte_write(uint32_t loops);
uint32_t nano_pte_write_burst(uint32_t loops);
uint32_t nano_pte_remap(uint32_t loops);
uint32_t nano_invlpg(uint32_t loops);
uint32_t nano_invlpg_touch(uint32_t loops);
uint32_t nano_cr3_switch(uint32_t loops);
uint32_t nano_cr3_switch_touch(uint32_t loops);
uint32_t nano_segment_load(uint32_t loops);
uint32_t nano_rep_movs(uint32_t loops);
uint32_t nano_unaligned_load(uint32_t loops);
uint32_t nano_unaligned_store(uint32_t loops);
uint32_t nano_crossing_load(uint32_t loops);
uint32_t nano_crossing_store(uint32_t loops);
uint32_t nano_rdtsc(uint32_t loops);
uint32_t nano_cpuid(uint32_t loops);
uint32_t nano_smc_next(uint32_t loops);
uint32_t nano_smc_call(uint32_t loops);
uint32_t nano_data_in_code_page(uint32_t loops);

// Handlers; they are entered by the processor only.
void nano_iret_gate(void);
void nano_divide_gate(void);
void nano_fault_skip_gate(void);
void nano_fault_fix_gate(void);
void nano_sysenter_entry(void);
