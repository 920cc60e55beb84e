// The forms: every shape of instruction that user code can execute on the CPUs we model, found by
// decoding the opcode maps with every prefix that matters. A form is a mnemonic with the kinds and
// sizes of its visible operands and the prefixes that change what it does; its name says all of it:
// "lock a16 add m32, r32".
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "translator/decoder.h"

namespace trapline::differential {

/// One way to encode a form, up to operands in memory, displacements and immediates.
struct Skeleton {
  std::array<uint8_t, 3> prefixes{};
  uint8_t prefix_count = 0;
  bool two_byte = false;
  uint8_t opcode = 0;
  bool has_modrm = false;
  uint8_t modrm = 0;  ///< mod 3: kept as it is. Else only the reg field counts.
};

struct Form {
  std::string name;
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  ZydisInstructionCategory category = ZYDIS_CATEGORY_INVALID;
  ZydisISASet isa_set = ZYDIS_ISA_SET_INVALID;
  bool memory = false;  ///< Has an operand in memory, visible or not (stacks aside).
  /// Carries LOCK where that is #UD. All of these are one form.
  bool illegal_lock = false;
  std::vector<Skeleton> skeletons;
};

struct Exclusion {
  ZydisMnemonic mnemonic;
  const char* reason;
};

/// Mnemonics that user code can execute and that are not compared, with the reason.
const std::vector<Exclusion>& exclusions();
const char* exclusion_reason(ZydisMnemonic mnemonic);

/// All forms, sorted by name. Built once per call: keep the result.
std::vector<Form> derive_forms(CodeSize size = CodeSize::k32);

ZydisDecoder make_decoder(CodeSize size = CodeSize::k32);

struct Decoded {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/// Whether an operand is the implicit top of the stack.
bool is_stack_operand(const ZydisDecodedOperand& operand);
/// A memory operand that is really accessed or whose address is computed (LEA).
bool is_memory_operand(const ZydisDecodedOperand& operand);

}  // namespace trapline::differential
