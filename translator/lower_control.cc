// Branches, calls and returns.
#include <Zydis/Mnemonic.h>

#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "translator/lower_real.h"
#include "translator/register_use.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

/// JMP, CALL and RET between segments: C++ does them, as they may change the mode.
void far_transfer(BlockEmitter& e, const Instruction& in, SystemOp op) {
  const Operand& to = in.operand[0];
  const x86::Mem scratch = host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4);
  if (op == SystemOp::kFarReturn) {
    const bool releases = in.operand_count && to.kind == Operand::Kind::kImmediate;
    e.a.mov(host::kAddress.r32(), releases ? static_cast<uint32_t>(to.value & 0xffff) : 0);
  } else if (to.kind == Operand::Kind::kFar) {
    e.a.mov(scratch, asmjit::imm(to.selector));
    e.a.mov(host::kAddress.r32(), static_cast<uint32_t>(to.value));
  } else {
    Operand offset = to;
    offset.size = in.operand_size;
    Operand selector = offset;
    selector.size = 2;
    selector.value += in.operand_size;
    const x86::Mem low = e.open(offset, in, in.operand_size, AccessKind::kRead);
    if (in.operand_size == 2)
      e.a.movzx(host::kValue.r32(), low);
    else
      e.a.mov(host::kValue.r32(), low);
    e.a.movzx(host::kAddress.r32(), e.open(selector, in, 2, AccessKind::kRead));
    e.a.mov(scratch, host::kAddress.r32());
    e.a.mov(host::kAddress.r32(), host::kValue.r32());
  }
  e.system(op, in.operand_size | length_payload(in), in);
}

/// Where a branch is taken whose flags, if it may fault, have been saved.
void take_branch(BlockEmitter& e, const Instruction& in, uint32_t target) {
  if (target <= e.mode().cs_limit) {
    e.branch_always(target);
    return;
  }
  e.raise(Vector::kGeneralProtection, true, 0, in);
  e.continue_block();
}

/// The target of an indirect branch into the address register.
void load_target(BlockEmitter& e, const Instruction& in) {
  const Operand& target = in.operand[0];
  if (target.kind == Operand::Kind::kMemory) {
    const x86::Mem memory = e.open(target, in, in.operand_size, AccessKind::kRead);
    if (in.operand_size == 2)
      e.a.movzx(host::kAddress.r32(), memory);
    else
      e.a.mov(host::kAddress.r32(), memory);
  } else if (in.operand_size == 2) {
    if (target.number == kEsp) e.flush_esp();
    e.a.movzx(host::kAddress.r32(), general_register(target));
  } else {
    if (target.number == kEsp) e.flush_esp();
    e.a.mov(host::kAddress.r32(), general_register(target));
  }
  e.check_indirect_limit(in);
}

void push_return(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  const x86::Mem slot = e.open_stack(-size, size, AccessKind::kWrite);
  const auto value = size == 2 ? int64_t{static_cast<int16_t>(in.next_eip())}
                               : int64_t{static_cast<int32_t>(in.next_eip())};
  e.a.mov(slot, asmjit::imm(value));
  if (size == 4)
    e.a.refer(Reference::To::kLinear);
  else
    e.stays_here();
  change_esp(e, -size);
}

/// Conditions that one test of the saved image decides: SAHF's byte is in bits 8 to 15, OF in bit
/// 0.
bool image_test(uint8_t condition, uint32_t& mask, bool& when_set) {
  when_set = (condition & 1) == 0;
  switch (condition >> 1) {
    case 0:
      mask = 0xff;  // OF
      return true;
    case 1:
      mask = 0x100;  // CF
      return true;
    case 2:
      mask = 0x4000;  // ZF
      return true;
    case 3:
      mask = 0x4100;  // CF or ZF
      return true;
    case 4:
      mask = 0x8000;  // SF
      return true;
    case 5:
      mask = 0x400;  // PF
      return true;
    default:
      return false;  // SF against OF.
  }
}

}  // namespace

void lower_jump(BlockEmitter& e, const Instruction& in) {
  if (is_far_transfer(in)) {
    if (!lower_real_jump(e, in)) far_transfer(e, in, SystemOp::kFarJump);
    return;
  }
  if (in.operand[0].kind == Operand::Kind::kRelative) {
    if (e.follows_jump()) return;
    const uint32_t target = in.target();
    if (e.target_in_limit(target, in)) e.jump_to(target);
    return;
  }
  load_target(e, in);
  e.jump_indirect();
}

