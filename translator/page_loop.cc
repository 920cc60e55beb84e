#include "translator/page_loop.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "translator/analysis.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/register_use.h"

namespace trapline {
namespace {

constexpr int32_t kWidestStride = 256;  ///< Beyond that, a page is left too soon.
constexpr int32_t kWidestStream = 256;
constexpr int64_t kFarthest = int64_t{1} << 30;

bool relative(const Instruction& in) {
  return in.operand_count > 0 && in.operand[0].kind == Operand::Kind::kRelative &&
         in.operand_size == 4;
}

/// The constant that the instruction adds to the register, if that is all it does to it.
bool constant_step(const Instruction& in, uint8_t number, int64_t& step) {
  if (in.operand_count == 0 || !is_register(in.operand[0], number)) return false;
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_INC:
      step = 1;
      return true;
    case ZYDIS_MNEMONIC_DEC:
      step = -1;
      return true;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
      if (in.operand[1].kind != Operand::Kind::kImmediate) return false;
      step = static_cast<int32_t>(in.operand[1].value);
      if (in.mnemonic == ZYDIS_MNEMONIC_SUB) step = -step;
      return true;
    case ZYDIS_MNEMONIC_LEA:
      if (in.address_size != 4 || in.operand[1].base != number ||
          in.operand[1].index != Operand::kNoRegister)
        return false;
      step = static_cast<int32_t>(in.operand[1].value);
      return true;
    default:
      return false;
  }
}

/// Whether the body's copy may contain the instruction, and which scratch registers it needs there
/// besides those of its access.
bool fits(const Instruction& in, const ModeKey& mode, PageLoop& loop) {
  const LoweringFunction lower = in.row->lower;
  if (in.lock) return false;
  if (!keeps_value_register(in, mode)) loop.uses_value = true;
  if (lower == lower_generic) return true;
  if (lower == lower_mov) return !names_system_register(in);
  if (lower == lower_lea) {
    if (in.operand[0].size != 4 || in.address_size != 4) loop.uses_address = true;
    return true;
  }
  if (lower == lower_x87)
    return in.mnemonic != ZYDIS_MNEMONIC_FNCLEX && in.mnemonic != ZYDIS_MNEMONIC_FNINIT;
  if (lower == lower_bswap) return in.operand[0].size == 4;
  return lower == lower_jcc || lower == lower_no_operand || lower == lower_nothing;
}

class LoopFinder {
 public:
  LoopFinder(std::span<const Instruction> instructions, const ModeKey& mode, BlockAnalysis& out)
      : instructions_(instructions), mode_(mode), analysis_(out), loop_(out.loop) {}

  void find() {
    if (!find_back_edge() || !follow_registers()) return;
    loop_.stream_of.assign(loop_.back_edge + 1, -1);
    offset_.fill(0);
    bool covered = false;
    for (uint32_t i = 0; i <= loop_.back_edge; ++i) {
      const Instruction& in = instructions_[i];
      const Operand* memory = in.memory();
      if (memory && !memory->address_only && in.row->lower != lower_nothing &&
          !in_stack_window(*memory, in, analysis_.instruction[i], analysis_)) {
        if (place(i, in, *memory))
          covered = true;
        else
          loop_.uses_address = loop_.uses_delta = true;
      }
      advance(in);
    }
    loop_.found = covered && loop_.limits > 0;
  }

 private:
  bool find_back_edge() {
    const uint32_t head = instructions_.front().eip;
    for (uint32_t i = 0; i < instructions_.size(); ++i) {
      const Instruction& in = instructions_[i];
      if (analysis_.instruction[i].stack_segment != analysis_.instruction[0].stack_segment ||
          !(fits(in, mode_, loop_) || in.row->lower == lower_jump))
        return false;
      const bool branch = in.row->lower == lower_jcc || in.row->lower == lower_jump;
      if (branch && !relative(in)) return false;
      if (branch && in.target() == head) {
        loop_.back_edge = i;
        return i > 0;
      }
    }
    return false;
  }

  bool follow_registers() {
    for (uint32_t i = 0; i <= loop_.back_edge; ++i) {
      const Instruction& in = instructions_[i];
      const uint32_t written = written_registers(in);
      for (uint8_t number = 0; number < 8; ++number) {
        if (!(written >> number & 1)) continue;
        int64_t step = 0;
        if (constant_step(in, number, step))
          step_[number] += step;
        else
          unknown_ |= 1u << number;
        written_ |= 1u << number;
        lowest_[number] = std::min(lowest_[number], step_[number]);
        highest_[number] = std::max(highest_[number], step_[number]);
      }
    }
    return !(written_ >> kEsp & 1);
  }

