#include "runtime/native/instruction_effects.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "runtime/native/instruction_lengths.h"
#include "translator/decoder.h"
#include "translator/instruction_table.h"

namespace trapline {

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

namespace {

/// What no model has, is looked for everywhere, and the host's processor may execute: XGETBV,
/// RDRAND, XSAVE and others.
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

/// May be the first byte of what no model has, besides those that are looked for: EVEX, XOP,
/// FISTTP.
bool first_byte_of_unknown(uint8_t byte) {
  return byte == 0x62 || byte == 0x8f || byte == 0xdb || byte == 0xdd || byte == 0xdf;
}

/// BSR to the models, LZCNT to most hosts. BSF and TZCNT differ for zero and in flags only, and
/// compilers take them for the same.
bool is_lzcnt(const Instruction& in, std::span<const uint8_t> prefixes) {
  return in.mnemonic == ZYDIS_MNEMONIC_BSR && std::ranges::find(prefixes, 0xf3) != prefixes.end();
}

/// What loads a segment register. Natively it either faults, and is emulated, or leaves a selector
/// that the next event shows. A far CALL stores one as well, but not before the other is loaded.
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
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
      return true;
    default:
      return false;
  }
}

bool calls(const Instruction& in) {
  return in.mnemonic == ZYDIS_MNEMONIC_CALL || in.mnemonic == ZYDIS_MNEMONIC_INT;
}

bool enters_kernel(const Instruction& in) {
  return in.mnemonic == ZYDIS_MNEMONIC_SYSENTER || in.mnemonic == ZYDIS_MNEMONIC_SYSCALL;
}

/// How many bytes tell where a direct branch goes.
uint8_t distance_of(const Instruction& in) {
  for (int i = 0; i < in.operand_count; ++i)
    if (in.operand[i].kind == Operand::Kind::kRelative) return in.encoding.immediate_size[0];
  return 0;
}

bool has_sib(const Instruction& in) {
  constexpr uint8_t kSib = 4;  // As the base, unless it is a register.
  return in.memory_operand >= 0 && in.encoding.modrm != 0 && in.modrm < 0xc0 &&
         (in.modrm & 7) == kSib && in.address_size == 4;
}

}  // namespace

InstructionEffects::Known InstructionEffects::decoded(std::span<const uint8_t> bytes) const {
  Known known;
  InstructionEffect& out = known.effect;
  out.length = 1;
  Instruction in;
  const Decoded decoded = decode(bytes.first(std::min(bytes.size(), InstructionForm::kLongest)),
                                 CodeSize::k32, model_, 0, in);
  const auto opcode =
      static_cast<size_t>(std::find_if_not(bytes.begin(), bytes.end(), is_prefix) - bytes.begin());
  if (decoded == Decoded::kMoreBytes) {  // It ends where nobody knows how.
    out.valid = true;
    out.ends = true;
    out.length = bytes.size() & 0xf;
    out.differs = opcode < bytes.size() && first_byte_of_sensitive(bytes[opcode]);
    out.only_known =
        !out.differs && (opcode == bytes.size() || first_byte_of_unknown(bytes[opcode]));
    out.differs |= out.only_known;
    return known;
  }
  if (decoded != Decoded::kOk) {
    const bool sensitive = unknown_and_sensitive(bytes.subspan(std::min(opcode, bytes.size())));
    out.differs = sensitive || InstructionLengths::ask(bytes) != InstructionLengths::kNone;
    out.only_known = out.differs && !sensitive;
    out.valid = out.differs;
    out.ends = out.differs;  // It is #UD for the guest.
    return known;
  }
  out.valid = true;
  out.length = in.length & 0xf;
  out.distance = distance_of(in) & 7;
  out.only_known = is_lzcnt(in, bytes.first(opcode));
  out.differs = out.only_known || silently_differs(in);
  out.sse = fpu_use(in) == FpuUse::kSse;
  out.only_loads = only_loads(in);
  out.cpuid = in.mnemonic == ZYDIS_MNEMONIC_CPUID;
  out.ends = ends_flow(in);
  out.calls = calls(in);
  out.system = enters_kernel(in);
  known.sib = has_sib(in);
  return known;
}

void InstructionEffects::learn(std::span<const uint8_t> bytes, const InstructionForm& form) {
  Known& known = memo_.at(form);
  known = decoded(bytes);
  if (known.sib && form.displacement) known.effect.length -= InstructionForm::kDisplacement;
}

}  // namespace trapline
