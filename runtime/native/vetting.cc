#include "runtime/native/vetting.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "translator/decoder.h"
#include "translator/instruction.h"
#include "translator/instruction_table.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

bool silently_differs(const Instruction& in) {
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& operand = in.operand[i];
    if (operand.kind == Operand::Kind::kFar) return true;
    if (operand.kind == Operand::Kind::kRegister && operand.register_kind == RegisterKind::kSegment)
      return true;
  }
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
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
  if (in.opcode_map == 0) {
    const uint8_t reg = in.modrm >> 3 & 7;
    switch (in.opcode) {
      case 0x06:
      case 0x07:
      case 0x0e:
      case 0x16:
      case 0x17:
      case 0x1e:
      case 0x1f:
      case 0x8c:
      case 0x8e:
      case 0xca:
      case 0xcb:
        return true;
      case 0xff:
        return reg == 3 || reg == 5;
      default:
        return false;
    }
  }
  if (in.opcode_map == 1)
    return in.opcode == 0xa0 || in.opcode == 0xa1 || in.opcode == 0xa8 || in.opcode == 0xa9;
  return false;
}

/// Whether something that silently differs is executed when it is from here on.
bool begins_sensitive(std::span<const uint8_t> bytes) {
  if (bytes.size() < 2) return false;
  const uint8_t second = bytes[1];
  const uint8_t reg = second >> 3 & 7;
  if (bytes[0] == 0x8e) return second >= 0xc0 && reg < 6 && reg != 1;
  if (bytes[0] == 0x8c) return second >= 0xc0 && reg < 6;
  if (bytes[0] != 0x0f) return false;
  const uint8_t third = bytes.size() > 2 ? bytes[2] : 0xff;
  const uint8_t third_reg = third >> 3 & 7;
  switch (second) {
    case 0x00:  // SLDT, STR, VERR, VERW
      return third_reg == 0 || third_reg == 1 || third_reg == 4 || third_reg == 5;
    case 0x01:  // SGDT, SIDT, SMSW, and what has no memory operand: XGETBV, RDTSCP and others
      return third >= 0xc0 || third_reg == 0 || third_reg == 1 || third_reg == 4;
    case 0x02:  // LAR
    case 0x03:  // LSL
    case 0x05:  // SYSCALL
    case 0x34:  // SYSENTER
    case 0xa0:  // PUSH and POP of FS and GS
    case 0xa1:
    case 0xa2:  // CPUID
    case 0xa8:
    case 0xa9:
      return true;
    case 0xc7:  // RDRAND, RDSEED, RDPID
      return third >= 0xc0 && third_reg >= 6;
    case 0xae:  // XSAVE, XRSTOR and others
      return third < 0xc0 && (third_reg == 4 || third_reg == 5 || third_reg == 6);
    default:
      return false;
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

Vetted PageVetter::vet(std::span<const uint8_t> page, std::span<const uint16_t> entries, bool sse) {
  TRAPLINE_ASSERT(page.size() == kPageSize);
  page_ = page;
  owner_.fill(0);
  followed_.reset();
  sse_ = sse;
  sensitive_ = false;
  open_.assign(entries.begin(), entries.end());
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

/// Marks instructions from the entry on, until the flow leaves the page or meets what is known.
void PageVetter::follow(uint16_t entry) {
  uint32_t at = entry;
  while (at < kPageSize && owner_[at] != at + 1) {
    Instruction in;
    if (decode(page_.subspan(at), CodeSize::k32, model_, at, in) != Decoded::kOk) return;
    if (silently_differs(in) || (!sse_ && in.row->fpu == FpuUse::kSse)) {
      sensitive_ = true;
      return;
    }
    // An instruction that begins inside a known one makes neither of them known.
    bool overlaps = false;
    for (uint32_t i = at; i < at + in.length; ++i) overlaps = overlaps || owner_[i] != 0;
    const auto owner = static_cast<uint16_t>(overlaps ? 0 : at + 1);
    std::fill_n(owner_.begin() + at, in.length, owner);
    if (overlaps) owner_[at] = 0;
    for (int i = 0; i < in.operand_count; ++i) {
      if (in.operand[i].kind != Operand::Kind::kRelative) continue;
      const auto target = static_cast<uint64_t>(in.next_eip() + in.operand[i].value);
      if (target < kPageSize && owner_[target] != target + 1)
        open_.push_back(static_cast<uint16_t>(target));
    }
    if (overlaps || ends_flow(in)) return;
    at += in.length;
  }
}

/// Whether an instruction that is known goes on at the byte, so that none begins there.
bool PageVetter::inside_known(uint32_t at) const {
  return owner_[at] != 0 && owner_[at] != at + 1;
}

/// Whether decoding that begins at any of 16 bytes in a row, well before, finds the byte inside an
/// instruction that does not differ. Whatever instructions there really are, one begins at one of
/// the 16, and most others fall in with them on the way.
bool PageVetter::agreed(uint32_t from) const {
  constexpr uint32_t kStarts = 16;
  constexpr uint32_t kDistance = 48;
  if (from < kStarts + kDistance) return false;
  uint32_t agreeing = 0;
  for (uint32_t start = from - kDistance - kStarts; start < from - kDistance; ++start) {
    Instruction in;
    uint32_t at = start;
    uint32_t next = at;
    while (next <= from) {
      at = next;
      if (decode(page_.subspan(at), CodeSize::k32, model_, at, in) != Decoded::kOk) break;
      next = at + in.length;
    }
    if (next <= from) continue;  // Not what anybody executes.
    if (at == from || silently_differs(in)) return false;
    ++agreeing;
  }
  return agreeing >= kStarts / 2;
}

bool PageVetter::look_for_patterns() const {
  for (uint32_t at = 0; at + 1 < kPageSize; ++at) {
    if (!begins_sensitive(page_.subspan(at))) continue;
    // An instruction of its own that begins here has been found not to differ.
    if (owner_[at] == at + 1) continue;
    if (!inside_known(at) && !agreed(at)) return true;
  }
  return false;
}

}  // namespace trapline
