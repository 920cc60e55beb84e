// Encoding a form at random, and steering it: choosing register values and memory content so that
// its operands are worth executing.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tests/differential/case.h"
#include "tests/differential/forms.h"
#include "tests/differential/random.h"

namespace trapline::differential {

struct Encoded {
  std::array<uint8_t, 16> bytes{};
  uint8_t length = 0;
  bool valid = false;  ///< `decoded` is meaningful; false for illegal LOCKs.
  Decoded decoded;
};

/// A random encoding of the form: one of its skeletons with random addressing, displacement,
/// immediate, and now and then redundant prefixes.
Encoded encode(const Form& form, const ZydisDecoder& decoder, Random& random);

/// A register that should hold a value when the instruction starts.
struct Assignment {
  uint8_t gpr = 0;
  uint32_t value = 0;
};

enum class Caution : uint8_t {
  kNone,  ///< Any target: across page ends, into unmapped or read-only memory.
  kTame,  ///< Mostly inside the window, so that a block gets on.
};

/// What steering decides; later assignments to a register win.
struct Steering {
  std::vector<Assignment> registers;
  /// Memory content at the start of the case, for memory operands.
  struct Content {
    uint32_t address = 0;
    std::vector<uint8_t> bytes;
  };
  std::vector<Content> content;
};

/// May rewrite displacements and immediates of `encoded`. `gpr` is what registers hold where
/// nothing is assigned; `landing` is where indirect branches and returns should lead.
Steering steer(Encoded& encoded, const std::array<uint32_t, 8>& gpr, uint32_t landing,
               Caution caution, Random& random);

/// A linear address for an operand of that size.
uint32_t pick_target(uint32_t size, bool writes, Caution caution, Random& random);
/// A linear stack pointer with room on both sides, or now and then next to the stack's ends.
uint32_t pick_stack_pointer(Caution caution, Random& random);
/// The same as ESP or EBP hold it; a 16-bit stack leaves the upper half alone, which is random.
uint32_t pick_stack_register(CodeSize size, Caution caution, Random& random);

}  // namespace trapline::differential
