// Instructions about descriptor tables, task and table registers, and selectors.
#include <Zydis/Mnemonic.h>

#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {
/// What is #UD in real mode and V86 mode, and where only ring 0 may do it.
bool has_descriptors(BlockEmitter& e, const Instruction& in) {
  if (e.mode().has(mode::kProtected) && !e.mode().has(mode::kV86)) return true;
  lower_undefined(e, in);
  return false;
}
bool in_ring_0(BlockEmitter& e, const Instruction& in) {
  if (e.mode().cpl() == 0) return true;
  e.raise(Vector::kGeneralProtection, true, 0, in);
  return false;
}
}  // namespace

/// LGDT and LIDT. Nothing is derived from these registers: who needs a descriptor looks there.
void lower_table_load(BlockEmitter& e, const Instruction& in) {
  if (!in_ring_0(e, in)) return;
  Operand limit = *in.memory();
  limit.size = 2;
  Operand base = limit;
  base.size = 4;
  base.value += 2;
  e.a.movzx(host::kValue.r32(), e.open(limit, in, 2, AccessKind::kRead));
  const x86::Mem second = e.open(base, in, 4, AccessKind::kRead);
  e.clobber_flags();
  e.a.mov(host::kAddress.r32(), second);
  if (prefixed_size(e, in) == OperandSize::k16)  // A base of 24 bits.
    e.a.and_(host::kAddress.r32(), asmjit::imm(0xffffff));
  const bool gdt = in.mnemonic == ZYDIS_MNEMONIC_LGDT;
  const int32_t field = gdt ? TRAPLINE_CONTEXT_OFFSET(cpu.gdtr) : TRAPLINE_CONTEXT_OFFSET(cpu.idtr);
  e.a.mov(host::context(field + int32_t{offsetof(TableRegister, base)}, 4), host::kAddress.r32());
  e.a.mov(host::context(field + int32_t{offsetof(TableRegister, limit)}, 2), host::kValue.r16());
}

/// SGDT and SIDT.
void lower_table_store(BlockEmitter& e, const Instruction& in) {
  e.flush_esp();
  e.load_offset(*in.memory(), in);
  const uint32_t which = in.mnemonic == ZYDIS_MNEMONIC_SIDT;
  e.system(SystemOp::kStoreTable,
           which | uint32_t{in.memory()->segment} << 4 | uint32_t{in.address_size} << 8 |
               length_payload(in),
           in);
}

/// LLDT and LTR.
void lower_system_segment_load(BlockEmitter& e, const Instruction& in) {
  if (!has_descriptors(e, in) || !in_ring_0(e, in)) return;
  load_word(e, in, in.operand[0]);
  const uint32_t which = in.mnemonic == ZYDIS_MNEMONIC_LTR;
  e.system(SystemOp::kLoadSystemSegment, which | length_payload(in), in);
}

/// SLDT, STR and SMSW: a register of 32 bits gets all of CR0, or a selector with zeros.
void lower_word_store(BlockEmitter& e, const Instruction& in) {
  const bool status = in.mnemonic == ZYDIS_MNEMONIC_SMSW;
  if (!status && !has_descriptors(e, in)) return;
  constexpr auto kSelector = static_cast<int32_t>(offsetof(Segment, selector));
  const auto load = [&] {
    if (status)
      e.a.mov(host::kValue.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(cpu.cr0), 4));
    else if (in.mnemonic == ZYDIS_MNEMONIC_STR)
      e.a.movzx(host::kValue.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(cpu.tr) + kSelector, 2));
    else
      e.a.movzx(host::kValue.r32(),
                host::context(TRAPLINE_CONTEXT_OFFSET(cpu.ldtr) + kSelector, 2));
  };
  const Operand& to = in.operand[0];
  if (to.kind == Operand::Kind::kMemory) {
    const x86::Mem memory = e.open(to, in, 2, AccessKind::kWrite);
    load();
    e.a.mov(memory, host::kValue.r16());
    e.commit();
    return;
  }
  if (to.number == kEsp) e.flush_esp();
  load();
  e.a.mov(general_register(to), host::sized(host::kValue, to.size));
}

/// LAR and LSL.
void lower_selector_query(BlockEmitter& e, const Instruction& in) {
  if (!has_descriptors(e, in)) return;
  load_word(e, in, in.operand[1]);
  const Operand& to = in.operand[0];
  const uint32_t which = in.mnemonic == ZYDIS_MNEMONIC_LSL;
  e.system(SystemOp::kQuerySelector,
           which | uint32_t{to.number} << 4 | uint32_t{to.size} << 8 | length_payload(in), in);
}

}  // namespace trapline
