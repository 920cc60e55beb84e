#include "runtime/native/vetting.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>
#include <bit>

#include "runtime/native/instruction_oddity.h"
#include "translator/decoder.h"
#include "translator/instruction.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

constexpr auto kFirstBytes = [] {
  std::array<uint8_t, 256> out{};
  for (unsigned byte = 0; byte < 256; ++byte)
    out[byte] = first_byte_of_sensitive(static_cast<uint8_t>(byte));
  return out;
}();

/// Which of 64 bytes are first bytes of what may differ.
uint64_t first_bytes_among(const uint8_t* bytes) {
  uint64_t out = 0;
#pragma GCC unroll 64
  for (unsigned i = 0; i < 64; ++i) out |= uint64_t{kFirstBytes[bytes[i]]} << i;
  return out;
}

bool is_far(const Instruction& in) {
  const uint8_t reg = in.modrm >> 3 & 7;
  if (in.opcode_map != 0) return false;
  switch (in.opcode) {
    case 0x9a:
    case 0xca:
    case 0xcb:
    case 0xea:
      return true;
    default:
      return in.opcode == 0xff && (reg == 3 || reg == 5);
  }
}

}  // namespace

Vetted PageVetter::vet(const CodePage& page) {
  TRAPLINE_ASSERT(page.bytes.size() == kPageSize);
  const size_t head = page.head.size() >= kHead ? kHead : 0;
  const size_t tail = std::min(page.tail.size(), kLongest);
  std::ranges::copy(page.head.last(head), bytes_.begin() + (kHead - head));
  std::ranges::copy(page.bytes, bytes_.begin() + kHead);
  std::ranges::copy(page.tail.first(tail), bytes_.begin() + kEnd);
  first_ = static_cast<uint32_t>(kHead - head);
  count_ = static_cast<uint32_t>(kEnd + tail);
  sse_ = page.sse;
  loads_are_noticed_ = page.loads_are_noticed;
  sensitive_ = false;
  lengths_.fill(0);
  known_ = {};
  begins_ = {};
  followed_ = {};
  open_.clear();
  places_.clear();
  watched_.clear();
  patched_.clear();
  entries_ = page.entries;
  for (const uint16_t entry : entries_) open_.push_back(static_cast<uint16_t>(entry + kHead));
  while (!open_.empty() && !sensitive_) {
    const uint16_t entry = open_.back();
    open_.pop_back();
    if (followed_.has(entry)) continue;
    followed_.add(entry, 1);
    follow(entry);
  }
  if (sensitive_) return Vetted::kSensitive;
  if (look_for_patterns()) return Vetted::kUnexplored;
  return choose_stops();
}

bool PageVetter::differs(InstructionEffect effect) const {
  if (effect.cpuid) return !cpuid_faults_;
  return effect.differs || (effect.sse && !sse_);
}

/// Whether bytes that look like it count: the next event would not show it.
bool PageVetter::matters(InstructionEffect effect) const {
  return differs(effect) && !effect.only_known && !(loads_are_noticed_ && effect.only_loads);
}

/// How far from its end the branch there goes.
int32_t PageVetter::distance(uint32_t at, InstructionEffect effect) const {
  const uint32_t next = at + effect.length;
  uint32_t distance = 0;
  for (unsigned i = effect.distance; i > 0; --i)
    distance = distance << 8 | bytes_[next - effect.distance + i - 1];
  const unsigned unused = 32 - 8u * effect.distance;
  return static_cast<int32_t>(distance << unused) >> unused;
}

/// Where the instruction there branches to, if that is in the page; else 0.
uint16_t PageVetter::target(uint32_t at, InstructionEffect effect) const {
  if (effect.distance == 0) return 0;
  const int64_t target = int64_t{at} + effect.length + distance(at, effect);
  return target >= kHead && target < kEnd ? static_cast<uint16_t>(target) : uint16_t{0};
}

