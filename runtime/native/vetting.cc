#include "runtime/native/vetting.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>
#include <cstring>

#include "translator/decoder.h"
#include "translator/instruction.h"
#include "translator/instruction_table.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

/// The first bytes of what silently differs. Those that have operands are told apart by decoding.
bool first_byte_of_sensitive(uint8_t byte) {
  switch (byte) {
    case 0x06:  // PUSH and POP of segment registers
    case 0x07:
    case 0x0e:
    case 0x16:
    case 0x17:
    case 0x1e:
    case 0x1f:
    case 0x0f:
    case 0x8c:  // MOV from and to segment registers
    case 0x8e:
    case 0x9a:  // far CALL, JMP, RET and IRET
    case 0xca:
    case 0xcb:
    case 0xcf:
    case 0xea:
    case 0xff:
    case 0xc4:  // LES and LDS
    case 0xc5:
      return true;
    default:
      return false;
  }
}

/// The same after 0F: system tables, LAR, LSL, SYSCALL, RDPMC, SYSENTER, PUSH and POP of FS and GS,
/// CPUID, LSS, LFS and LGS, and what no model has.
bool sensitive_second_byte(uint8_t byte) {
  switch (byte) {
    case 0x00:
    case 0x01:
    case 0x02:
    case 0x03:
    case 0x05:
    case 0x07:
    case 0x33:
    case 0x34:
    case 0x35:
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa8:
    case 0xa9:
    case 0xae:
    case 0xb2:
    case 0xb4:
    case 0xb5:
    case 0xc7:
      return true;
    default:
      return false;
  }
}

bool silently_differs(const Instruction& in) {
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& operand = in.operand[i];
    if (operand.kind == Operand::Kind::kFar) return true;
    if (operand.kind == Operand::Kind::kRegister && operand.register_kind == RegisterKind::kSegment)
      return true;
  }
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_RDPMC:
      return true;
    default:
      break;
  }
  const uint8_t reg = in.modrm >> 3 & 7;
  if (in.opcode_map == 0)
    return in.opcode == 0xff ? reg == 3 || reg == 5
                             : in.opcode != 0x0f && in.opcode != 0xc4 && in.opcode != 0xc5 &&
                                   first_byte_of_sensitive(in.opcode);
  if (in.opcode_map == 1)
    return in.opcode == 0xa0 || in.opcode == 0xa1 || in.opcode == 0xa8 || in.opcode == 0xa9;
  return false;
}

bool is_prefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

/// What no model has and the host's processor may execute: XGETBV, RDRAND, XSAVE and others.
bool unknown_and_sensitive(std::span<const uint8_t> bytes) {
  if (bytes.size() < 2 || bytes[0] != 0x0f) return false;
  const uint8_t modrm = bytes.size() > 2 ? bytes[2] : 0xff;
  const uint8_t reg = modrm >> 3 & 7;
  switch (bytes[1]) {
    case 0x01:
      return modrm >= 0xc0;
    case 0x05:
      return true;
    case 0xc7:
      return modrm >= 0xc0 && reg >= 6;
    case 0xae:
      return modrm < 0xc0 && (reg == 4 || reg == 5 || reg == 6);
    default:
      return false;
  }
}

/// What loads a segment register. Natively it either faults, and is emulated, or leaves a selector
/// that the next event shows.
bool only_loads(const Instruction& in) {
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
      return true;
    default:
      break;
  }
  const uint8_t reg = in.modrm >> 3 & 7;
  if (in.opcode_map != 0) return false;
  switch (in.opcode) {
    case 0x07:
    case 0x1f:
    case 0xca:
    case 0xcb:
    case 0xea:
      return true;
    default:
      return in.opcode == 0xff && reg == 5;
  }
}

/// First bytes of instructions that any model has, with any ModRM byte, and that neither differ nor
/// branch. Most code is these, and needs no more than its length.
bool is_plain(uint8_t byte) {
  if (byte < 0x40) return (byte & 7) < 6;  // Arithmetic. The others are segments, prefixes, BCD.
  switch (byte) {
    case 0x68:  // PUSH, IMUL
    case 0x69:
    case 0x6a:
    case 0x6b:
    case 0x8d:  // LEA
    case 0xa8:  // TEST
    case 0xa9:
    case 0xc0:  // shifts
    case 0xc1:
      return true;
    default:
      return byte < 0x60 ||                    // INC, DEC, PUSH, POP
             (byte >= 0x80 && byte < 0x8c) ||  // arithmetic, TEST, XCHG, MOV
             (byte >= 0xb0 && byte < 0xc0) || (byte >= 0xd0 && byte < 0xd4);
  }
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

bool ends_flow(const Instruction& in) {
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
      return true;
    default:
      return false;
  }
}

}  // namespace

