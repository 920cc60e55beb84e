// Which general registers an instruction writes, and what its code needs besides.
#pragma once

#include <cstdint>

#include "translator/instruction.h"
#include "translator/mode.h"

namespace trapline {

inline constexpr uint32_t kAllRegisters = 0xff;

/// Bits by register number, for instructions that are re-emitted as they are, MOV, LEA, BSWAP,
/// PUSH, POP, near branches and those of the x87; all bits for every other one,
/// and for segment, control and debug registers.
uint32_t written_registers(const Instruction& in);

/// Whether the code for the instruction leaves host::kValue alone. For what is re-emitted as it is,
/// MOV, LEA, BSWAP, branches that do not end the block, and PUSH and POP on a 32-bit stack; false
/// for every other one.
bool keeps_value_register(const Instruction& in, const ModeKey& mode);

/// Whether a segment, control or debug register is an operand: code of its own, whatever the
/// mnemonic.
bool names_system_register(const Instruction& in);

/// Whether the operand is a general register, or a part of one.
inline bool is_general(const Operand& o) {
  return o.kind == Operand::Kind::kRegister && o.register_kind <= RegisterKind::kGpr32;
}
/// Whether the operand is the whole of that general register.
inline bool is_register(const Operand& o, uint8_t number) {
  return o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kGpr32 &&
         o.number == number;
}

/// JMP, CALL or RET between segments.
bool is_far_transfer(const Instruction& in);

}  // namespace trapline
