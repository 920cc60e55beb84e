// Which general registers an instruction writes.
#pragma once

#include <cstdint>

#include "translator/instruction.h"

namespace trapline {

inline constexpr uint32_t kAllRegisters = 0xff;

/// Bits by register number, for instructions that are re-emitted as they are, MOV, LEA, BSWAP,
/// PUSH, POP, near branches and those of the x87; all bits for every other one,
/// and for segment, control and debug registers.
uint32_t written_registers(const Instruction& in);

/// Whether the operand is a general register, or a part of one.
inline bool is_general(const Operand& o) {
  return o.kind == Operand::Kind::kRegister && o.register_kind <= RegisterKind::kGpr32;
}

}  // namespace trapline