/// Marks instructions from the entry on, until the flow leaves the page or meets what is known.
void PageVetter::follow(uint16_t entry) {
  uint32_t at = entry;
  while (at < kEnd && !begins_.has(at)) {
    const InstructionEffect here = effects_.of(from(at));
    if (!here.valid) return;
    if (differs(here) && !stop(at, here, true)) {
      sensitive_ = true;
      culprit_ = at;
      return;
    }
    // An instruction that begins inside a known one makes neither of them known.
    const uint32_t bytes = std::min<uint32_t>(here.length, kEnd - at);
    const bool overlaps = known_.any(at, bytes);
    if (overlaps) {
      known_.remove(at, bytes);
      begins_.remove(at, bytes);
    } else {
      known_.add(at, bytes);
      begins_.add(at, 1);
    }
    const uint16_t to = target(at, here);
    if (to && !begins_.has(to)) open_.push_back(to);
    if (overlaps || here.ends) return;
    at += here.length;
  }
}

/// Whether execution may yet be stopped at what begins there, so that it may differ.
bool PageVetter::stop(uint32_t at, InstructionEffect effect, bool known) {
  if (std::ranges::find(places_, at, &Place::at) != places_.end()) return true;
  const bool watchable = most_watched_ > 0 && can_watch(at, effect, known);
  // Where a few can be watched, the others need not be looked at closely yet.
  if (!watchable && !patchable(at, effect, known)) return false;
  if (!patches_ && places_.size() >= most_watched_) return false;
  places_.push_back({static_cast<uint16_t>(at), watchable, known});
  return places_.size() <= kMostPatched;
}

/// Whether a breakpoint there meets whoever executes the instruction, and nobody else. One that is
/// where no instruction begins meets nobody. A call of the kernel is cheaper translated.
bool PageVetter::can_watch(uint32_t at, InstructionEffect effect, bool known) {
  if (!differs(effect) || effect.system || at + effect.length > kEnd) return false;
  if (known || begins_surely(at)) return true;
  return at > first_ && !is_prefix(bytes_[at - 1]);
}

/// Where all places can be watched they are; else all are patched that can be.
Vetted PageVetter::choose_stops() {
  const bool all =
      places_.size() <= most_watched_ && std::ranges::all_of(places_, &Place::watchable);
  for (const Place& place : places_) {
    const auto offset = static_cast<uint16_t>(place.at - kHead);
    const InstructionEffect effect = effects_.of(from(place.at));
    const bool can_patch = !(place.known && overlapped(place.at, effect)) &&
                           (!place.watchable || patchable(place.at, effect, place.known));
    if (can_patch) patched_.push_back(offset);
    if (all || !can_patch) watched_.push_back(offset);
    if (can_patch || (place.watchable && watched_.size() <= most_watched_)) continue;
    culprit_ = place.at;
    return place.known ? Vetted::kSensitive : Vetted::kUnexplored;
  }
  if (all) return Vetted::kFine;
  culprit_ = places_.front().at;
  return Vetted::kPatched;
}

/// Whether it is certain that an instruction begins there, known or not, and worth while to make
/// it an event. Those that enter the kernel are cheaper translated.
bool PageVetter::patchable(uint32_t at, InstructionEffect effect, bool known) {
  if (!patches_ || effect.system) return false;
  if (known && executed(at)) return true;
  return (known || (telling(at) && !known_.any(at, 2))) && begins_surely(at);
}

/// Whether another one that is known has bytes of the known instruction there.
bool PageVetter::overlapped(uint32_t at, InstructionEffect effect) {
  const uint8_t whole = length(at);  // The effect does not tell where no model has it.
  const uint32_t others = whole == InstructionLengths::kNone ? 0 : whole - 1u;
  return !begins_.has(at) || !known_.all(at, std::min<uint32_t>(effect.length, kEnd - at)) ||
         (at + 1 < kEnd && others != 0 && begins_.any(at + 1, std::min(others, kEnd - at - 1)));
}

