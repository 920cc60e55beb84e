// PUSHF, POPF, CLI and STI: the flags that are VCPU state, beside the arithmetic ones.
#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

x86::Mem interrupt_waits() {
  return host::context(TRAPLINE_CONTEXT_OFFSET(hot.interrupt_waits), 1);
}
asmjit::Imm mask(uint32_t bits) {
  return asmjit::imm(static_cast<int32_t>(bits));
}

/// The whole of EFLAGS as PUSHF shows it, into the value register. Needs the saved flags.
void load_flags_image(BlockEmitter& e) {
  const x86::Gp image = host::kValue.r32();
  const x86::Gp part = host::kDelta.r32();
  e.a.mov(image, host::kFlags.r32());
  e.a.shr(image, 8);
  e.a.and_(image, mask(eflags::kArithmetic & 0xff));
  e.a.movzx(part, host::kFlags.r8());
  e.a.shl(part, 11);
  e.a.or_(image, part);
  e.a.mov(part, state_flags());
  e.a.and_(part, mask(~(eflags::kArithmetic | eflags::kRf | eflags::kVm)));
  e.a.or_(image, part);
}

/// The arithmetic flags of the image in the value register become the saved flags.
void take_arithmetic_flags(BlockEmitter& e) {
  e.a.movzx(host::kFlags.r32(), host::kValue.r8());
  e.a.shl(host::kFlags.r32(), 8);
  e.a.shr(host::kValue.r32(), 11);
  e.a.and_(host::kValue.r32(), 1);
  e.a.or_(host::kFlags.r32(), host::kValue.r32());
  e.set_flags_saved();
}

/// V86 mode is like any other where IOPL allows everything.
bool flags_in_code(const BlockEmitter& e) {
  const ModeKey& m = e.mode();
  return e.switches().inline_system && (!m.has(mode::kV86) || m.has(mode::kSensitiveOk));
}

}  // namespace

void lower_pushf(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  if (!flags_in_code(e)) {
    e.system(SystemOp::kFlagsPush, size | length_payload(in), in);
    return;
  }
  e.save_flags_for_exit();
  load_flags_image(e);
  e.a.mov(e.open_stack(-size, size, AccessKind::kWrite), host::sized(host::kValue, size));
  change_esp(e, -size);
  e.commit();
}

void lower_popf(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  const uint32_t payload = size | length_payload(in);
  if (!flags_in_code(e)) {
    e.system(SystemOp::kFlagsPop, payload, in);
    return;
  }
  const x86::Gp image = host::kValue.r32();
  const x86::Gp change = host::kDelta.r32();
  const x86::Mem top = e.open_stack(0, size, AccessKind::kRead);
  if (size == 2)
    e.a.movzx(image, top);
  else
    e.a.mov(image, top);
  e.clobber_flags();
  // What anything but IF and the arithmetic flags would change is for C++ to decide.
  const CodeLabel elsewhere = e.system_elsewhere(SystemOp::kFlagsPop, payload);
  constexpr uint32_t kPlain = eflags::kArithmetic | eflags::kIf | eflags::kFixed1;
  e.a.mov(change, image);
  e.a.xor_(change, state_flags());
  const uint32_t popped = size == 2 ? 0xffff : ~0u;
  e.a.test(change, mask(eflags::kDefined & ~kPlain & popped));
  e.a.jnz(elsewhere);
  if (e.mode().has(mode::kSensitiveOk)) {
    const CodeLabel stays_off = e.a.new_label();
    e.a.test(image, mask(eflags::kIf));
    e.a.jz(stays_off);
    e.a.cmp(interrupt_waits(), 0);
    e.a.jne(elsewhere);
    e.a.bind(stays_off);
    e.a.and_(change, mask(eflags::kIf));
    e.a.xor_(state_flags(), change);
  }
  take_arithmetic_flags(e);
  change_esp(e, size);
}

void lower_cli(BlockEmitter& e, const Instruction& in) {
  if (!e.mode().has(mode::kSensitiveOk)) {
    e.system(SystemOp::kCli, length_payload(in), in);  // PVI and VME may still allow it.
    return;
  }
  e.clobber_flags();
  e.a.and_(state_flags(), mask(~eflags::kIf));
}

void lower_sti(BlockEmitter& e, const Instruction& in) {
  if (!e.switches().inline_system || !e.mode().has(mode::kSensitiveOk) || !e.shadow_fits()) {
    e.system(SystemOp::kSti, length_payload(in), in);
    return;
  }
  e.clobber_flags();
  const CodeLabel elsewhere = e.system_elsewhere(SystemOp::kSti, length_payload(in));
  const CodeLabel on_already = e.a.new_label();
  e.a.test(state_flags(), mask(eflags::kIf));
  e.a.jnz(on_already);
  e.a.cmp(interrupt_waits(), 0);
  e.a.jne(elsewhere);
  e.a.or_(state_flags(), mask(eflags::kIf));
  e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.shadow), 1),
          asmjit::imm(static_cast<int>(InterruptShadow::kSti)));
  e.a.bind(on_already);
  e.begin_shadow();
}

}  // namespace trapline
