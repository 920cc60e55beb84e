// The vetter against a plain one, which decodes each byte with the decoder and remembers nothing
// but which known instruction a byte belongs to: over this program's own code, read as 32-bit code,
// and over random bytes.
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <vector>

#include "runtime/native/instruction_oddity.h"
#include "runtime/native/vetting.h"
#include "translator/decoder.h"

namespace trapline {
namespace {

struct Conditions {
  bool cpuid_faults = false;
  bool may_watch = false;
  bool may_patch = false;
  bool sse = false;
  bool loads_are_noticed = false;
};

class PlainVetter {
 public:
  PlainVetter(const Conditions& conditions, const CodePage& page)
      : conditions_(conditions), effects_(CpuModel::max()) {
    if (page.head.size() >= kHead) {
      bytes_.assign(page.head.end() - kHead, page.head.end());
      begin_ = kHead;
    }
    bytes_.insert(bytes_.end(), page.bytes.begin(), page.bytes.end());
    end_ = bytes_.size();
    const auto tail = page.tail.first(std::min<size_t>(page.tail.size(), 15));
    bytes_.insert(bytes_.end(), tail.begin(), tail.end());
    owner_.resize(end_, kNobody);
    entries_.assign(page.entries.begin(), page.entries.end());
  }

  Vetted vet() {
    std::vector<bool> followed(end_);
    std::vector<size_t> open;
    for (const uint16_t entry : entries_) open.push_back(entry + begin_);
    while (!open.empty()) {
      const size_t entry = open.back();
      open.pop_back();
      if (!followed[entry] && !follow(entry, open)) return Vetted::kSensitive;
      followed[entry] = true;
    }
    for (size_t at = begin_; at < end_; ++at)
      if (unexplored(at)) return Vetted::kUnexplored;
    return choose_stops();
  }

  std::vector<uint16_t> watched;
  std::vector<uint16_t> patched;

 private:
  static constexpr size_t kHead = 128;
  static constexpr size_t kNobody = SIZE_MAX;

  std::span<const uint8_t> from(size_t at) const { return std::span(bytes_).subspan(at); }

  bool differs(InstructionEffect effect) const {
    if (effect.cpuid) return !conditions_.cpuid_faults;
    return effect.differs || (effect.sse && !conditions_.sse);
  }

  bool matters(size_t at) const {
    const InstructionEffect effect = effects_.ask(from(at));
    if (effect.only_known) return false;
    return differs(effect) && !(effect.only_loads && conditions_.loads_are_noticed);
  }

  struct Place {
    size_t at = 0;
    bool known = false;
    bool watchable = false;
  };

  bool stop(size_t at, bool known) {
    if (std::ranges::find(places_, at, &Place::at) != places_.end()) return true;
    const bool watch = conditions_.may_watch && watchable(at, known);
    if (!watch && !patchable(at, known)) return false;
    places_.push_back({at, known, watch});
    return places_.size() <=
           (conditions_.may_patch ? PageVetter::kMostPatched : PageVetter::kMostWatched);
  }

  bool watchable(size_t at, bool known) const {
    const InstructionEffect effect = effects_.ask(from(at));
    if (!differs(effect) || effect.system || at + effect.length > end_) return false;
    return known || surely_begins(at) || (at > 0 && !is_prefix(bytes_[at - 1]));
  }

  /// At the first of the prefixes before it.
  bool stop_at_prefix(size_t opcode) {
    size_t at = opcode;
    while (at > begin_ && is_prefix(bytes_[at - 1]) && owner_[at - 1] == kNobody) --at;
    if (at == opcode || !surely_begins(at) || !matters(at)) return false;
    return at + effects_.ask(from(at)).length > opcode && stop(at, false);
  }

  Vetted choose_stops() {
    const bool all = places_.size() <= PageVetter::kMostWatched &&
                     std::ranges::all_of(places_, &Place::watchable);
    for (const Place& place : places_) {
      const auto offset = static_cast<uint16_t>(place.at - begin_);
      const bool patch = patchable(place.at, place.known) && !(place.known && overlapped(place));
      if (patch) patched.push_back(offset);
      if (all || !patch) watched.push_back(offset);
      if (!patch && (!place.watchable || watched.size() > PageVetter::kMostWatched))
        return place.known ? Vetted::kSensitive : Vetted::kUnexplored;
    }
    return all ? Vetted::kFine : Vetted::kPatched;
  }

