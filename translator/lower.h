// The lowering functions that the instruction table names, one group per file.
#pragma once

namespace trapline {

class BlockEmitter;
struct Instruction;

// lower_generic.cc: re-emitted as they are, memory operand rewritten.
void lower_generic(BlockEmitter& e, const Instruction& in);
void lower_no_operand(BlockEmitter& e, const Instruction& in);
void lower_x87(BlockEmitter& e, const Instruction& in);
void lower_nothing(BlockEmitter& e, const Instruction& in);
void lower_touch(BlockEmitter& e, const Instruction& in);
void lower_fpu_state(BlockEmitter& e, const Instruction& in);
void lower_masked_store(BlockEmitter& e, const Instruction& in);
void lower_mxcsr_load(BlockEmitter& e, const Instruction& in);

// lower_integer.cc
void lower_lea(BlockEmitter& e, const Instruction& in);
void lower_translate(BlockEmitter& e, const Instruction& in);
void lower_bound(BlockEmitter& e, const Instruction& in);
void lower_bit_test(BlockEmitter& e, const Instruction& in);
void lower_divide(BlockEmitter& e, const Instruction& in);
void lower_bswap(BlockEmitter& e, const Instruction& in);
void lower_mov(BlockEmitter& e, const Instruction& in);

// lower_decimal.cc
void lower_decimal(BlockEmitter& e, const Instruction& in);

// lower_stack.cc
void lower_push(BlockEmitter& e, const Instruction& in);
void lower_pop(BlockEmitter& e, const Instruction& in);
void lower_leave(BlockEmitter& e, const Instruction& in);
void lower_enter(BlockEmitter& e, const Instruction& in);
void lower_push_all(BlockEmitter& e, const Instruction& in);
void lower_pop_all(BlockEmitter& e, const Instruction& in);

// lower_control.cc
void lower_jump(BlockEmitter& e, const Instruction& in);
void lower_call(BlockEmitter& e, const Instruction& in);
void lower_ret(BlockEmitter& e, const Instruction& in);
void lower_jcc(BlockEmitter& e, const Instruction& in);
void lower_loop(BlockEmitter& e, const Instruction& in);
void lower_jecxz(BlockEmitter& e, const Instruction& in);

// lower_string.cc
void lower_string(BlockEmitter& e, const Instruction& in);

// lower_segment.cc: of MOV's and POP's forms, those with a segment register
void lower_segment_load(BlockEmitter& e, const Instruction& in);
void lower_segment_store(BlockEmitter& e, const Instruction& in);
void lower_far_pointer(BlockEmitter& e, const Instruction& in);
void lower_segment_pop(BlockEmitter& e, const Instruction& in);
void lower_verify(BlockEmitter& e, const Instruction& in);

// lower_flags.cc
void lower_pushf(BlockEmitter& e, const Instruction& in);
void lower_popf(BlockEmitter& e, const Instruction& in);
void lower_cli(BlockEmitter& e, const Instruction& in);
void lower_sti(BlockEmitter& e, const Instruction& in);

// lower_tables.cc: descriptor tables, and what a selector would allow
void lower_table_load(BlockEmitter& e, const Instruction& in);
void lower_table_store(BlockEmitter& e, const Instruction& in);
void lower_system_segment_load(BlockEmitter& e, const Instruction& in);
void lower_word_store(BlockEmitter& e, const Instruction& in);
void lower_selector_query(BlockEmitter& e, const Instruction& in);

// lower_system.cc
void lower_interpreted(BlockEmitter& e, const Instruction& in);
void lower_undefined(BlockEmitter& e, const Instruction& in);
void lower_int(BlockEmitter& e, const Instruction& in);
void lower_iret(BlockEmitter& e, const Instruction& in);
void lower_hlt(BlockEmitter& e, const Instruction& in);
void lower_in(BlockEmitter& e, const Instruction& in);
void lower_out(BlockEmitter& e, const Instruction& in);
void lower_string_port(BlockEmitter& e, const Instruction& in);
void lower_direction(BlockEmitter& e, const Instruction& in);
void lower_control_register(BlockEmitter& e, const Instruction& in);
void lower_debug_register(BlockEmitter& e, const Instruction& in);
void lower_without_operands(BlockEmitter& e, const Instruction& in);
void lower_cache_flush(BlockEmitter& e, const Instruction& in);
void lower_status_word_load(BlockEmitter& e, const Instruction& in);
void lower_rdtsc(BlockEmitter& e, const Instruction& in);
void lower_invlpg(BlockEmitter& e, const Instruction& in);
void lower_sysenter(BlockEmitter& e, const Instruction& in);
void lower_sysexit(BlockEmitter& e, const Instruction& in);

}  // namespace trapline
