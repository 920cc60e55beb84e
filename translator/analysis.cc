#include "translator/analysis.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "translator/context.h"
#include "translator/decode_memo.h"
#include "translator/instruction_table.h"
#include "translator/register_use.h"

namespace trapline {
namespace {

constexpr int kLookaheadInstructions = 4;
constexpr int32_t kWidestSpan = static_cast<int32_t>(kWindowSpans.back());

uint32_t reads_of(const Instruction& in) {
  return in.flags_read | (in.flags_conditional ? in.flags_written : 0);
}

uint32_t kills_of(const Instruction& in, bool exact) {
  if (in.flags_conditional) return 0;
  return exact ? in.flags_written & ~in.flags_undefined : in.flags_written;
}

bool ends_flow(const Instruction& in) {
  return in.row->effect == BlockEffect::kEnd;
}

bool direct_branch(const Instruction& in) {
  return in.operand_count > 0 && in.operand[0].kind == Operand::Kind::kRelative;
}

/// ESP or EBP; on a 16-bit stack also SP or BP.
bool is_pointer(const Operand& o, uint8_t number, bool narrow) {
  if (is_register(o, number)) return true;
  return narrow && o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kGpr16 &&
         o.number == number;
}

bool loads_stack_segment(const Instruction& in) {
  if (in.mnemonic == ZYDIS_MNEMONIC_LSS) return true;
  const Operand& to = in.operand[0];
  return in.operand_count > 0 && to.kind == Operand::Kind::kRegister &&
         to.register_kind == RegisterKind::kSegment && to.number == kSs && to.written;
}

/// The constant that the instruction adds to ESP, if that is all it does to ESP.
bool constant_esp_change(const Instruction& in, bool narrow, int32_t& change) {
  const int32_t size = in.operand_size;
  const Operand& first = in.operand[0];
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
      change = -size;
      return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
      change = size;
      return true;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
      change = -8 * size;
      return true;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
      change = 8 * size;
      return true;
    case ZYDIS_MNEMONIC_POP:
      if (first.kind == Operand::Kind::kRegister && first.number == kEsp &&
          first.register_kind != RegisterKind::kSegment)
        return false;
      change = size;
      return true;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
      if (!is_pointer(first, kEsp, narrow) || in.operand[1].kind != Operand::Kind::kImmediate)
        return false;
      change = static_cast<int32_t>(in.operand[1].value);
      if (in.mnemonic == ZYDIS_MNEMONIC_SUB) change = -change;
      return change > -0x10000 && change < 0x10000;
    case ZYDIS_MNEMONIC_LEA:
      if (!is_register(first, kEsp) || in.address_size != 4) return false;
      if (in.operand[1].base != kEsp || in.operand[1].index != Operand::kNoRegister) return false;
      change = static_cast<int32_t>(in.operand[1].value);
      return change > -0x10000 && change < 0x10000;
    default:
      return false;
  }
}

/// A memory operand at EBP (BP) plus a constant, on the stack's segment.
bool frame_operand(const Operand& operand, const Instruction& in, bool narrow) {
  const int32_t value = frame_displacement(operand, in);
  return operand.base == kEbp && operand.index == Operand::kNoRegister &&
         in.address_size == (narrow ? 2 : 4) && operand.segment == kSs && value > -kWidestSpan &&
         value < kWidestSpan;
}

class StackTracker {
 public:
  StackTracker(bool enabled, bool frames, bool narrow, BlockAnalysis& out)
      : enabled_(enabled), frames_(frames), narrow_(narrow), out_(out) {
    if (enabled_) out_.stack.emplace_back();
    if (frames_) out_.frames.emplace_back();
  }

