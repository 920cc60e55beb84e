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
Decoded decode(std::span<const uint8_t> bytes, CodeSize code_size, const CpuModel& model,
               uint32_t eip, Instruction& out);

/// Whether the instruction may leave all flags that it writes as they were: because it repeats, or
/// because it shifts by a count that may be 0.
bool leaves_flags_perhaps(const Instruction& in);

/// The traits that depend on which registers the operands are: all but trait::kStack, as long as
/// the instruction has no implicit ones.
uint8_t register_traits(const Instruction& in);

}  // namespace trapline