Vetted PageVetter::vet(const CodePage& page) {
  TRAPLINE_ASSERT(page.bytes.size() == kPageSize);
  const size_t head = page.head.size() >= kHead ? kHead : 0;
  const size_t tail = std::min(page.tail.size(), kLongest);
  std::ranges::copy(page.head.last(head), bytes_.begin() + (kHead - head));
  std::ranges::copy(page.bytes, bytes_.begin() + kHead);
  std::ranges::copy(page.tail.first(tail), bytes_.begin() + kHead + kPageSize);
  first_ = static_cast<uint32_t>(kHead - head);
  count_ = static_cast<uint32_t>(kHead + kPageSize + tail);
  sse_ = page.sse;
  loads_are_noticed_ = page.loads_are_noticed;
  sensitive_ = false;
  steps_.fill({});
  lengths_.fill(0);
  owner_.fill(0);
  followed_.reset();
  open_.clear();
  watched_.clear();
  for (const uint16_t entry : page.entries) open_.push_back(static_cast<uint16_t>(entry + kHead));
  while (!open_.empty() && !sensitive_) {
    const uint16_t entry = open_.back();
    open_.pop_back();
    if (followed_[entry]) continue;
    followed_.set(entry);
    follow(entry);
  }
  if (sensitive_) return Vetted::kSensitive;
  return look_for_patterns() ? Vetted::kUnexplored : Vetted::kFine;
}

const PageVetter::Step& PageVetter::step(uint32_t at) {
  Step& known = steps_[at];
  if (known.length == 0) known = decode_step(at);
  return known;
}

/// The same, for less where the first byte tells enough.
const PageVetter::Step& PageVetter::followed_step(uint32_t at) {
  Step& known = steps_[at];
  if (known.length != 0 || !is_plain(bytes_[at])) return step(at);
  const uint8_t bytes = length(at);
  if (bytes == InstructionLengths::kNone) return step(at);
  known.length = bytes;
  known.valid = true;
  return known;
}

PageVetter::Step PageVetter::decode_step(uint32_t at) const {
  const std::span<const uint8_t> bytes = std::span(bytes_).subspan(at, count_ - at);
  Step out;
  out.length = 1;
  Instruction in;
  const Decoded decoded =
      decode(bytes.first(std::min(bytes.size(), kLongest)), CodeSize::k32, model_, at, in);
  const auto opcode =
      static_cast<size_t>(std::find_if_not(bytes.begin(), bytes.end(), is_prefix) - bytes.begin());
  if (decoded == Decoded::kMoreBytes) {  // It ends where nobody knows how.
    out.valid = true;
    out.ends = true;
    out.length = static_cast<uint8_t>(bytes.size());
    out.differs = opcode < bytes.size() && first_byte_of_sensitive(bytes[opcode]);
    return out;
  }
  if (decoded != Decoded::kOk) {
    out.differs = unknown_and_sensitive(bytes.subspan(std::min(opcode, bytes.size())));
    out.valid = out.differs;
    return out;
  }
  out.valid = true;
  out.length = in.length;
  out.ends = ends_flow(in);
  out.differs = in.mnemonic == ZYDIS_MNEMONIC_CPUID
                    ? !cpuid_faults_
                    : silently_differs(in) || (!sse_ && in.row->fpu == FpuUse::kSse);
  out.cpuid = out.differs && in.mnemonic == ZYDIS_MNEMONIC_CPUID && in.length == 2;
  out.noticed = loads_are_noticed_ && only_loads(in);
  for (int i = 0; i < in.operand_count; ++i) {
    if (in.operand[i].kind != Operand::Kind::kRelative) continue;
    const auto target = static_cast<uint64_t>(in.next_eip() + in.operand[i].value);
    out.has_target = target >= kHead && target < kHead + kPageSize;
    out.target = static_cast<uint16_t>(target);
  }
  return out;
}