  void visit(const Instruction& in, InstructionAnalysis& info) {
    if (!enabled_) return;
    int32_t low = 0;
    int32_t high = 0;
    bool accesses = narrow_ ? narrow_range(in, low, high)
                            : (in.traits & trait::kStack) && stack_range(in, low, high);
    if (accesses && !fits(low, high)) start_segment();
    if (accesses && !fits(low, high)) accesses = false;  // RET of more than a window.
    info.narrow = narrow_;
    info.in_range = accesses;
    info.stack_segment = static_cast<int16_t>(out_.stack.size() - 1);
    info.esp_offset = esp_;
    info.ebp_known = ebp_known_;
    info.ebp_offset = ebp_;
    if (accesses) add_range(esp_ + low, esp_ + high);
    int32_t displacement = 0;
    const Operand* memory = in.memory();
    if (memory && memory->address_only) memory = nullptr;
    if (memory && stack_operand(*memory, in, info, displacement)) {
      const int32_t end = displacement + memory->size;
      const int32_t from = narrow_ ? std::min(displacement, esp_) : displacement;
      const int32_t to = narrow_ ? std::max(end, esp_) : end;
      if (fits_absolute(from, to)) add_range(from, to);
    }
    if (frames_ && !ebp_known_) visit_frame(in, memory, info);
    if (in.traits & (trait::kStack | trait::kNamesEsp | trait::kWritesEbp)) advance(in);
    if (narrow_ && loads_stack_segment(in)) {  // The window is another segment's.
      start_segment();
      if (frames_) out_.frames.emplace_back();
    }
    ++visited_;
  }

 private:
  /// What the instruction accesses of a 16-bit stack by itself, and ESP before and behind it.
  static bool narrow_range(const Instruction& in, int32_t& low, int32_t& high) {
    constexpr int32_t kCallFrame = 4;       // IP and CS.
    constexpr int32_t kInterruptFrame = 6;  // And FLAGS.
    low = high = 0;
    if (in.mnemonic == ZYDIS_MNEMONIC_INT) {
      low = -kInterruptFrame;
      return in.operand_size == 2;
    }
    if (in.mnemonic == ZYDIS_MNEMONIC_IRET) {
      high = kInterruptFrame;
      return true;
    }
    if (!(in.traits & trait::kStack) || !stack_range(in, low, high)) return false;
    const bool far = is_far_transfer(in);
    if (far && in.operand_size != 2) return false;
    if (far && in.mnemonic == ZYDIS_MNEMONIC_CALL) low = -kCallFrame;
    if (in.mnemonic == ZYDIS_MNEMONIC_RET) {
      if (far) high = kCallFrame;
      const bool releases = in.operand_count && in.operand[0].kind == Operand::Kind::kImmediate;
      if (releases) high += static_cast<int32_t>(in.operand[0].value & 0xffff);
    }
    return true;
  }

  /// The implicit stack accesses, relative to ESP before the instruction.
  static bool stack_range(const Instruction& in, int32_t& low, int32_t& high) {
    const int32_t size = in.operand_size;
    switch (in.mnemonic) {
      case ZYDIS_MNEMONIC_PUSH:
      case ZYDIS_MNEMONIC_PUSHF:
      case ZYDIS_MNEMONIC_PUSHFD:
      case ZYDIS_MNEMONIC_CALL:
        low = -size;
        high = 0;
        return true;
      case ZYDIS_MNEMONIC_POP:
      case ZYDIS_MNEMONIC_POPF:
      case ZYDIS_MNEMONIC_POPFD:
      case ZYDIS_MNEMONIC_RET:
        low = 0;
        high = size;
        return true;
      case ZYDIS_MNEMONIC_PUSHA:
      case ZYDIS_MNEMONIC_PUSHAD:
        low = -8 * size;
        high = 0;
        return true;
      case ZYDIS_MNEMONIC_POPA:
      case ZYDIS_MNEMONIC_POPAD:
        low = 0;
        high = 8 * size;
        return true;
      default:
        return false;
    }
  }

