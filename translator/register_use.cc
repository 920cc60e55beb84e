#include "translator/register_use.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>
#include <span>

#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

uint32_t written_registers(const Instruction& in) {
  constexpr uint32_t kEaxEdx = 1u << kEax | 1u << kEdx;
  const LoweringFunction lower = in.row->lower;
  uint32_t mask = 0;
  if (names_system_register(in)) return kAllRegisters;
  for (int i = 0; i < in.operand_count; ++i)
    if (const Operand& o = in.operand[i]; is_general(o) && o.written) mask |= 1u << o.number;
  if (lower == lower_generic) {
    // Those with results that have no operand.
    switch (in.mnemonic) {
      case ZYDIS_MNEMONIC_IMUL:
        return in.operand_count == 1 ? mask | kEaxEdx : mask;
      case ZYDIS_MNEMONIC_MUL:
      case ZYDIS_MNEMONIC_CMPXCHG:
      case ZYDIS_MNEMONIC_CMPXCHG8B:
        return mask | kEaxEdx;
      default:
        return mask;
    }
  }
  if (lower == lower_no_operand) return mask | kEaxEdx;
  if (lower == lower_push || lower == lower_pop || lower == lower_call || lower == lower_ret)
    return mask | 1u << kEsp;
  if (lower == lower_mov || lower == lower_lea || lower == lower_bswap || lower == lower_x87 ||
      lower == lower_jcc || lower == lower_jump || lower == lower_nothing)
    return mask;
  return kAllRegisters;
}

bool names_system_register(const Instruction& in) {
  return std::ranges::any_of(std::span(in.operand).first(in.operand_count), [](const Operand& o) {
    return o.kind == Operand::Kind::kRegister &&
           (o.register_kind == RegisterKind::kSegment ||
            o.register_kind == RegisterKind::kControl || o.register_kind == RegisterKind::kDebug ||
            o.register_kind == RegisterKind::kOther);
  });
}

bool keeps_value_register(const Instruction& in, const ModeKey& mode) {
  const LoweringFunction lower = in.row->lower;
  if (lower == lower_generic || lower == lower_mov)
    return !uses_high_byte(in) && !names_system_register(in);
  if (lower == lower_push || lower == lower_pop) {
    const Operand& o = in.operand[0];
    return mode.stack32() && !names_system_register(in) && !names_esp(in) &&
           o.kind != Operand::Kind::kMemory;
  }
  if (lower == lower_bswap) return in.operand[0].size == 4;
  if (lower == lower_jump) return in.operand[0].kind == Operand::Kind::kRelative;
  return lower == lower_lea || lower == lower_jcc || lower == lower_no_operand ||
         lower == lower_nothing;
}

bool is_far_transfer(const Instruction& in) {
  const Operand& o = in.operand[0];
  if (o.kind == Operand::Kind::kFar) return true;
  if (in.opcode == 0xff && in.opcode_map == 0) {
    const int extension = in.modrm >> 3 & 7;
    return extension == 3 || extension == 5;
  }
  return in.opcode_map == 0 && (in.opcode == 0xca || in.opcode == 0xcb);
}

}  // namespace trapline
