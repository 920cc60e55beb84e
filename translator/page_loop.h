// Loops inside one block, and which of their accesses advance evenly. Such a loop gets a copy of
// its body that runs without checks for as long as those accesses stay in the pages in which a
// guard has found them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "translator/instruction.h"
#include "translator/mode.h"

namespace trapline {

struct BlockAnalysis;

inline constexpr int kLoopStreams = 4;
inline constexpr int kLoopLimits = 2;

/// Accesses with one base and index, whose address changes by the same constant each time round.
struct LoopStream {
  uint8_t base = Operand::kNoRegister;
  uint8_t index = Operand::kNoRegister;
  uint8_t scale = 1;
  bool writes = false;
  /// The bytes of one iteration are [low, high), relative to base + index * scale at its start.
  int32_t low = 0;
  int32_t high = 0;
  /// The register that moves, by `step` each time round. kNoRegister: the address stays.
  uint8_t moving = Operand::kNoRegister;
  int32_t step = 0;
  int32_t reach = 0;  ///< How far it gets from its value at the iteration's start.
  int limit = 0;      ///< Which limit of the moving register, when it moves.

  bool moves() const { return moving != Operand::kNoRegister; }
};

struct PageLoop {
  bool found = false;
  uint32_t back_edge = 0;  ///< Number of the branch to the block's first instruction.
  std::array<LoopStream, kLoopStreams> stream;
  int streams = 0;
  /// Registers that move; each has its own limit.
  std::array<uint8_t, kLoopLimits> limited{};
  std::array<bool, kLoopLimits> goes_up{};
  int limits = 0;
  std::vector<int8_t> stream_of;  ///< By instruction; -1: its access is checked as everywhere.
  /// Whether the body needs these scratch registers for something else.
  bool uses_address = false;
  bool uses_delta = false;
  bool uses_value = false;

  /// The stream of an instruction's memory operand, or -1.
  int stream_at(uint32_t instruction) const {
    return instruction < stream_of.size() ? stream_of[instruction] : -1;
  }
};

/// Looks for a loop back to the first instruction, and leaves `out.loop` alone where there is none.
/// What is known of the stack must be in `out`.
void find_page_loop(std::span<const Instruction> instructions, const ModeKey& mode,
                    BlockAnalysis& out);

}  // namespace trapline