  StackSegment& segment() { return out_.stack.back(); }
  bool fits_absolute(int32_t low, int32_t high) {
    const StackSegment& s = segment();
    if (!s.used) return high - low <= kWidestSpan;
    return std::max(s.high, high) - std::min(s.low, low) <= kWidestSpan;
  }
  bool fits(int32_t low, int32_t high) { return fits_absolute(esp_ + low, esp_ + high); }
  void add_range(int32_t low, int32_t high) {
    StackSegment& s = segment();
    s.low = s.used ? std::min(s.low, low) : low;
    s.high = s.used ? std::max(s.high, high) : high;
    if (!s.used) s.first = visited_;
    s.used = true;
  }
  void visit_frame(const Instruction& in, const Operand* memory, InstructionAnalysis& info) {
    info.frame = static_cast<int16_t>(out_.frames.size() - 1);
    if (memory && frame_operand(*memory, in, narrow_)) {
      const int32_t at = frame_displacement(*memory, in);
      add_to_frame(at, at + memory->size);
    } else if (in.mnemonic == ZYDIS_MNEMONIC_LEAVE) {
      add_to_frame(0, in.operand_size);
    }
  }
  /// EBP itself always belongs to it, so that no address on the way from there wraps.
  void add_to_frame(int32_t low, int32_t high) {
    StackSegment& frame = out_.frames.back();
    const int32_t new_low = std::min({frame.low, low, 0});
    const int32_t new_high = std::max({frame.high, high, 0});
    if (new_high - new_low > kWidestSpan) return;
    if (!frame.used) frame.first = visited_;
    frame.low = new_low;
    frame.high = new_high;
    frame.last = visited_;
    frame.used = true;
    ++frame.count;
  }
  void start_segment() {
    out_.stack.emplace_back();
    esp_ = 0;
    ebp_known_ = false;
  }

  void advance(const Instruction& in) {
    int32_t change = 0;
    if (in.mnemonic == ZYDIS_MNEMONIC_MOV && is_pointer(in.operand[0], kEbp, narrow_) &&
        is_pointer(in.operand[1], kEsp, narrow_)) {
      ebp_known_ = true;
      ebp_ = esp_;
      if (frames_) out_.frames.emplace_back();
      return;
    }
    if (in.mnemonic == ZYDIS_MNEMONIC_MOV && is_pointer(in.operand[0], kEsp, narrow_) &&
        is_pointer(in.operand[1], kEbp, narrow_) && ebp_known_ &&
        in.operand_size == (narrow_ ? 2 : 4)) {
      esp_ = ebp_;
      return;
    }
    if (in.mnemonic == ZYDIS_MNEMONIC_LEAVE && ebp_known_ && in.operand_size == (narrow_ ? 2 : 4)) {
      esp_ = ebp_ + in.operand_size;
      ebp_known_ = false;
      if (frames_) out_.frames.emplace_back();
      return;
    }
    if (in.traits & trait::kWritesEbp) {
      ebp_known_ = false;
      if (frames_) out_.frames.emplace_back();
    }
    if (constant_esp_change(in, narrow_, change))
      esp_ += change;
    else if ((in.traits & trait::kWritesEsp) || in.mnemonic == ZYDIS_MNEMONIC_LEAVE ||
             in.mnemonic == ZYDIS_MNEMONIC_ENTER)
      start_segment();
  }

