// Re-emitting an instruction in the bytes that the guest has for it: most of 32-bit code means the
// same in 64-bit mode, but for prefixes, and for memory operands, which are replaced.
#pragma once

#include <asmjit/x86.h>

#include <cstdint>
#include <span>

#include "translator/host_assembler.h"
#include "translator/instruction.h"

namespace trapline {

/// For an instruction of 32-bit code that does not name AH, CH, DH or BH beside memory or ESP.
/// `bytes` are its own; `memory` is what its memory operand has become, nullptr when it has none.
/// False, and nothing is emitted, when it has to be encoded anew.
bool emit_guest_encoding(HostAssembler& a, const Instruction& in, std::span<const uint8_t> bytes,
                         const asmjit::x86::Mem* memory);

}  // namespace trapline
