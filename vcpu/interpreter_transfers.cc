// Jumps, calls, returns and interrupts.
#include "vcpu/execution.h"

namespace trapline {
namespace {

struct FarPointer {
  uint16_t selector = 0;
  uint32_t offset = 0;
};

bool is_far(const Execution& x) {
  return x.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

OrFault<FarPointer> far_pointer(Execution& x) {
  if (!x.is_memory(0)) return FarPointer{x.operands[0].ptr.segment, x.operands[0].ptr.offset};
  const EffectiveAddress at = x.address(0);
  TRAPLINE_TRY_LET(offset, x.load(at, x.operand_bytes()));
  TRAPLINE_TRY_LET(selector, x.load(at, 2, x.operand_bytes()));
  return FarPointer{static_cast<uint16_t>(selector), static_cast<uint32_t>(offset)};
}

OrFault<uint32_t> near_target(Execution& x) {
  if (x.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
    return x.next_eip + static_cast<uint32_t>(x.operands[0].imm.value.s);
  return x.read(0);
}

// Far transfers set EIP; a task switch loads RF with the rest of EFLAGS.
OrFault<void> far_done(Execution& x, const OrFault<void>& result, uint16_t task) {
  x.moved = true;
  x.keeps_rf = x.state.tr.selector != task;
  return result;
}

OrFault<void> jmp(Execution& x) {
  if (!is_far(x)) {
    TRAPLINE_TRY_LET(target, near_target(x));
    return x.go_to(target);
  }
  const uint16_t task = x.state.tr.selector;
  TRAPLINE_TRY_LET(to, far_pointer(x));
  return far_done(x, far_jump(x.cpu, to.selector, to.offset, x.operand_size(), x.next_eip), task);
}

OrFault<void> call(Execution& x) {
  if (is_far(x)) {
    const uint16_t task = x.state.tr.selector;
    TRAPLINE_TRY_LET(to, far_pointer(x));
    return far_done(x, far_call(x.cpu, to.selector, to.offset, x.operand_size(), x.next_eip), task);
  }
  TRAPLINE_TRY_LET(target, near_target(x));
  const uint32_t eip = x.state.eip;
  TRAPLINE_TRY(x.go_to(target));
  const OrFault<void> pushed = x.push(x.next_eip);
  if (!pushed.ok()) x.state.eip = eip;
  return pushed;
}

OrFault<void> ret(Execution& x) {
  const bool has_release = x.operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
  const auto release = static_cast<uint16_t>(has_release ? x.operands[0].imm.value.u : 0);
  if (is_far(x)) {
    x.moved = true;
    return far_return(x.cpu, x.operand_size(), release);
  }
  std::array<uint32_t, 1> target;
  TRAPLINE_TRY(peek_stack(x.cpu, 0, x.operand_size(), target));
  TRAPLINE_TRY(x.go_to(target[0]));
  x.drop(x.operand_bytes() + release);
  return {};
}

OrFault<void> interrupt_return(Execution& x) {
  x.moved = x.keeps_rf = true;
  return iret(x.cpu, x.operand_size(), x.next_eip);
}

OrFault<void> interrupt(Execution& x, uint8_t vector, SoftwareInterrupt form) {
  x.moved = x.keeps_rf = true;
  return software_interrupt(x.cpu, vector, x.next_eip, form);
}

OrFault<void> int_n(Execution& x) {
  return interrupt(x, static_cast<uint8_t>(x.operands[0].imm.value.u), SoftwareInterrupt::kIntN);
}
OrFault<void> int1(Execution& x) {
  return interrupt(x, static_cast<uint8_t>(Vector::kDebug), SoftwareInterrupt::kInt1);
}
OrFault<void> int3(Execution& x) {
  return interrupt(x, static_cast<uint8_t>(Vector::kBreakpoint), SoftwareInterrupt::kInt3);
}
OrFault<void> into(Execution& x) {
  if (!(x.state.eflags & eflags::kOf)) return {};
  return interrupt(x, static_cast<uint8_t>(Vector::kOverflow), SoftwareInterrupt::kInto);
}

OrFault<void> bound(Execution& x) {
  const uint32_t size = x.operand_bytes();
  const auto sign_extend = [size](uint64_t value) {
    return size == 2 ? static_cast<int16_t>(value) : static_cast<int32_t>(value);
  };
  const EffectiveAddress at = x.address(1);
  TRAPLINE_TRY_LET(lower, x.load(at, size));
  TRAPLINE_TRY_LET(upper, x.load(at, size, size));
  TRAPLINE_TRY_LET(raw, x.read(0));
  const int32_t index = sign_extend(raw);
  if (index < sign_extend(lower) || index > sign_extend(upper)) return Fault::plain(Vector::kBound);
  return {};
}

OrFault<void> system_enter(Execution& x) {
  x.moved = true;
  return sysenter(x.cpu);
}
OrFault<void> system_exit(Execution& x) {
  x.moved = true;
  return sysexit(x.cpu);
}

OrFault<void> undefined(Execution&) {
  return Fault::invalid_opcode();
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_JMP, jmp},
    {ZYDIS_MNEMONIC_CALL, call},
    {ZYDIS_MNEMONIC_RET, ret},
    {ZYDIS_MNEMONIC_IRET, interrupt_return},
    {ZYDIS_MNEMONIC_IRETD, interrupt_return},
    {ZYDIS_MNEMONIC_INT, int_n},
    {ZYDIS_MNEMONIC_INT1, int1},
    {ZYDIS_MNEMONIC_INT3, int3},
    {ZYDIS_MNEMONIC_INTO, into},
    {ZYDIS_MNEMONIC_BOUND, bound},
    {ZYDIS_MNEMONIC_SYSENTER, system_enter, InterpreterRow::kNone, requires_feature(Feature::kSep)},
    {ZYDIS_MNEMONIC_SYSEXIT, system_exit, InterpreterRow::kNone, requires_feature(Feature::kSep)},
    {ZYDIS_MNEMONIC_UD0, undefined},
    {ZYDIS_MNEMONIC_UD1, undefined},
    {ZYDIS_MNEMONIC_UD2, undefined},
};

}  // namespace

std::span<const InterpreterRow> transfer_rows() {
  return kRows;
}

}  // namespace trapline
