#include "translator/shared_lookups.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "translator/analysis.h"
#include "translator/instruction_table.h"
#include "translator/register_use.h"
#include "vcpu/address.h"

namespace trapline {
namespace {

/// The more bytes they span, the more often a page ends between them.
constexpr int64_t kWidest = 128;
/// Larger ones must be aligned, and those that are not fault for that before anything else.
constexpr uint32_t kLargestAccess = 8;

/// Fewer accesses are no cheaper than with look-ups of their own.
constexpr uint32_t kFewest = 2;
constexpr uint32_t fewest(SharedLookup::Kind kind) {
  return kind == SharedLookup::Kind::kFar ? kFewest + 1 : kFewest;
}

class LookupFinder {
 public:
  LookupFinder(std::span<const Instruction> instructions, const ModeKey& mode, BlockAnalysis& out)
      : instructions_(instructions),
        mode_(mode),
        out_(out),
        all_(out.shared.all),
        open_(out.shared.open) {
    all_.clear();
    open_.clear();
  }

  void find() {
    if (!several()) return;
    for (uint32_t i = first_; i <= last_; ++i) {
      const Instruction& in = instructions_[i];
      if (!keeps_value_register(in, mode_)) {
        open_.clear();
        continue;
      }
      if (const Operand* memory = in.memory(); memory && fits(i, *memory)) join(i, *memory);
      const uint32_t written = written_registers(in);
      // A loop's copy goes on behind its branch.
      if (out_.loop.found && out_.loop.back_edge == i) open_.clear();
      std::erase_if(open_, [&](int16_t number) {
        const uint8_t base = lookup(number).base;
        return base != Operand::kNoRegister && (written >> base & 1);
      });
    }
    choose();
  }

 private:
  using Kind = SharedLookup::Kind;
  SharedLookup& lookup(int16_t number) { return all_[static_cast<size_t>(number)]; }

  static bool simple(const Operand& o) {
    return !o.address_only && o.index == Operand::kNoRegister && o.base != kEsp && o.size > 0 &&
           o.size <= kLargestAccess;
  }

  bool fits(uint32_t number, const Operand& o) const {
    const Instruction& in = instructions_[number];
    const InstructionAnalysis& info = out_.instruction[number];
    return simple(o) && in.address_size == 4 && o.segment != kCs &&
           mode_.segment_class(o.segment) == SegmentClass::kFlat &&
           !in_stack_window(o, in, info, out_) && !in_frame(o, o.size, in, info, out_);
  }

  /// Whether any register has as many accesses as it takes; most blocks have none.
  bool several() {
    constexpr size_t kConstant = 8;
    std::array<uint8_t, kConstant + 1> count{};
    bool enough = false;
    for (uint32_t i = 0; i < instructions_.size(); ++i) {
      const Operand* memory = instructions_[i].memory();
      if (!memory || !simple(*memory)) continue;
      first_ = std::min(first_, i);
      last_ = i;
      const size_t base = memory->base == Operand::kNoRegister ? kConstant : memory->base;
      enough = ++count[base] >= kFewest || enough;
    }
    return enough;
  }

  void join(uint32_t number, const Operand& o) {
    SharedLookup wanted{.base = o.base, .first = number};
    int64_t low = static_cast<int32_t>(o.value);
    int64_t high = low + o.size;
    const bool near = low > -kWidest && high < kWidest;
    if (o.base == Operand::kNoRegister) {
      wanted.kind = Kind::kConstant;
    } else if (near) {
      low = std::min<int64_t>(low, 0);
      high = std::max<int64_t>(high, 1);
    } else {
      wanted.kind = Kind::kFar;
    }
    const auto fit = [&](int64_t from, int64_t to) {
      if (wanted.kind == Kind::kConstant && from >> kPageShift != (to - 1) >> kPageShift)
        return false;
      return to - from <= kWidest && to <= INT32_MAX;
    };
    if (!fit(low, high)) return;
    auto found = std::ranges::find_if(open_, [&](int16_t candidate) {
      const SharedLookup& known = lookup(candidate);
      return known.base == o.base && known.kind == wanted.kind &&
             fit(std::min<int64_t>(known.low, low), std::max<int64_t>(known.high, high));
    });
    if (found == open_.end()) {
      wanted.low = static_cast<int32_t>(low);
      wanted.high = static_cast<int32_t>(high);
      open_.push_back(static_cast<int16_t>(all_.size()));
      found = std::prev(open_.end());
      all_.push_back(wanted);
    }
    SharedLookup& known = lookup(*found);
    known.low = std::min(known.low, static_cast<int32_t>(low));
    known.high = std::max(known.high, static_cast<int32_t>(high));
    known.last = number;
    ++known.count;
    out_.instruction[number].shared = *found;
  }

  /// Of those that overlap, the ones that spare most.
  void choose() {
    const auto worth = [](const SharedLookup& known) { return known.count >= fewest(known.kind); };
    const auto one = std::ranges::find_if(all_, worth);
    if (one == all_.end()) return;
    if (std::ranges::none_of(std::next(one), all_.end(), worth)) {
      one->used = true;
      return;
    }
    std::vector<SharedLookups::Choice>& best = out_.shared.best;
    best.assign(instructions_.size(), {});
    for (uint32_t i = 0; i < instructions_.size(); ++i) {
      if (i > 0) best[i] = {best[i - 1].spared, -1, static_cast<int32_t>(i) - 1};
      for (size_t number = 0; number < all_.size(); ++number) {
        const SharedLookup& known = all_[number];
        if (known.last != i || !worth(known)) continue;
        const uint32_t spared =
            known.count - 1 + (known.first > 0 ? best[known.first - 1].spared : 0);
        if (spared > best[i].spared)
          best[i] = {spared, static_cast<int16_t>(number), static_cast<int32_t>(known.first) - 1};
      }
    }
    for (auto i = static_cast<int32_t>(best.size()) - 1; i >= 0;) {
      const SharedLookups::Choice& here = best[static_cast<size_t>(i)];
      if (here.chosen >= 0) lookup(here.chosen).used = true;
      i = here.before;
    }
  }

  std::span<const Instruction> instructions_;
  const ModeKey& mode_;
  BlockAnalysis& out_;
  std::vector<SharedLookup>& all_;
  std::vector<int16_t>& open_;
  uint32_t first_ = ~0u;  ///< The first instruction with an access that may share,
  uint32_t last_ = 0;     ///< and the last one.
};

}  // namespace

void find_shared_lookups(std::span<const Instruction> instructions, const ModeKey& mode,
                         BlockAnalysis& out) {
  LookupFinder(instructions, mode, out).find();
}

}  // namespace trapline