/// Whether it was executed: the flow comes there from an entry without a branch, after which it may
/// be elsewhere for ever.
bool PageVetter::executed(uint32_t at) {
  return std::ranges::any_of(entries_, [&](uint16_t entry) {
    uint32_t here = entry + kHead;
    while (here < at) {
      const InstructionEffect effect = effects_.of(from(here));
      if (!effect.valid || effect.ends || effect.calls || effect.distance) return false;
      here += effect.length;
    }
    return here == at;
  });
}

/// Whether the bytes there are seldom anything else than the instruction that they look like:
/// CPUID, and XGETBV, RDRAND and their like.
bool PageVetter::telling(uint32_t at) const {
  if (at + 2 > count_ || bytes_[at] != 0x0f) return false;
  const uint8_t third = at + 3 <= count_ ? bytes_[at + 2] : 0;
  switch (bytes_[at + 1]) {
    case 0xa2:
      return true;
    case 0x01:
      return third >= 0xc0;
    case 0xc7:
      return third >= 0xf0;
    default:
      return false;
  }
}

/// Cheaper than its effect, for what is most of the bytes.
bool PageVetter::may_differ(uint32_t opcode) const {
  if (opcode >= count_ || !kFirstBytes[bytes_[opcode]]) return false;
  if (opcode + 1 >= count_) return true;
  const uint8_t second = bytes_[opcode + 1];
  const uint8_t reg = second >> 3 & 7;
  switch (bytes_[opcode]) {
    case 0xff:
      return reg == 3 || reg == 5;
    case 0xc4:
    case 0xc5:
      return second < 0xc0;
    case 0x0f:
      return !sse_ || sensitive_second_byte(second);
    default:
      return true;
  }
}

/// Of whatever is there, in this model or not.
uint8_t PageVetter::length(uint32_t at) {
  uint8_t& known = lengths_[at];
  if (known == 0) known = known_lengths_.of(from(at));
  return known;
}

/// Whether an instruction there would silently differ, and not be noticed.
bool PageVetter::matters_at(uint32_t at) {
  uint32_t opcode = at;
  while (opcode < count_ && is_prefix(bytes_[opcode])) ++opcode;
  return may_differ(opcode) && matters(effects_.of(from(at)));
}

/// Decodes towards the byte from any of 16 in a row, well before. Whatever instructions there
/// really are, one begins at one of the 16, and most others fall in with them on the way. Where it
/// is not known what comes before the page, they are its first ones. Tells how many of them meet
/// the byte with an instruction that `meet` accepts, as the last one before the byte or the one
/// around it; 0: not all that meet it do.
template <typename Meet>
uint32_t PageVetter::approach(uint32_t from, Meet meet) {
  const uint32_t begin = std::max(from - kHead, first_);
  if (begin + kStarts > from) return 0;
  std::array<uint8_t, kHead> starts{};  // How many of them lead to a byte, from `begin` on.
  std::fill_n(starts.begin(), kStarts, uint8_t{1});
  uint32_t agreeing = 0;
  uint32_t at = begin;
  for (uint32_t ahead = (1u << kStarts) - 1; ahead;
       ahead &= ~1u) {  // The same, yes or no, from `at` on.
    const auto next = static_cast<uint32_t>(std::countr_zero(ahead));
    at += next;
    ahead >>= next;
    const uint8_t bytes = length(at);
    if (bytes == InstructionLengths::kNone) continue;  // Not what anybody executes.
    const uint8_t count = starts[at - begin];
    if (at + bytes < from) {
      ahead |= 1u << bytes;
      starts[at + bytes - begin] = static_cast<uint8_t>(starts[at + bytes - begin] + count);
    } else if (!meet(at, bytes)) {
      return 0;
    } else {
      agreeing += count;
    }
  }
  return agreeing;
}

/// Whether the byte is inside an instruction that does not differ.
bool PageVetter::agreed(uint32_t from) {
  return approach(from, [&](uint32_t at, uint8_t bytes) {
           return at + bytes != from && !matters_at(at);
         }) >= 2;
}

