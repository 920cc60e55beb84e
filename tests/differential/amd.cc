#include "tests/differential/amd.h"

#include <cpuid.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>

#include "tests/differential/campaign.h"
#include "tests/differential/forms.h"
#include "vcpu/state.h"

namespace trapline::differential {
namespace {

constexpr const char* kWays[] = {
    "AAA, AAS, DAA, DAS: undefined flags; blocks with them are not compared",
    "PUSH of a segment register: writes zeros above the selector; blocks are not compared",
    "INT1: EIP",
    "ENTER: EBP's upper half where a 16-bit stack pointer wraps; not compared, nor are blocks of "
    "16-bit "
    "code with it",
    "UD1: which bytes are fetched",
    "LOCK where it is illegal: with SLDT and its like, the host's kernel comes before #UD",
    "LOOPE and LOOPNE with F2 or F3: the prefix decides about the condition; not compared",
    "REP CMPS and SCAS: flags when a later element faults",
    "x87 stores: a fault of the memory comes before an unmasked exception; not compared",
    "accesses across the end of a flat segment are #GP or #SS; not compared",
    "FXSAVE: pointers only with an unmasked exception; FNSTENV and FNSAVE: selectors; blocks with "
    "them are not compared",
    "MXCSR: bit 17 is not reserved; not compared where it is set",
};

std::span<const ZydisDecodedOperand> operands(const Decoded& decoded) {
  return {decoded.operands, decoded.instruction.operand_count};
}

bool has_prefix(const Decoded& decoded, std::initializer_list<uint8_t> values) {
  const auto& raw = decoded.instruction.raw;
  return std::any_of(raw.prefixes, raw.prefixes + raw.prefix_count, [&](const auto& prefix) {
    return std::ranges::find(values, prefix.value) != values.end();
  });
}

bool decimal(const Decoded& decoded) {
  switch (decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
      return true;
    default:
      return false;
  }
}

bool pushes_segment(const Decoded& decoded) {
  const ZydisDecodedOperand& operand = decoded.operands[0];
  return decoded.instruction.mnemonic == ZYDIS_MNEMONIC_PUSH &&
         operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value >= ZYDIS_REGISTER_ES &&
         operand.reg.value <= ZYDIS_REGISTER_GS;
}

bool compares_strings(const Decoded& decoded) {
  switch (decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
      return true;
    default:
      return false;
  }
}

bool saves_x87(const Decoded& decoded) {
  const ZydisMnemonic mnemonic = decoded.instruction.mnemonic;
  return mnemonic == ZYDIS_MNEMONIC_FXSAVE || mnemonic == ZYDIS_MNEMONIC_FNSTENV ||
         mnemonic == ZYDIS_MNEMONIC_FNSAVE;
}

bool x87_store(const Decoded& decoded) {
  switch (decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FST:
    case ZYDIS_MNEMONIC_FSTP:
    case ZYDIS_MNEMONIC_FIST:
    case ZYDIS_MNEMONIC_FISTP:
    case ZYDIS_MNEMONIC_FBSTP:
      return true;
    default:
      return false;
  }
}

bool differs_anywhere(const Decoded& decoded, bool block) {
  const ZydisMnemonic mnemonic = decoded.instruction.mnemonic;
  if (mnemonic == ZYDIS_MNEMONIC_LOOPE || mnemonic == ZYDIS_MNEMONIC_LOOPNE)
    return has_prefix(decoded, {0xf2, 0xf3});
  return block && (decimal(decoded) || pushes_segment(decoded) || saves_x87(decoded));
}

/// ENTER pushes four bytes at most before it reads the stack pointer.
bool enter_may_wrap(const Case& test, const Decoded& decoded) {
  const bool at_start = test.instruction_count == 1 && (test.initial.gpr[kEsp] & 0xffff) >= 4;
  return decoded.instruction.mnemonic == ZYDIS_MNEMONIC_ENTER && test.size == CodeSize::k16 &&
         !at_start;
}

uint32_t value_of(const CpuImage& cpu, ZydisRegister name) {
  if (name >= ZYDIS_REGISTER_EAX && name <= ZYDIS_REGISTER_EDI)
    return cpu.gpr[size_t(name - ZYDIS_REGISTER_EAX)];
  if (name >= ZYDIS_REGISTER_AX && name <= ZYDIS_REGISTER_DI)
    return cpu.gpr[size_t(name - ZYDIS_REGISTER_AX)] & 0xffff;
  return 0;
}

/// Whether it accesses memory within reach of the end of the 4 GiB.
bool near_end(const Decoded& decoded, const CpuImage& cpu) {
  constexpr uint64_t kReach = 512, kEnd = uint64_t{1} << 32;
  return std::ranges::any_of(operands(decoded), [&](const ZydisDecodedOperand& operand) {
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) return false;
    const uint32_t at = value_of(cpu, operand.mem.base) +
                        value_of(cpu, operand.mem.index) * operand.mem.scale +
                        static_cast<uint32_t>(operand.mem.disp.value);
    return at < kReach || at + kReach >= kEnd;
  });
}

}  // namespace

bool host_is_amd() {
  static const bool amd = [] {
    unsigned highest = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(0, &highest, &b, &c, &d)) return false;
    constexpr unsigned kAuth = 0x68747541, kHygo = 0x6f677948;
    return b == kAuth || b == kHygo;
  }();
  return amd;
}

bool amd_differs(const Case& test, const Outcome& host) {
  if (!host_is_amd()) return false;
  const bool block = test.instruction_count > 1;
  for (uint32_t i = 0; i < test.instruction_count; ++i)
    if (const auto decoded = decode_at(test, test.instructions[i]);
        decoded && (differs_anywhere(*decoded, block) || enter_may_wrap(test, *decoded)))
      return true;
  constexpr uint32_t kMisalignedMode = 1u << 17;
  if (host.final.fpu.mxcsr & kMisalignedMode) return true;
  if (host.event != Event::kException) return false;
  const auto decoded = decode_at(test, host.final.eip - test.initial.eip);
  if (!decoded) return false;
  if (pushes_segment(*decoded)) return true;  // As the zeros cannot be written.
  constexpr uint16_t kMasks = 0x3f;
  const bool masked = (host.final.fpu.control & kMasks) == kMasks;
  if (x87_store(*decoded) && !masked) return true;
  constexpr uint8_t kStackFault = 12, kGeneralProtection = 13;
  const bool limit = host.vector == kStackFault || host.vector == kGeneralProtection;
  return limit && test.size == CodeSize::k32 && near_end(*decoded, host.final);
}

void mask_amd(const Case& test, const Outcome& host, FieldMask& mask) {
  if (!host_is_amd()) return;
  if (const auto decoded = decode_at(test, 0); decoded && test.instruction_count == 1) {
    if (decimal(*decoded)) mask.eflags |= decoded->instruction.cpu_flags->undefined;
    mask.memory |= pushes_segment(*decoded);
    mask.eip |= decoded->instruction.mnemonic == ZYDIS_MNEMONIC_INT1;
  }
  if (host.event != Event::kException) return;
  const auto decoded = decode_at(test, host.final.eip - test.initial.eip);
  if (!decoded) {
    mask.which_fault = true;
    return;
  }
  mask.which_fault |= decoded->instruction.mnemonic == ZYDIS_MNEMONIC_UD1;
  if (compares_strings(*decoded) && has_prefix(*decoded, {0xf2, 0xf3}))
    mask.eflags |= eflags::kArithmetic;
}

void print_amd_ways() {
  for (const char* way : kWays) std::printf("  %s\n", way);
}

}  // namespace trapline::differential
