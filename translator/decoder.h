// Bytes to Instruction, with Zydis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "translator/instruction.h"
#include "vcpu/cpu_model.h"

namespace trapline {

enum class CodeSize : uint8_t { k16, k32 };

enum class Decoded : uint8_t {
  kOk,
  kInvalid,    ///< #UD: no such instruction in this model, or an illegal prefix.
  kTooLong,    ///< #GP: more than 15 bytes.
  kMoreBytes,  ///< The bytes end inside the instruction.
};

/// Decodes one instruction at `eip`. On kInvalid, `out.length` is unspecified.
Decoded decode(std::span<const uint8_t> bytes, CodeSize code_size, bool real_mode,
               const CpuModel& model, uint32_t eip, Instruction& out);

/// What an instruction does to the arithmetic flags, without decoding its operands.
struct FlagEffect {
  uint32_t read = 0;
  uint32_t killed = 0;  ///< Surely overwritten, or left undefined.
  uint8_t length = 0;
  bool goes_on = false;  ///< The next instruction follows for sure.
};
/// False when the bytes are not an instruction that this model has.
bool decode_flag_effect(std::span<const uint8_t> bytes, CodeSize code_size, FlagEffect& out);

}  // namespace trapline
