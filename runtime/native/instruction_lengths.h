// How long 32-bit instructions are, of any processor: what Zydis says, and what it has said about
// the same prefix, opcode and ModRM byte before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trapline {

class InstructionLengths {
 public:
  static constexpr uint8_t kNone = 0xff;

  InstructionLengths();
  /// Of the instruction that the bytes begin with; kNone if there is none, or if it goes on behind
  /// them.
  uint8_t of(std::span<const uint8_t> bytes);
  /// Without remembering.
  static uint8_t ask(std::span<const uint8_t> bytes);

 private:
  static constexpr size_t kLongest = 15;
  static constexpr size_t kPrefixes = 5;  ///< None, 66, F2, F3, any segment's.
  static constexpr size_t kMaps = 2;      ///< One-byte opcodes, those after 0F.

  /// By prefix, map, opcode and ModRM: the length, with kBase if a SIB byte's base 5 adds four; 0
  /// is not known.
  std::vector<uint8_t> with_modrm_;
  /// By prefix, map and opcode, of instructions without ModRM; 0 is not known, or not so.
  std::vector<uint8_t> without_;
};

}  // namespace trapline
