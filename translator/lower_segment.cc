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
  return e.switches().inline_system && segment != kSs && m.has(mode::kProtected) &&
         !m.has(mode::kV86);
}

/// Whether a load changes nothing but selector and base, by the mode: see ModeKey.
bool loads_plainly(const BlockEmitter& e, uint8_t segment) {
  const ModeKey& m = e.mode();
  const bool descriptors = m.has(mode::kProtected) && !m.has(mode::kV86);
  if (!e.switches().inline_system || descriptors) return false;
  return segment == kFs || segment == kGs ||
         m.segment_class(static_cast<SegmentName>(segment)) == SegmentClass::k64K;
}

/// Where SS moves, so does what the stack window is an offset from.
void drop_window_of_other(BlockEmitter& e, const x86::Mem& base) {
  const CodeLabel same = e.a.new_label();
  e.a.cmp(host::kAddress.r32(), base);
  e.a.je(same);
  for (int32_t i = 0; i < kWindowClasses; ++i)
    e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.window_limit) + 8 * i, 8), asmjit::imm(-1));
  e.a.bind(same);
}

/// The load that loads_plainly() is about. FS and GS, whose classes are not part of the mode, are
/// looked at first; `op` does the whole instruction where they are something else.
void load_plainly(BlockEmitter& e, uint8_t segment, SystemOp op, uint32_t payload) {
  const int32_t field =
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) + static_cast<int32_t>(segment * sizeof(Segment));
  const auto part = [field](size_t offset, uint32_t size) {
    return host::context(field + static_cast<int32_t>(offset), size);
  };
  e.clobber_flags();
  if (segment == kFs || segment == kGs) {
    const CodeLabel elsewhere = e.system_elsewhere(op, payload);
    const Segment fresh = Segment::real(0, false);
    const uint32_t attributes =
        fresh.attributes | (e.mode().has(mode::kV86) ? segment::kDplMask : 0);
    e.a.cmp(part(offsetof(Segment, klass), 1), static_cast<int>(SegmentClass::k64K));
    e.a.jne(elsewhere);
    e.a.cmp(part(offsetof(Segment, attributes), 4), asmjit::imm(static_cast<int>(attributes)));
    e.a.jne(elsewhere);
  }
  e.a.mov(part(offsetof(Segment, selector), 2), host::kAddress.r16());
  e.a.shl(host::kAddress.r32(), 4);
  if (segment == kSs && !e.mutated(Mutation::kWindowOfOtherStack))
    drop_window_of_other(e, part(offsetof(Segment, base), 4));
  e.a.mov(part(offsetof(Segment, base), 4), host::kAddress.r32());
}

/// Behind MOV SS and POP SS, interrupts wait for another instruction.
bool shadow_possible(const BlockEmitter& e, uint8_t segment) {
  return segment != kSs || e.shadow_fits();
}
void cast_shadow(BlockEmitter& e, uint8_t segment) {
  if (segment != kSs) return;
  e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.shadow), 1),
          asmjit::imm(static_cast<int>(InterruptShadow::kMovSs)));
  e.begin_shadow();
}

/// Loads the selector in the address register where that was done before with the same descriptor.
/// Otherwise `op` does the whole instruction, and looks at the register's lower half alone.
void load_known(BlockEmitter& e, const Instruction& in, uint8_t segment, SystemOp op,
                uint32_t payload, uint8_t popped = 0) {
  e.clobber_flags();
  if (const uint32_t key = loaded_segment_key(0, e.mode().cpl()); key != 0)
    e.a.or_(host::kAddress.r32(), asmjit::imm(static_cast<int>(key)));
  e.a.mov(host::kDelta.r32(), static_cast<uint32_t>(segment * sizeof(Segment)));
  if (segment == kFs || segment == kGs) {
    e.call_thunk(&Thunks::load_segment);
    e.a.jnz(e.system_elsewhere(op, payload));
    return;
  }
  // The classes of DS and ES are part of the mode. A far pointer has a register to load as well.
  e.call_thunk(&Thunks::load_segment_of_class);
  e.a.jnz(op == SystemOp::kLoadFarPointer ? e.system_elsewhere(op, payload)
                                          : e.class_elsewhere(op, payload, in, popped));
}

}  // namespace