  bool enabled_;
  bool frames_;
  bool narrow_;
  BlockAnalysis& out_;
  uint32_t visited_ = 0;
  int32_t esp_ = 0;
  bool ebp_known_ = false;
  int32_t ebp_ = 0;
};

/// `live_at_head` is what is assumed of branches back to the block's first instruction.
void analyse_flags_once(std::span<const Instruction> instructions, const Switches& switches,
                        bool die_early, FlagLookahead& lookahead, uint32_t live_at_head,
                        BlockAnalysis& out) {
  const auto live_at = [&](uint32_t eip) {
    return eip == instructions.front().eip && switches.flag_lookahead ? live_at_head
                                                                      : lookahead.live_at(eip);
  };
  uint32_t live = eflags::kArithmetic;
  const Instruction& last = instructions.back();
  if (!ends_flow(last)) {
    live = live_at(last.next_eip());
  } else if (direct_branch(last) && !switches.exact_flags) {
    live = live_at(last.target());
  }
  for (size_t i = instructions.size(); i-- > 0;) {
    const Instruction& in = instructions[i];
    if (in.row->effect == BlockEffect::kBranch) live |= live_at(in.target());
    InstructionAnalysis& info = out.instruction[i];
    info.live_after = live;
    live = (live & ~kills_of(in, switches.exact_flags)) | reads_of(in);
    info.live_before = live;
    // Where the instruction may leave through C++ for good, everything must be there.
    if (in.row->effect == BlockEffect::kEnd && !direct_branch(in)) {
      info.live_before = live = eflags::kArithmetic;
    }
    info.needed = switches.exact_flags ? eflags::kArithmetic : info.live_before;
    if (die_early) info.needed = info.live_after & ~kills_of(in, false);
    if (switches.exact_flags) info.live_before = live = eflags::kArithmetic;
  }
  out.live_at_entry = live;
}

/// A block that branches back to its start needs there what it needs at its entry.
void analyse_flags(std::span<const Instruction> instructions, const Switches& switches,
                   bool die_early, FlagLookahead& lookahead, BlockAnalysis& out) {
  uint32_t live_at_head = 0;
  for (;;) {
    analyse_flags_once(instructions, switches, die_early, lookahead, live_at_head, out);
    if ((out.live_at_entry | live_at_head) == live_at_head) return;
    live_at_head |= out.live_at_entry;
  }
}

}  // namespace

uint32_t FlagLookahead::live_at(uint32_t eip) {
  if (!enabled_) return eflags::kArithmetic;
  for (const Known& known : std::span(known_).first(known_count_))
    if (known.eip == eip) return known.live;
  const uint32_t live = look(eip);
  if (known_count_ < known_.size()) known_[known_count_++] = {eip, live};
  return live;
}

uint32_t FlagLookahead::look(uint32_t eip) {
  uint32_t undecided = eflags::kArithmetic;
  uint32_t live = 0;
  const int64_t start_offset = request_.linear & kPageMask;
  const int64_t first = start_offset + static_cast<int32_t>(eip - request_.eip);
  int64_t at = first;
  const auto size = request_.mode.code32() ? CodeSize::k32 : CodeSize::k16;
  for (int i = 0; i < kLookaheadInstructions && undecided; ++i) {
    if (at < 0 || at >= int64_t{kPageSize}) break;
    const auto bytes = request_.page.first(kPageSize).subspan(static_cast<size_t>(at));
    const Instruction* found = memo_.decode_shape(bytes, size, room_);
    if (!found) break;
    const Instruction& in = *found;
    live |= undecided & reads_of(in);
    undecided &= ~(kills_of(in, false) | live);
    at += in.length;
    if (in.row->effect != BlockEffect::kNone) break;
  }
  live |= undecided;
  if (at > first)
    ranges_.push_back({static_cast<int32_t>(first - start_offset),
                       static_cast<uint32_t>(std::min<int64_t>(at, kPageSize) - first)});
  return live;
}

int32_t frame_displacement(const Operand& operand, const Instruction& in) {
  return in.address_size == 2 ? static_cast<int16_t>(operand.value)
                              : static_cast<int32_t>(operand.value);
}

bool stack_operand(const Operand& operand, const Instruction& in, const InstructionAnalysis& info,
                   int32_t& displacement) {
  if (info.stack_segment < 0 || operand.segment != kSs || operand.index != Operand::kNoRegister ||
      in.address_size != (info.narrow ? 2 : 4))
    return false;
  const int64_t value = frame_displacement(operand, in);
  int64_t from = 0;
  if (operand.base == kEsp)
    from = info.esp_offset + (in.mnemonic == ZYDIS_MNEMONIC_POP ? in.operand_size : 0);
  else if (operand.base == kEbp && info.ebp_known)
    from = info.ebp_offset;
  else
    return false;
  if (value < -0x10000 || value > 0x10000) return false;
  displacement = static_cast<int32_t>(from + value);
  return true;
}

