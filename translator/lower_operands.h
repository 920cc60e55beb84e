// Guest operands as host operands. For the lowering functions only.
#pragma once

#include "translator/block_emitter.h"

namespace trapline {

/// The flags that the host's registers do not hold: all but the arithmetic ones.
inline asmjit::x86::Mem state_flags() {
  return host::context(TRAPLINE_CONTEXT_OFFSET(cpu.eflags), 4);
}
/// The register that values pass through, as a part of `size` bytes.
inline asmjit::x86::Gp value_of(uint8_t size) {
  return host::sized(host::kValue, size);
}
asmjit::x86::Gp general_register(const Operand& operand);
asmjit::Operand host_register(const Operand& operand);
/// Sign-extended from the operand's size, as the assembler wants it.
asmjit::Imm host_immediate(const Operand& operand);
inline AccessKind access_kind(const Operand& operand) {
  if (!operand.written) return AccessKind::kRead;
  return operand.read ? AccessKind::kModify : AccessKind::kWrite;
}
inline bool uses_high_byte(const Instruction& in) {
  return in.traits & trait::kHighByte;
}
inline bool names_esp(const Instruction& in) {
  return in.traits & trait::kNamesEsp;
}
/// By CS.D and the prefix alone, for those of which the decoder says otherwise.
OperandSize prefixed_size(const BlockEmitter& e, const Instruction& in);
/// A word of a register or of memory into the address register.
void load_word(BlockEmitter& e, const Instruction& in, const Operand& from);
/// ESP, or SP where the stack is a 16-bit one, plus a constant.
void change_esp(BlockEmitter& e, int32_t bytes);
/// The instruction's length as system operations want it.
constexpr uint32_t length_payload(const Instruction& in) {
  return uint32_t{in.length} << 24;
}

/// A legacy register that the instruction does not name, to stand in where REX cannot be.
asmjit::x86::Gp unused_legacy_register(const Instruction& in);

}  // namespace trapline