/// Whether an instruction begins there.
bool PageVetter::begins_surely(uint32_t from) {
  return approach(from, [&](uint32_t at, uint8_t bytes) { return at + bytes == from; }) >= kCertain;
}

/// Whether what is there is certain to begin with the prefixes before it, where execution may be
/// stopped.
bool PageVetter::stop_at_prefix(uint32_t opcode) {
  uint32_t at = opcode;
  while (at > kHead && is_prefix(bytes_[at - 1]) && !known_.has(at - 1)) --at;
  if (at == opcode || !begins_surely(at)) return false;
  const InstructionEffect whole = effects_.of(from(at));
  return matters(whole) && at + whole.length > opcode && stop(at, whole, false);
}

/// Whether nobody executes what is there: whichever way branches go, one comes to what user code
/// does without. Data are like that as a rule.
bool PageVetter::leads_nowhere(uint32_t begin) {
  ByteSet seen;
  uint32_t left = kLongestWay;
  ways_.assign(1, {.at = begin, .odd = 0});
  while (!ways_.empty()) {
    auto [at, odd] = ways_.back();
    ways_.pop_back();
    while (!seen.has(at)) {
      if (left-- == 0 || at + kLongest > count_ || known_.has(at)) return false;
      seen.add(at, 1);
      const uint8_t bytes = length(at);
      if (at != begin) odd += oddity(from(at));
      if (bytes == InstructionLengths::kNone || odd >= kOdd) break;
      const InstructionEffect here = effects_.of(from(at));
      if (here.distance) {
        if (is_odd_distance(distance(at, here))) break;
        const uint16_t to = target(at, here);
        if (to == 0) return false;
        ways_.push_back({.at = to, .odd = odd});
      } else if (here.ends) {
        return false;
      }
      if (here.calls) return false;
      if (here.ends) break;
      at += bytes;
      if (at >= kEnd) return false;
    }
  }
  return true;
}

bool PageVetter::look_for_patterns() {
  for (uint32_t base = kHead; base < kEnd; base += 64) {
    // An instruction that is known has been found not to differ, and none begins inside it.
    const uint64_t unknown = ~known_.word(base);
    if (unknown == 0) continue;
    for (uint64_t left = first_bytes_among(&bytes_[base]) & unknown; left; left &= left - 1) {
      const uint32_t at = base + static_cast<uint32_t>(std::countr_zero(left));
      if (!may_differ(at)) continue;
      const InstructionEffect here = effects_.of(from(at));
      if (!matters(here) || agreed(at) || leads_nowhere(at) || stop(at, here, false) ||
          stop_at_prefix(at))
        continue;
      culprit_ = at;
      return true;
    }
  }
  return false;
}

bool PageVetter::goes_on() {
  for (uint32_t at = kEnd - (kLongest - 1); at < kEnd; ++at) {
    const bool inside = known_.has(at) && !begins_.has(at);
    const bool may_begin = begins_.has(at) || is_prefix(bytes_[at]) || kFirstBytes[bytes_[at]];
    if (inside || !may_begin) continue;
    const uint8_t whole = length(at);
    if (whole == InstructionLengths::kNone || at + whole > kEnd) return true;
  }
  return false;
}

std::string PageVetter::culprit() const {
  const auto bytes = std::span(bytes_).subspan(culprit_, count_ - culprit_);
  Instruction in;
  if (decode(bytes.first(std::min(bytes.size(), InstructionForm::kLongest)), CodeSize::k32, model_,
             culprit_, in) != Decoded::kOk)
    return "other";
  const std::string name = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(in.mnemonic));
  if (is_far(in)) return "far " + name;
  if (silently_differs(in)) switch (in.mnemonic) {
      case ZYDIS_MNEMONIC_MOV:
      case ZYDIS_MNEMONIC_POP:
      case ZYDIS_MNEMONIC_PUSH:
        return name + " segment";
      default:
        break;
    }
  return name;
}

}  // namespace trapline
