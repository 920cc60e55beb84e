// Accesses of a block that lie at constant distances from a register which stays as it is between
// them, mostly fields of one structure. They share one look-up: the first one has a guard, which
// finds out that all of them lie in its page, and what is to be added to the register. That is in
// the value register then, so one look-up is shared at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "translator/instruction.h"
#include "translator/mode.h"

namespace trapline {

struct BlockAnalysis;

struct SharedLookup {
  enum class Kind : uint8_t {
    kNear,      ///< The byte that the register points to counts as accessed, too.
    kFar,       ///< The sum of register and distance may wrap around.
    kConstant,  ///< There is no register; all lie in one page.
  };
  Kind kind = Kind::kNear;
  uint8_t base = Operand::kNoRegister;
  /// The bytes of all accesses are [low, high), relative to the register.
  int32_t low = 0;
  int32_t high = 0;
  uint32_t first = 0;  ///< The instruction of its first access.
  uint32_t last = 0;   ///< And that of its last one.
  uint32_t count = 0;  ///< Of its accesses.
  bool used = false;   ///< False: its accesses are like any other.

  bool holds(const Operand& operand, uint32_t size) const {
    const auto at = static_cast<int32_t>(operand.value);
    return used && operand.base == base && operand.index == Operand::kNoRegister && at >= low &&
           int64_t{at} + size <= high;
  }
};

/// A block's, and what finding them needs memory for.
struct SharedLookups {
  struct Choice {
    uint32_t spared = 0;
    int16_t chosen = -1;  ///< The last one that is used,
    int32_t before = -1;  ///< and the instruction before its first.
  };
  std::vector<SharedLookup> all;  ///< By their first accesses.
  std::vector<int16_t> open;      ///< Those whose register has not changed yet.
  std::vector<Choice> best;       ///< Up to and with each instruction.
};

/// Finds them, and sets InstructionAnalysis::shared. What is known of the stack and of a loop must
/// be in `out`.
void find_shared_lookups(std::span<const Instruction> instructions, const ModeKey& mode,
                         BlockAnalysis& out);

}  // namespace trapline