  bool patchable(size_t at, bool known) const {
    if (!conditions_.may_patch) return false;
    if (effects_.ask(from(at)).system) return false;
    const auto byte = [&](size_t i) { return i < bytes_.size() ? bytes_[i] : 0; };
    if (known && executed(at)) return true;
    const bool telling = byte(at) == 0x0f &&
                         (byte(at + 1) == 0xa2 || (byte(at + 1) == 0x01 && byte(at + 2) >= 0xc0) ||
                          (byte(at + 1) == 0xc7 && byte(at + 2) >= 0xf0));
    if (!known &&
        (!telling || owner_[at] != kNobody || (at + 1 < end_ && owner_[at + 1] != kNobody)))
      return false;
    return surely_begins(at);
  }

  bool executed(size_t target) const {
    for (const uint16_t entry : entries_) {
      size_t at = entry + begin_;
      while (at < target) {
        const InstructionEffect effect = effects_.ask(from(at));
        if (!effect.valid || effect.ends || effect.calls || effect.distance != 0) break;
        at += effect.length;
      }
      if (at == target) return true;
    }
    return false;
  }

  bool overlapped(const Place& place) const {
    const size_t length = effects_.ask(from(place.at)).length;
    for (size_t at = place.at; at < std::min(place.at + length, end_); ++at)
      if (owner_[at] != place.at) return true;
    const size_t whole = InstructionLengths::ask(from(place.at));
    if (whole == InstructionLengths::kNone) return false;
    for (size_t at = place.at + 1; at < std::min(place.at + whole, end_); ++at)
      if (owner_[at] == at) return true;
    return false;
  }

  bool surely_begins(size_t target) const {
    const size_t begin = target < kHead ? 0 : target - kHead;
    if (begin + 16 > target) return false;
    int leading = 0;
    for (size_t start = begin; start < begin + 16; ++start) {
      size_t at = start;
      bool nothing = false;
      while (at < target && !nothing) {
        const uint8_t length = InstructionLengths::ask(from(at));
        nothing = length == InstructionLengths::kNone;
        at += length;
      }
      if (nothing) continue;
      if (at != target) return false;
      ++leading;
    }
    return leading >= 4;
  }

  /// From its end, of where the instruction there branches.
  std::vector<int64_t> distances(size_t at) const {
    Instruction in;
    const auto bytes = from(at).first(std::min<size_t>(from(at).size(), 15));
    if (decode(bytes, CodeSize::k32, CpuModel::max(), 0, in) != Decoded::kOk) return {};
    std::vector<int64_t> out;
    for (int i = 0; i < in.operand_count; ++i)
      if (in.operand[i].kind == Operand::Kind::kRelative) out.push_back(in.operand[i].value);
    return out;
  }

  void branch(size_t at, std::vector<size_t>& open) const {
    for (const int64_t distance : distances(at)) {
      const int64_t to = static_cast<int64_t>(at) + effects_.ask(from(at)).length + distance;
      if (to < static_cast<int64_t>(begin_) || to >= static_cast<int64_t>(end_)) continue;
      const auto target = static_cast<size_t>(to);
      if (owner_[target] != target) open.push_back(target);
    }
  }

  bool follow(size_t at, std::vector<size_t>& open) {
    while (at < end_ && owner_[at] != at) {
      const InstructionEffect effect = effects_.ask(from(at));
      if (!effect.valid) return true;
      if (differs(effect) && !stop(at, true)) return false;
      const auto first = owner_.begin() + static_cast<std::ptrdiff_t>(at);
      const auto last =
          owner_.begin() + static_cast<std::ptrdiff_t>(std::min(at + effect.length, end_));
      const bool overlaps = std::any_of(first, last, [](size_t o) { return o != kNobody; });
      std::fill(first, last, overlaps ? kNobody : at);
      branch(at, open);
      if (overlaps || effect.ends) return true;
      at += effect.length;
    }
    return true;
  }