namespace {
/// Guards destroy flags, so they go where flags are dead, if such a place is near enough.
void place_guards(std::span<const Instruction> instructions,
                  const std::vector<StackSegment>& segments, int16_t InstructionAnalysis::*which,
                  bool InstructionAnalysis::*guards, BlockAnalysis& out) {
  for (size_t number = 0; number < segments.size(); ++number) {
    const StackSegment& segment = segments[number];
    if (!segment.used || !out.instruction[segment.first].needed) continue;
    for (size_t i = segment.first; i-- > 0;) {
      InstructionAnalysis& info = out.instruction[i];
      if (info.*which != static_cast<int16_t>(number) ||
          instructions[i].row->effect != BlockEffect::kNone)
        break;
      if (info.needed) continue;
      info.*guards = true;
      break;
    }
  }
}

/// One access alone is no cheaper with a guard, and what lies only above EBP may be anything. BP is
/// the one base register of 16-bit code that means the stack.
void keep_likely_frames(bool narrow, BlockAnalysis& out) {
  constexpr uint32_t kFewest = 2;
  for (StackSegment& frame : out.frames)
    frame.used = frame.used && frame.count >= kFewest && (frame.low < 0 || narrow);
}
}  // namespace

bool in_stack_window(const Operand& operand, const Instruction& in, const InstructionAnalysis& info,
                     const BlockAnalysis& analysis) {
  int32_t displacement = 0;
  if (!stack_operand(operand, in, info, displacement)) return false;
  const StackSegment& segment = analysis.stack[static_cast<size_t>(info.stack_segment)];
  return segment.used && displacement >= segment.low && displacement + operand.size <= segment.high;
}

bool in_frame(const Operand& operand, uint32_t size, const Instruction& in,
              const InstructionAnalysis& info, const BlockAnalysis& analysis) {
  if (info.frame < 0 || !frame_operand(operand, in, info.narrow)) return false;
  const StackSegment& frame = analysis.frames[static_cast<size_t>(info.frame)];
  const int32_t at = frame_displacement(operand, in);
  return frame.used && at >= frame.low && at + static_cast<int32_t>(size) <= frame.high;
}

void analyse(std::span<const Instruction> instructions, const ModeKey& mode,
             const Switches& switches, const Windows& windows, bool loops, bool die_early,
             FlagLookahead& lookahead, BlockAnalysis& out) {
  out.instruction.assign(instructions.size(), {});
  out.stack.clear();
  out.frames.clear();
  out.loop.found = false;
  const bool flat_stack = mode.stack32() && mode.segment_class(kSs) == SegmentClass::kFlat;
  const bool narrow = !mode.code32() && mode.narrow_stack() && switches.stack_window_16;
  const bool stack_windows = windows.stack && (flat_stack || narrow);
  StackTracker stack(stack_windows, stack_windows && windows.frame, narrow, out);
  for (size_t i = 0; i < instructions.size(); ++i) stack.visit(instructions[i], out.instruction[i]);
  analyse_flags(instructions, switches, die_early, lookahead, out);
  keep_likely_frames(narrow, out);
  place_guards(instructions, out.stack, &InstructionAnalysis::stack_segment,
               &InstructionAnalysis::guards_stack, out);
  place_guards(instructions, out.frames, &InstructionAnalysis::frame,
               &InstructionAnalysis::guards_frame, out);
  if (loops) find_page_loop(instructions, mode, out);
  if (windows.others) find_shared_lookups(instructions, mode, out);
}

}  // namespace trapline
