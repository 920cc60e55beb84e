// MOV and POP of a segment register, VERR and VERW.
#include <Zydis/Mnemonic.h>

#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

constexpr uint32_t kSavedZero = 0x4000;  ///< ZF in the flags register.

/// Whether emitted code may find out what a load of the segment register makes: see LoadedSegment.
bool load_may_be_known(const BlockEmitter& e, uint8_t segment) {
  const ModeKey& m = e.mode();
  return e.switches().inline_system && segment != kSs && m.cpl() == 0 && m.has(mode::kProtected) &&
         !m.has(mode::kV86);
}

/// Loads the selector in the address register where that was done before with the same descriptor.
/// Otherwise `op` does the whole instruction.
void load_known(BlockEmitter& e, uint8_t segment, SystemOp op, uint32_t payload) {
  e.clobber_flags();
  e.a.mov(host::kDelta.r32(), static_cast<uint32_t>(segment * sizeof(Segment)));
  // The classes of DS and ES are part of the mode.
  const bool any_class = segment == kFs || segment == kGs;
  e.call_thunk(any_class ? &Thunks::load_segment : &Thunks::load_segment_of_class);
  e.a.jnz(e.system_elsewhere(op, payload));
}

}  // namespace

void lower_segment_load(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const Operand& from = in.operand[1];
  if (to.number == kCs) {
    e.raise(Vector::kInvalidOpcode, false, 0, in);
    return;
  }
  if (from.kind == Operand::Kind::kMemory) {
    e.a.movzx(host::kAddress.r32(), e.open(from, in, 2, AccessKind::kRead));
  } else {
    if (from.number == kEsp) e.flush_esp();
    e.a.movzx(host::kAddress.r32(), host::guest(from.number).r16());
  }
  const uint32_t payload = to.number | length_payload(in);
  if (load_may_be_known(e, to.number))
    load_known(e, to.number, SystemOp::kLoadSegment, payload);
  else
    e.system(SystemOp::kLoadSegment, payload, in);
}

void lower_segment_store(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const int32_t field =
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) +
      static_cast<int32_t>(in.operand[1].number * sizeof(Segment) + offsetof(Segment, selector));
  if (to.kind == Operand::Kind::kMemory) {
    const x86::Mem memory = e.open(to, in, 2, AccessKind::kWrite);
    e.a.movzx(host::kValue.r32(), host::context(field, 2));
    e.a.mov(memory, host::kValue.r16());
    e.commit();
    return;
  }
  if (to.number == kEsp) e.flush_esp();
  e.a.movzx(host::kValue.r32(), host::context(field, 2));
  e.a.mov(general_register(to), host::sized(host::kValue, to.size));
}

void lower_segment_pop(BlockEmitter& e, const Instruction& in) {
  const uint8_t segment = in.operand[0].number;
  const uint8_t size = in.operand_size;
  const uint32_t payload = segment | uint32_t{size} << 8 | length_payload(in);
  if (!load_may_be_known(e, segment)) {
    e.system(SystemOp::kPopSegment, payload, in);
    return;
  }
  const x86::Mem slot = e.open_stack(0, size, AccessKind::kRead);
  e.a.mov(host::sized(host::kAddress, size), slot);
  e.a.movzx(host::kAddress.r32(), host::kAddress.r16());
  load_known(e, segment, SystemOp::kPopSegment, payload);
  change_esp(e, size);
}

/// VERR and VERW change ZF alone.
void lower_verify(BlockEmitter& e, const Instruction& in) {
  if (!e.switches().inline_system || !e.mode().has(mode::kProtected) || e.mode().has(mode::kV86)) {
    lower_interpreted(e, in);
    return;
  }
  const Operand& from = in.operand[0];
  if (from.kind == Operand::Kind::kMemory) {
    e.a.movzx(host::kAddress.r32(), e.open(from, in, 2, AccessKind::kRead));
  } else {
    if (from.number == kEsp) e.flush_esp();
    e.a.movzx(host::kAddress.r32(), host::guest(from.number).r16());
  }
  e.save_flags_for_exit();
  e.gate(Gate::kVerify, in.mnemonic == ZYDIS_MNEMONIC_VERW);
  e.a.and_(host::kFlags.r32(), asmjit::imm(~kSavedZero));
  e.a.or_(host::kFlags.r32(), host::kDelta.r32());
}

}  // namespace trapline