  /// Whether the register goes one way only, in small steps: then its limit keeps it from wrapping.
  bool goes_evenly(uint8_t number) const {
    if (unknown_ >> number & 1) return false;
    if (step_[number] > 0) return lowest_[number] == 0 && highest_[number] <= kWidestStride;
    return step_[number] < 0 && highest_[number] == 0 && lowest_[number] >= -kWidestStride;
  }

  void advance(const Instruction& in) {
    for (uint8_t number = 0; number < 8; ++number) {
      int64_t step = 0;
      if (constant_step(in, number, step)) offset_[number] += step;
    }
  }

  /// Puts the access into a stream. False when it cannot be in any.
  bool place(uint32_t number, const Instruction& in, const Operand& o) {
    if (in.address_size != 4 || o.segment == kCs ||
        mode_.segment_class(o.segment) != SegmentClass::kFlat)
      return false;
    LoopStream wanted;
    wanted.base = o.base;
    wanted.index = o.index;
    wanted.scale = o.index == Operand::kNoRegister ? uint8_t{1} : o.scale;
    wanted.writes = o.written;
    int64_t low = static_cast<int32_t>(o.value);
    int64_t stride = 0;
    const std::pair<uint8_t, int> parts[] = {{o.base, 1}, {o.index, wanted.scale}};
    for (const auto& [reg, scale] : parts) {
      if (reg == Operand::kNoRegister || !(written_ >> reg & 1)) continue;
      if (!goes_evenly(reg) || wanted.moves()) return false;
      wanted.moving = reg;
      wanted.step = static_cast<int32_t>(step_[reg]);
      wanted.reach = static_cast<int32_t>(std::max(highest_[reg], -lowest_[reg]));
      stride = int64_t{wanted.step} * scale;
      low += offset_[reg] * scale;
    }
    if (stride < -kWidestStride || stride > kWidestStride) return false;
    if (low < -kFarthest * 2 || low >= kFarthest * 2 - kWidestStream) return false;
    wanted.low = static_cast<int32_t>(low);
    wanted.high = wanted.low + o.size;
    const int stream = join(wanted);
    if (stream < 0) return false;
    loop_.stream_of[number] = static_cast<int8_t>(stream);
    return true;
  }

  int join(LoopStream& wanted) {
    for (int i = 0; i < loop_.streams; ++i) {
      LoopStream& s = loop_.stream[static_cast<size_t>(i)];
      if (s.base != wanted.base || s.index != wanted.index || s.scale != wanted.scale) continue;
      const int64_t low = std::min(s.low, wanted.low);
      const int64_t high = std::max(s.high, wanted.high);
      if (high - low > kWidestStream) continue;
      s.low = static_cast<int32_t>(low);
      s.high = static_cast<int32_t>(high);
      s.writes = s.writes || wanted.writes;
      return i;
    }
    if (loop_.streams == kLoopStreams) return -1;
    if (wanted.moves()) {
      wanted.limit = limit_of(wanted.moving);
      if (wanted.limit < 0) return -1;
    }
    loop_.stream[static_cast<size_t>(loop_.streams)] = wanted;
    return loop_.streams++;
  }

  int limit_of(uint8_t reg) {
    for (int i = 0; i < loop_.limits; ++i)
      if (loop_.limited[static_cast<size_t>(i)] == reg) return i;
    if (loop_.limits == kLoopLimits) return -1;
    loop_.limited[static_cast<size_t>(loop_.limits)] = reg;
    loop_.goes_up[static_cast<size_t>(loop_.limits)] = step_[reg] > 0;
    return loop_.limits++;
  }

  std::span<const Instruction> instructions_;
  const ModeKey& mode_;
  BlockAnalysis& analysis_;
  PageLoop& loop_;
  uint32_t written_ = 0;
  uint32_t unknown_ = 0;
  std::array<int64_t, 8> step_{};  ///< Each time round.
  std::array<int64_t, 8> lowest_{};
  std::array<int64_t, 8> highest_{};
  std::array<int64_t, 8> offset_{};  ///< At the instruction, since the start of the iteration.
};

}  // namespace

void find_page_loop(std::span<const Instruction> instructions, const ModeKey& mode,
                    BlockAnalysis& out) {
  const uint32_t head = instructions.front().eip;
  const bool loops = std::ranges::any_of(instructions, [head](const Instruction& in) {
    return in.row->effect != BlockEffect::kNone && relative(in) && in.target() == head;
  });
  if (!loops) return;
  out.loop = {};
  LoopFinder(instructions, mode, out).find();
}

}  // namespace trapline