void lower_call(BlockEmitter& e, const Instruction& in) {
  if (is_far_transfer(in)) {
    if (!lower_real_call(e, in)) far_transfer(e, in, SystemOp::kFarCall);
    return;
  }
  if (in.operand[0].kind == Operand::Kind::kRelative) {
    const uint32_t target = in.target();
    if (!e.target_in_limit(target, in)) return;
    push_return(e, in);
    e.commit();
    e.jump_to(target);
    return;
  }
  const Operand& target = in.operand[0];
  if (target.kind == Operand::Kind::kRegister && in.operand_size == 4 && target.number != kEsp &&
      e.mode().cs_limit == 0xffffffffu) {
    push_return(e, in);
    e.commit();
    load_target(e, in);
    e.jump_indirect();
    return;
  }
  load_target(e, in);
  e.a.mov(host::kValue.r32(), host::kAddress.r32());
  push_return(e, in);
  e.commit();
  e.a.mov(host::kAddress.r32(), host::kValue.r32());
  e.jump_indirect();
}

void lower_ret(BlockEmitter& e, const Instruction& in) {
  if (is_far_transfer(in)) {
    if (!lower_real_return(e, in)) far_transfer(e, in, SystemOp::kFarReturn);
    return;
  }
  const uint8_t size = in.operand_size;
  const x86::Mem slot = e.open_stack(0, size, AccessKind::kRead);
  if (size == 2)
    e.a.movzx(host::kAddress.r32(), slot);
  else
    e.a.mov(host::kAddress.r32(), slot);
  e.check_indirect_limit(in);
  const int32_t release =
      size + (in.operand_count && in.operand[0].kind == Operand::Kind::kImmediate
                  ? static_cast<int32_t>(in.operand[0].value & 0xffff)
                  : 0);
  change_esp(e, release);
  e.jump_indirect();
}

void lower_jcc(BlockEmitter& e, const Instruction& in) {
  const uint8_t condition = in.opcode & 15;
  const uint32_t target = in.target();
  const int32_t lost = e.mutated(Mutation::kSideExitLosesStack) ? e.forget_esp() : 0;
  e.flush_esp();
  uint32_t mask = 0;
  bool when_set = false;
  const bool by_image = !e.flags_in_host() && !e.recomputes_flags() && !e.closes_page_loop() &&
                        image_test(condition, mask, when_set);
  auto code = static_cast<x86::CondCode>(condition);
  if (by_image) {
    e.a.test(host::kFlags.r32(), mask);
    code = when_set ? x86::CondCode::kNZ : x86::CondCode::kZ;
  } else {
    e.need_flags();
  }
  if (target > e.mode().cs_limit) {
    auto& cold = e.add_cold(BlockEmitter::Cold::Kind::kRaise);
    cold.fault = Fault::general_protection();
    const CodeLabel entry = cold.entry;
    e.save_flags_for_exit();
    if (!by_image) {
      e.need_flags();
      e.set_flags_saved();
    }
    e.a.j(code, entry);
    return;
  }
  e.branch_to(code, target);
  e.adjust_esp(lost);
}

void lower_jecxz(BlockEmitter& e, const Instruction& in) {
  const uint32_t target = in.target();
  e.flush_esp();
  if (target > e.mode().cs_limit) e.save_flags_for_exit();
  CodeLabel other = e.a.new_label();
  if (in.address_size == 4) {
    const uint32_t zero = e.a.jecxz_forward();
    e.a.jmp(other);
    e.a.land_short(zero);
  } else {
    e.save_flags_for_exit();
    e.a.test(x86::cx, x86::cx);
    e.a.jnz(other);
  }
  take_branch(e, in, target);
  e.a.bind(other);
}

void lower_loop(BlockEmitter& e, const Instruction& in) {
  const uint32_t target = in.target();
  e.flush_esp();
  e.save_flags_for_exit();
  CodeLabel done = e.a.new_label();
  e.a.lea(host::kDelta.r32(), x86::ptr(x86::rcx, -1));
  if (in.address_size == 4) {
    e.a.mov(x86::ecx, host::kDelta.r32());
    e.a.test(x86::ecx, x86::ecx);
  } else {
    e.a.mov(x86::cx, host::kDelta.r16());
    e.a.test(x86::cx, x86::cx);
  }
  e.a.jz(done);
  if (in.mnemonic != ZYDIS_MNEMONIC_LOOP) {
    e.a.test(host::kFlags.r32(), 0x4000);
    if (in.mnemonic == ZYDIS_MNEMONIC_LOOPE)
      e.a.jz(done);
    else
      e.a.jnz(done);
  }
  if (target > e.mode().cs_limit) {  // The fault leaves the count as it was.
    e.a.lea(host::kDelta.r32(), x86::ptr(x86::rcx, 1));
    e.a.mov(host::sized(x86::rcx, in.address_size), host::sized(host::kDelta, in.address_size));
  }
  take_branch(e, in, target);
  e.a.bind(done);
}

}  // namespace trapline