/// Marks instructions from the entry on, until the flow leaves the page or meets what is known.
void PageVetter::follow(uint16_t entry) {
  uint32_t at = entry;
  while (at < kHead + kPageSize && owner_[at] != at + 1) {
    const Step& here = followed_step(at);
    if (!here.valid) return;
    if (here.differs && !watch(at)) {
      sensitive_ = true;
      culprit_ = at;
      return;
    }
    // An instruction that begins inside a known one makes neither of them known.
    const auto begin = owner_.begin() + at;
    const auto end = owner_.begin() + std::min(at + here.length, kHead + kPageSize);
    const bool overlaps = std::any_of(begin, end, [](uint16_t owner) { return owner != 0; });
    std::fill(begin, end, static_cast<uint16_t>(overlaps ? 0 : at + 1));
    if (here.has_target && owner_[here.target] != here.target + 1) open_.push_back(here.target);
    if (overlaps || here.ends) return;
    at += here.length;
  }
}

/// Whether execution is going to be stopped at what begins there, so that it may differ.
bool PageVetter::watch(uint32_t at) {
  if (!step(at).cpuid || at + 2 > kHead + kPageSize) return false;
  const auto offset = static_cast<uint16_t>(at - kHead);
  if (std::ranges::find(watched_, offset) != watched_.end()) return true;
  if (watched_.size() >= most_watched_) return false;
  watched_.push_back(offset);
  return true;
}

/// Whether an instruction that is known goes on at the byte, so that none begins there.
bool PageVetter::inside_known(uint32_t at) const {
  return owner_[at] != 0 && owner_[at] != at + 1;
}

/// Cheaper than decoding, for what is most of the bytes.
bool PageVetter::may_differ(uint32_t opcode) const {
  if (opcode >= count_ || !first_byte_of_sensitive(bytes_[opcode])) return false;
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
  if (known == 0) known = known_lengths_.of(std::span(bytes_).subspan(at, count_ - at));
  return known;
}

/// Whether an instruction there would silently differ, and not be noticed.
bool PageVetter::matters(uint32_t at) {
  uint32_t opcode = at;
  while (opcode < count_ && is_prefix(bytes_[opcode])) ++opcode;
  if (!may_differ(opcode)) return false;
  const Step& here = step(at);
  return here.differs && !here.noticed;
}

/// Whether decoding that begins at any of 16 bytes in a row, well before, finds the byte inside an
/// instruction that does not differ. Whatever instructions there really are, one begins at one of
/// the 16, and most others fall in with them on the way. Where it is not known what comes before
/// the page, they are its first ones.
bool PageVetter::agreed(uint32_t from) {
  const uint32_t begin = std::max(from - kHead, first_);
  if (begin + kStarts > from) return false;
  std::array<uint8_t, kHead + 1> arriving{};  // How many starts lead to a byte, from `begin` on.
  std::fill_n(arriving.begin(), kStarts, uint8_t{1});
  uint32_t agreeing = 0;
  for (uint32_t at = begin; at < from; ++at) {
    const uint8_t starts = arriving[at - begin];
    if (starts == 0) continue;
    const uint8_t bytes = length(at);
    if (bytes == InstructionLengths::kNone) continue;  // Not what anybody executes.
    if (at + bytes <= from) {
      arriving[at + bytes - begin] = static_cast<uint8_t>(arriving[at + bytes - begin] + starts);
    } else if (matters(at)) {
      return false;
    } else {
      agreeing += starts;
    }
  }
  return arriving[from - begin] == 0 && agreeing >= 2;
}

bool PageVetter::look_for_patterns() {
  for (uint32_t at = kHead; at < kHead + kPageSize; ++at) {
    // An instruction of its own that is known to begin here has been found not to differ.
    if (!may_differ(at) || owner_[at] == at + 1) continue;
    if (!step(at).differs || step(at).noticed) continue;
    if (inside_known(at) || agreed(at)) continue;
    // With a prefix it would begin before.
    if (at > first_ && !is_prefix(bytes_[at - 1]) && watch(at)) continue;
    culprit_ = at;
    return true;
  }
  return false;
}

std::string PageVetter::culprit() const {
  const auto bytes = std::span(bytes_).subspan(culprit_, count_ - culprit_);
  Instruction in;
  if (decode(bytes.first(std::min(bytes.size(), kLongest)), CodeSize::k32, model_, culprit_, in) !=
      Decoded::kOk)
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
