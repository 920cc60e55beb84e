// The thunk `enter_code` knows the execution tables of code segments that C++ has found before.
// Only when it has said yes does anything change that the guest could see; what has been pushed by
// then lies below the stack pointer, and C++, which does the whole instruction otherwise, pushes
// the same.
#include "translator/lower_real.h"

#include <Zydis/Mnemonic.h>

#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

constexpr uint32_t kCallFrame = 4;       ///< IP and CS.
constexpr uint32_t kInterruptFrame = 6;  ///< And FLAGS.
constexpr uint32_t kRoom = 8;            ///< For either.

x86::Mem scratch() {
  return host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4);
}
bool possible(const BlockEmitter& e, const Instruction& in) {
  const ModeKey& m = e.mode();
  const bool descriptors = m.has(mode::kProtected) && !m.has(mode::kV86);
  const bool single = e.request().variant == Variant::kSingle;
  return e.switches().inline_system && !single && !e.careful() && !descriptors && !m.code32() &&
         !m.stack32() && !m.has(mode::kTrap) && m.cs_limit == 0xffff && m.breakpoints == 0 &&
         in.operand_size == 2 && !e.ends_shadow();
}

/// Goes to IP in the address register and CS in the delta register, or elsewhere. Behind it comes
/// what else changes, and then arrive(); address and delta register must stay.
void enter_code(BlockEmitter& e, const CodeLabel& elsewhere) {
  e.a.mov(host::kValue.r32(), e.mode().word);
  e.call_thunk(&Thunks::enter_code);
  e.a.jnz(elsewhere);
}

void arrive(BlockEmitter& e, int32_t stack_change) {
  if (e.esp_is_whole()) {
    e.adjust_esp(stack_change);
    e.flush_esp();
  } else if (stack_change) {
    e.a.lea(host::kValue.r32(), x86::ptr(host::kStack, stack_change));
    e.a.mov(host::kStack.r16(), host::kValue.r16());
  }
  e.a.jmp(host::kDelta);
  e.end_block();
}

/// Leaves for C++ where the bytes at SP + displacement would wrap.
void check_wrap(BlockEmitter& e, bool pushes, const CodeLabel& elsewhere) {
  if (e.esp_is_whole()) return;
  e.a.movzx(host::kAddress.r32(), host::kStack.r16());
  e.a.cmp(host::kAddress.r32(), pushes ? kRoom : 0x10000 - kRoom);
  if (pushes)
    e.a.jb(elsewhere);
  else
    e.a.ja(elsewhere);
}

CodeLabel begin(BlockEmitter& e, SystemOp op, uint32_t payload) {
  e.flush_esp();
  e.save_flags_for_exit();
  return e.system_elsewhere(op, payload);
}

/// The whole of FLAGS into the value register.
void load_flags(BlockEmitter& e) {
  const x86::Gp image = host::kValue.r32();
  const x86::Gp part = host::kDelta.r32();
  e.a.mov(image, host::kFlags.r32());
  e.a.shr(image, 8);
  e.a.and_(image, asmjit::imm(int32_t{eflags::kArithmetic & 0xff}));
  e.a.movzx(part, host::kFlags.r8());
  e.a.shl(part, 11);
  e.a.or_(image, part);
  e.a.mov(part, state_flags());
  e.a.and_(part, asmjit::imm(static_cast<int32_t>(0xffff & ~eflags::kArithmetic)));
  e.a.or_(image, part);
}

x86::Mem selector_of_cs() {
  return host::context(
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) +
          static_cast<int32_t>(kCs * sizeof(Segment) + offsetof(Segment, selector)),
      2);
}

}  // namespace

bool lower_real_jump(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  if (!possible(e, in) || to.kind != Operand::Kind::kFar) return false;
  const CodeLabel elsewhere = begin(e, SystemOp::kInterpret, length_payload(in));
  e.a.mov(host::kDelta.r32(), uint32_t{to.selector});
  e.a.mov(host::kAddress.r32(), static_cast<uint32_t>(to.value & 0xffff));
  enter_code(e, elsewhere);
  arrive(e, 0);
  return true;
}

bool lower_real_call(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  if (!possible(e, in) || to.kind != Operand::Kind::kFar) return false;
  const CodeLabel elsewhere = begin(e, SystemOp::kInterpret, length_payload(in));
  check_wrap(e, true, elsewhere);
  // Where there is paging, CS is the first push that can fault.
  if (e.mode().has(mode::kV86)) e.open_stack(-2, 2, AccessKind::kWrite);
  e.a.movzx(host::kValue.r32(), selector_of_cs());
  e.a.shl(host::kValue.r32(), 16);
  e.a.or_(host::kValue.r32(), asmjit::imm(static_cast<int32_t>(in.next_eip() & 0xffff)));
  e.a.mov(e.open_stack(-4, 4, AccessKind::kWrite), host::kValue.r32());
  e.a.mov(host::kDelta.r32(), uint32_t{to.selector});
  e.a.mov(host::kAddress.r32(), static_cast<uint32_t>(to.value & 0xffff));
  enter_code(e, elsewhere);
  arrive(e, -int32_t{kCallFrame});
  return true;
}