void load_word(BlockEmitter& e, const Instruction& in, const Operand& from) {
  if (from.kind == Operand::Kind::kMemory) {
    e.a.movzx(host::kAddress.r32(), e.open(from, in, 2, AccessKind::kRead));
  } else {
    if (from.number == kEsp) e.flush_esp();
    e.a.movzx(host::kAddress.r32(), host::guest(from.number).r16());
  }
}

void lower_segment_load(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const Operand& from = in.operand[1];
  if (to.number == kCs) {
    e.raise(Vector::kInvalidOpcode, false, 0, in);
    return;
  }
  load_word(e, in, from);
  const uint32_t payload = to.number | length_payload(in);
  if (loads_plainly(e, to.number) && shadow_possible(e, to.number)) {
    load_plainly(e, to.number, SystemOp::kLoadSegment, payload);
    cast_shadow(e, to.number);
  } else if (load_may_be_known(e, to.number)) {
    load_known(e, in, to.number, SystemOp::kLoadSegment, payload);
  } else {
    e.system(SystemOp::kLoadSegment, payload, in);
  }
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
  const bool plainly = loads_plainly(e, segment) && shadow_possible(e, segment);
  if (!plainly && !load_may_be_known(e, segment)) {
    e.system(SystemOp::kPopSegment, payload, in);
    return;
  }
  const x86::Mem slot = e.open_stack(0, size, AccessKind::kRead);
  e.a.mov(host::sized(host::kAddress, size), slot);
  e.a.movzx(host::kAddress.r32(), host::kAddress.r16());
  if (plainly) {
    load_plainly(e, segment, SystemOp::kPopSegment, payload);
    cast_shadow(e, segment);
  } else {
    load_known(e, in, segment, SystemOp::kPopSegment, payload, size);
  }
  change_esp(e, size);
}

/// LDS and its kin. The register changes last: it may be part of the address.
void lower_far_pointer(BlockEmitter& e, const Instruction& in) {
  const auto segment = static_cast<uint8_t>(in.mnemonic == ZYDIS_MNEMONIC_LDS   ? kDs
                                            : in.mnemonic == ZYDIS_MNEMONIC_LES ? kEs
                                            : in.mnemonic == ZYDIS_MNEMONIC_LSS ? kSs
                                            : in.mnemonic == ZYDIS_MNEMONIC_LFS ? kFs
                                                                                : kGs);
  const Operand& to = in.operand[0];
  Operand offset = in.operand[1];
  offset.size = in.operand_size;
  Operand selector = offset;
  selector.size = 2;
  selector.value += in.operand_size;
  if (to.number == kEsp) e.flush_esp();
  const x86::Mem low = e.open(offset, in, in.operand_size, AccessKind::kRead);
  e.a.mov(host::sized(host::kValue, in.operand_size), low);
  e.a.movzx(host::kAddress.r32(), e.open(selector, in, 2, AccessKind::kRead));
  e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4), host::kValue.r32());
  const uint32_t payload =
      segment | uint32_t{to.number} << 3 | uint32_t{in.operand_size} << 8 | length_payload(in);
  if (loads_plainly(e, segment)) {
    load_plainly(e, segment, SystemOp::kLoadFarPointer, payload);
  } else if (load_may_be_known(e, segment)) {
    load_known(e, in, segment, SystemOp::kLoadFarPointer, payload);
  } else {
    e.system(SystemOp::kLoadFarPointer, payload, in);
    return;
  }
  e.a.mov(host::sized(host::guest64(to.number), in.operand_size),
          host::sized(host::kValue, in.operand_size));
}

/// VERR and VERW change ZF alone.
void lower_verify(BlockEmitter& e, const Instruction& in) {
  if (!e.switches().inline_system || !e.mode().has(mode::kProtected) || e.mode().has(mode::kV86)) {
    lower_interpreted(e, in);
    return;
  }
  const Operand& from = in.operand[0];
  load_word(e, in, from);
  e.save_flags_for_exit();
  e.gate(Gate::kVerify, in.mnemonic == ZYDIS_MNEMONIC_VERW);
  e.a.and_(host::kFlags.r32(), asmjit::imm(~kSavedZero));
  e.a.or_(host::kFlags.r32(), host::kDelta.r32());
}

}  // namespace trapline
