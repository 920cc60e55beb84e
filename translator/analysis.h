// What is known of a block before any of it is emitted: which flags are live where, and which stack
// accesses can share a guard.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "translator/instruction.h"
#include "translator/mode.h"
#include "translator/page_loop.h"
#include "translator/shared_lookups.h"
#include "translator/switches.h"
#include "translator/translation.h"

namespace trapline {

class DecodeMemo;

struct InstructionAnalysis {
  uint32_t live_before = eflags::kArithmetic;
  uint32_t live_after = eflags::kArithmetic;
  /// Flags that must be right when the instruction faults: live_before, or all (exact-flags).
  uint32_t needed = eflags::kArithmetic;
  /// Stack segment: between two changes of ESP that are not constants. -1: none.
  int16_t stack_segment = -1;
  /// ESP before the instruction, relative to the start of its stack segment.
  int32_t esp_offset = 0;
  /// The stack is a 16-bit one. A segment's range then also holds ESP itself before and behind each
  /// access, so that neither SP nor an offset wraps at 64 KiB.
  bool narrow = false;
  /// The range holds what the instruction does to the stack by itself, and ESP before and behind.
  bool in_range = false;
  /// When EBP is ESP plus a constant: EBP relative to the start of the stack segment.
  bool ebp_known = false;
  int32_t ebp_offset = 0;
  /// Between two changes of EBP, where it is not known from ESP. -1: none.
  int16_t frame = -1;
  /// The frame's guard belongs before this instruction, likewise.
  bool guards_frame = false;
  /// The segment's guard belongs before this instruction: flags are dead here, and live where the
  /// segment's first access is.
  bool guards_stack = false;
  /// Which shared look-up its memory operand belongs to. -1: none.
  int16_t shared = -1;
};

/// The accesses of a stack segment or a frame: [low, high) relative to its start, or to EBP.
struct StackSegment {
  int32_t low = 0;
  int32_t high = 0;
  bool used = false;
  uint32_t first = 0;  ///< The instruction of its first access.
  uint32_t last = 0;   ///< And that of its last one.
  uint32_t count = 0;  ///< Of its accesses.
};

struct BlockAnalysis {
  std::vector<InstructionAnalysis> instruction;
  std::vector<StackSegment> stack;
  std::vector<StackSegment> frames;
  /// Flags live at the target of a direct branch out of the block, by instruction index.
  uint32_t live_at_entry = eflags::kArithmetic;
  PageLoop loop;
  SharedLookups shared;
};

/// Looks at what follows a block, within its page: the flags that may be read before they are
/// written, starting at `eip`. Records the bytes it looked at.
class FlagLookahead {
 public:
  FlagLookahead(const TranslationRequest& request, bool enabled, DecodeMemo& memo,
                std::vector<GuestRange>& ranges)
      : request_(request), enabled_(enabled), memo_(memo), ranges_(ranges) {}
  uint32_t live_at(uint32_t eip);

 private:
  struct Known {
    uint32_t eip = 0;
    uint32_t live = 0;
  };
  uint32_t look(uint32_t eip);

  const TranslationRequest& request_;
  bool enabled_;
  DecodeMemo& memo_;
  std::array<Known, 8> known_{};
  size_t known_count_ = 0;
  std::vector<GuestRange>& ranges_;
  Instruction room_;
};

/// Which accesses may share guards.
struct Windows {
  bool stack = false;
  bool frame = false;
  bool others = false;  ///< See SharedLookup.
};

void analyse(std::span<const Instruction> instructions, const ModeKey& mode,
             const Switches& switches, const Windows& windows, bool loops, bool die_early,
             FlagLookahead& lookahead, BlockAnalysis& out);

/// Whether the stack window covers a memory operand.
bool in_stack_window(const Operand& operand, const Instruction& in, const InstructionAnalysis& info,
                     const BlockAnalysis& analysis);

/// Whether the guard of the instruction's frame covers a memory operand.
bool in_frame(const Operand& operand, uint32_t size, const Instruction& in,
              const InstructionAnalysis& info, const BlockAnalysis& analysis);

/// The displacement of a memory operand, with its sign.
int32_t frame_displacement(const Operand& operand, const Instruction& in);

/// How a memory operand relates to the stack: its displacement from the stack segment's start.
bool stack_operand(const Operand& operand, const Instruction& in, const InstructionAnalysis& info,
                   int32_t& displacement);

}  // namespace trapline