bool lower_real_return(BlockEmitter& e, const Instruction& in) {
  if (!possible(e, in)) return false;
  const bool releases = in.operand_count && in.operand[0].kind == Operand::Kind::kImmediate;
  const int32_t release = releases ? static_cast<int32_t>(in.operand[0].value & 0xffff) : 0;
  const CodeLabel elsewhere = begin(e, SystemOp::kInterpret, length_payload(in));
  check_wrap(e, false, elsewhere);
  e.a.mov(host::kValue.r32(), e.open_stack(0, 4, AccessKind::kRead));
  e.a.mov(host::kDelta.r32(), host::kValue.r32());
  e.a.shr(host::kDelta.r32(), 16);
  e.a.movzx(host::kAddress.r32(), host::kValue.r16());
  enter_code(e, elsewhere);
  arrive(e, static_cast<int32_t>(kCallFrame) + release);
  return true;
}

bool lower_real_interrupt(BlockEmitter& e, const Instruction& in) {
  if (!possible(e, in) || e.mode().has(mode::kProtected) || in.mnemonic != ZYDIS_MNEMONIC_INT)
    return false;
  const auto vector = static_cast<uint32_t>(in.operand[0].value & 0xff);
  constexpr auto kForm = static_cast<uint32_t>(InterruptForm::kIntN);
  const CodeLabel elsewhere =
      begin(e, SystemOp::kInterrupt, vector | kForm << 8 | length_payload(in));
  check_wrap(e, true, elsewhere);
  e.a.movzx(host::kDelta.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(cpu.idtr.limit), 2));
  e.a.cmp(host::kDelta.r32(), vector * 4 + 3);
  e.a.jb(elsewhere);
  load_flags(e);
  e.a.shl(host::kValue.r32(), 16);
  e.a.movzx(host::kDelta.r32(), selector_of_cs());
  e.a.or_(host::kValue.r32(), host::kDelta.r32());
  e.a.mov(e.open_stack(-4, 4, AccessKind::kWrite), host::kValue.r32());
  e.a.mov(e.open_stack(-6, 2, AccessKind::kWrite),
          asmjit::imm(int64_t{static_cast<int16_t>(in.next_eip())}));
  e.a.mov(host::kAddress.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(cpu.idtr.base), 4));
  e.a.add(host::kAddress.r32(), vector * 4);
  const x86::Mem entry = e.open_linear(4, AccessKind::kRead);
  e.a.mov(host::kValue.r32(), entry);
  e.a.mov(host::kDelta.r32(), host::kValue.r32());
  e.a.shr(host::kDelta.r32(), 16);
  e.a.movzx(host::kAddress.r32(), host::kValue.r16());
  enter_code(e, elsewhere);
  constexpr uint32_t kCleared = eflags::kIf | eflags::kTf | eflags::kRf | eflags::kAc;
  e.a.and_(state_flags(), asmjit::imm(static_cast<int32_t>(~kCleared)));
  arrive(e, -int32_t{kInterruptFrame});
  return true;
}

bool lower_real_iret(BlockEmitter& e, const Instruction& in) {
  if (!possible(e, in) || e.mode().has(mode::kProtected)) return false;
  const CodeLabel elsewhere =
      begin(e, SystemOp::kIret, uint32_t{in.operand_size} | length_payload(in));
  check_wrap(e, false, elsewhere);
  e.a.movzx(host::kValue.r32(), e.open_stack(4, 2, AccessKind::kRead));
  e.a.mov(scratch(), host::kValue.r32());
  e.a.mov(host::kValue.r32(), e.open_stack(0, 4, AccessKind::kRead));
  // What anything but IF and the arithmetic flags would change is for C++ to decide, and what lets
  // an interrupt in that waits.
  constexpr uint32_t kDecided = eflags::kTf | eflags::kDf | eflags::kIopl | eflags::kNt;
  const CodeLabel stays_off = e.a.new_label();
  e.a.mov(host::kDelta.r32(), scratch());
  e.a.xor_(host::kDelta.r32(), state_flags());
  e.a.test(host::kDelta.r32(), asmjit::imm(static_cast<int32_t>(kDecided)));
  e.a.jnz(elsewhere);
  e.a.cmp(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.nmi_blocked), 1), 0);
  e.a.jne(elsewhere);
  e.a.test(scratch(), asmjit::imm(static_cast<int32_t>(eflags::kIf)));
  e.a.jz(stays_off);
  e.a.cmp(host::context(TRAPLINE_CONTEXT_OFFSET(hot.interrupt_waits), 1), 0);
  e.a.jne(elsewhere);
  e.a.bind(stays_off);
  e.a.mov(host::kDelta.r32(), host::kValue.r32());
  e.a.shr(host::kDelta.r32(), 16);
  e.a.movzx(host::kAddress.r32(), host::kValue.r16());
  enter_code(e, elsewhere);
  e.a.mov(host::kValue.r32(), scratch());
  e.a.and_(state_flags(), asmjit::imm(static_cast<int32_t>(~(eflags::kIf | eflags::kRf))));
  e.a.mov(host::kFlags.r32(), host::kValue.r32());
  e.a.and_(host::kFlags.r32(), asmjit::imm(static_cast<int32_t>(eflags::kIf)));
  e.a.or_(state_flags(), host::kFlags.r32());
  e.a.movzx(host::kFlags.r32(), host::kValue.r8());
  e.a.shl(host::kFlags.r32(), 8);
  e.a.shr(host::kValue.r32(), 11);
  e.a.and_(host::kValue.r32(), 1);
  e.a.or_(host::kFlags.r32(), host::kValue.r32());
  arrive(e, int32_t{kInterruptFrame});
  return true;
}

}  // namespace trapline
