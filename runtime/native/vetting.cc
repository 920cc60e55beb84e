#include "runtime/native/vetting.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>
#include <bit>

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
  watched_.clear();
  for (const uint16_t entry : page.entries) open_.push_back(static_cast<uint16_t>(entry + kHead));
  while (!open_.empty() && !sensitive_) {
    const uint16_t entry = open_.back();
    open_.pop_back();
    if (followed_.has(entry)) continue;
    followed_.add(entry, 1);
    follow(entry);
  }
  if (sensitive_) return Vetted::kSensitive;
  return look_for_patterns() ? Vetted::kUnexplored : Vetted::kFine;
}

bool PageVetter::differs(InstructionEffect effect) const {
  if (effect.cpuid) return !cpuid_faults_;
  return effect.differs || (effect.sse && !sse_);
}

/// Silently, or the next event does not show it.
bool PageVetter::matters(InstructionEffect effect) const {
  return differs(effect) && !(loads_are_noticed_ && effect.only_loads);
}

/// Where the instruction there branches to, if that is in the page; else 0.
uint16_t PageVetter::target(uint32_t at, InstructionEffect effect) const {
  if (effect.distance == 0) return 0;
  const uint32_t next = at + effect.length;
  uint32_t distance = 0;
  for (unsigned i = effect.distance; i > 0; --i)
    distance = distance << 8 | bytes_[next - effect.distance + i - 1];
  const unsigned unused = 32 - 8u * effect.distance;
  const int64_t target = int64_t{next} + (static_cast<int32_t>(distance << unused) >> unused);
  return target >= kHead && target < kEnd ? static_cast<uint16_t>(target) : uint16_t{0};
}

/// Marks instructions from the entry on, until the flow leaves the page or meets what is known.
void PageVetter::follow(uint16_t entry) {
  uint32_t at = entry;
  while (at < kEnd && !begins_.has(at)) {
    const InstructionEffect here = effects_.of(from(at));
    if (!here.valid) return;
    if (differs(here) && !watch(at, here)) {
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

/// Whether execution is going to be stopped at what begins there, so that it may differ.
bool PageVetter::watch(uint32_t at, InstructionEffect effect) {
  const bool bare = effect.cpuid && effect.length == 2;  // No prefix.
  if (!bare || !differs(effect) || at + 2 > kEnd) return false;
  const auto offset = static_cast<uint16_t>(at - kHead);
  if (std::ranges::find(watched_, offset) != watched_.end()) return true;
  if (watched_.size() >= most_watched_) return false;
  watched_.push_back(offset);
  return true;
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

/// Whether decoding that begins at any of 16 bytes in a row, well before, finds the byte inside an
/// instruction that does not differ. Whatever instructions there really are, one begins at one of
/// the 16, and most others fall in with them on the way. Where it is not known what comes before
/// the page, they are its first ones.
bool PageVetter::agreed(uint32_t from) {
  const uint32_t begin = std::max(from - kHead, first_);
  if (begin + kStarts > from) return false;
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
    } else if (at + bytes == from || matters_at(at)) {
      return false;
    } else {
      agreeing += count;
    }
  }
  return agreeing >= 2;
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
      if (!matters(here) || agreed(at)) continue;
      // With a prefix it would begin before.
      if (at > first_ && !is_prefix(bytes_[at - 1]) && watch(at, here)) continue;
      culprit_ = at;
      return true;
    }
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