  bool agreed(size_t target) const {
    const size_t begin = target < kHead ? 0 : target - kHead;
    if (begin + 16 > target) return false;
    int agreeing = 0;
    for (size_t start = begin; start < begin + 16; ++start) {
      size_t at = start;
      uint8_t length = 0;
      while (at < target) {
        length = InstructionLengths::ask(from(at));
        if (length == InstructionLengths::kNone || at + length > target) break;
        at += length;
      }
      if (at == target) return false;
      if (length == InstructionLengths::kNone) continue;
      if (looks_sensitive(at) && matters(at)) return false;
      ++agreeing;
    }
    return agreeing >= 2;
  }

  /// Without decoding, which is also what decides where the instruction goes on behind the bytes.
  bool looks_sensitive(size_t at) const {
    while (at < bytes_.size() && is_prefix(bytes_[at])) ++at;
    if (at >= bytes_.size() || !first_byte_of_sensitive(bytes_[at])) return false;
    if (at + 1 >= bytes_.size()) return true;
    const uint8_t next = bytes_[at + 1];
    const int reg = next >> 3 & 7;
    if (bytes_[at] == 0xff) return reg == 3 || reg == 5;
    if (bytes_[at] == 0xc4 || bytes_[at] == 0xc5) return next < 0xc0;
    return bytes_[at] != 0x0f || !conditions_.sse || sensitive_second_byte(next);
  }

  /// Depth first, each way to its end.
  bool leads_nowhere(size_t begin) const {
    std::vector<bool> seen(bytes_.size());
    int left = 64;
    std::vector<std::pair<size_t, uint32_t>> ways = {{begin, 0}};
    while (!ways.empty()) {
      auto [at, odd] = ways.back();
      ways.pop_back();
      for (bool open = true; open && !seen[at];) {
        if (--left < 0 || at + 15 > bytes_.size() || owner_[at] != kNobody) return false;
        seen[at] = true;
        const uint8_t length = InstructionLengths::ask(from(at));
        if (at != begin) odd += oddity(from(at));
        if (length == InstructionLengths::kNone || odd >= kOdd) break;
        const std::vector<int64_t> there = distances(at);
        const InstructionEffect effect = effects_.ask(from(at));
        if (there.empty() && (effect.ends || effect.calls)) return false;
        open = !effect.ends;
        bool far = false;
        for (const int64_t distance : there) {
          far = distance < -(32 << 20) || distance > 32 << 20;
          if (far) continue;
          const int64_t to = static_cast<int64_t>(at) + effect.length + distance;
          if (to < static_cast<int64_t>(begin_) || to >= static_cast<int64_t>(end_)) return false;
          ways.emplace_back(to, odd);
        }
        if (far) break;
        if (effect.calls) return false;
        at += length;
        if (open && at >= end_) return false;
      }
    }
    return true;
  }

  bool unexplored(size_t at) {
    if (is_prefix(bytes_[at]) || !looks_sensitive(at) || owner_[at] != kNobody) return false;
    if (!matters(at) || agreed(at) || leads_nowhere(at)) return false;
    return !stop(at, false) && !stop_at_prefix(at);
  }

  Conditions conditions_;
  InstructionEffects effects_;
  std::vector<uint8_t> bytes_;
  std::vector<uint16_t> entries_;
  size_t begin_ = 0;  ///< Of the page, in bytes_.
  size_t end_ = 0;
  std::vector<Place> places_;
  std::vector<size_t> owner_;  ///< By byte: where the known instruction begins that it belongs to.
};

/// Vets the second of three pages by both.
class VettingReference : public testing::Test {
 protected:
  static constexpr size_t kBytes = 3 * kPageSize;

  VettingReference() {
    for (unsigned i = 0; i < 8; ++i) {
      vetters_.emplace_back(CpuModel::max());
      if (i & 1) vetters_.back().watch();
      if (i & 2) vetters_.back().let_cpuid_fault();
      if (i & 4) vetters_.back().let_patch();
    }
  }

  void compare(std::span<const uint8_t> code, std::span<const uint16_t> entries) {
    ASSERT_EQ(code.size(), kBytes);
    const auto conditions = random_() & 31;
    const size_t tail = random_() % 4 ? kPageSize : random_() % 16;
    const CodePage page = {
        .bytes = code.subspan(kPageSize, kPageSize),
        .head = random_() % 4 ? code.first(kPageSize) : std::span<const uint8_t>(),
        .tail = code.subspan(2 * kPageSize, tail),
        .entries = entries,
        .sse = (conditions & 8) != 0,
        .loads_are_noticed = (conditions & 16) != 0};
    PlainVetter plain({.cpuid_faults = (conditions & 2) != 0,
                       .may_watch = (conditions & 1) != 0,
                       .may_patch = (conditions & 4) != 0,
                       .sse = page.sse,
                       .loads_are_noticed = page.loads_are_noticed},
                      page);
    const Vetted expected = plain.vet();
    PageVetter& vetter = vetters_[conditions & 7];
    EXPECT_EQ(vetter.vet(page), expected);
    const auto list = [](std::span<const uint16_t> offsets) {
      return std::vector<uint16_t>(offsets.begin(), offsets.end());
    };
    EXPECT_EQ(list(vetter.watched()), plain.watched);
    EXPECT_EQ(list(vetter.patched()), plain.patched);
    ++found_[static_cast<size_t>(expected)];
  }

  std::vector<uint16_t> any_entries() {
    std::vector<uint16_t> out(random_() % 6);
    for (uint16_t& entry : out) entry = random_() % kPageSize;
    return out;
  }

  std::mt19937 random_{11};
  std::vector<PageVetter> vetters_;
  std::array<size_t, 4> found_{};
};

TEST_F(VettingReference, OwnCode) {
  std::span<const uint8_t> text;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type == PT_LOAD && segment.p_flags & PF_X)
            *static_cast<std::span<const uint8_t>*>(out) = {
                reinterpret_cast<const uint8_t*>(info->dlpi_addr + segment.p_vaddr),
                segment.p_memsz};
        }
        return 1;  // The program comes first.
      },
      &text);
  ASSERT_GT(text.size(), 100 * kPageSize);
  const size_t step = std::max<size_t>(kPageSize, text.size() / 500);
  for (size_t at = 0; at + kBytes <= text.size(); at += step)
    compare(text.subspan(at, kBytes), any_entries());
  EXPECT_GT(found_[static_cast<size_t>(Vetted::kSensitive)], 0u);
}

TEST_F(VettingReference, RandomBytes) {
  const std::vector<std::vector<uint8_t>> planted = {{0x0f, 0xa2},
                                                     {0x66, 0x0f, 0xa2},
                                                     {0x8e, 0xd8},
                                                     {0x07},
                                                     {0xff, 0x2b},
                                                     {0x0f, 0x34},
                                                     {0x0f, 0x01, 0xd0},
                                                     {0xf3, 0x0f, 0x58, 0x04, 0x05},
                                                     {0x66, 0xe9, 1, 0},
                                                     {0xeb, 0xfe},
                                                     {0x75, 0x10},
                                                     {0xc3},
                                                     {0xc4, 0xe2},
                                                     {0xc5, 0xf8, 0x77},
                                                     {0xf3, 0x0f, 0xbd, 0xc1},
                                                     {0xdb, 0x08},
                                                     {0x62, 0xf1},
                                                     {0xf0, 0x0f, 0xb1, 0x08},
                                                     {0x67, 0x8b, 0x46, 1},
                                                     {0x0f, 0x84, 0x10, 0, 0, 0}};
  const std::vector<uint8_t> frequent = {0x8b, 0x45, 0x89, 0x04, 0x24, 0x83, 0xe8, 0x50,
                                         0x01, 0x0f, 0x85, 0x66, 0x00, 0x00, 0xff, 0x70};
  std::vector<uint8_t> code(kBytes);
  for (int round = 0; round < 600; ++round) {
    for (uint8_t& byte : code) {
      byte = static_cast<uint8_t>(random_());
      if (round % 4 == 0) byte = 0x90;
      if (round % 4 == 1) byte = frequent[byte % frequent.size()];
      if (round % 4 == 2 && byte < 0xc0) byte = 0x40 + byte % 0x20;
    }
    for (auto count = random_() % 20; count > 0; --count) {
      const auto& bytes = planted[random_() % planted.size()];
      std::ranges::copy(bytes, code.begin() + random_() % (kBytes - bytes.size()));
    }
    compare(code, any_entries());
  }
  for (const size_t found : found_) EXPECT_GT(found, 10u);
}

}  // namespace
}  // namespace trapline
