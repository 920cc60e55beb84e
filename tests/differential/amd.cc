#include "tests/differential/amd.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>

#include "tests/differential/campaign.h"
#include "tests/differential/forms.h"
#include "vcpu/host_processor.h"
#include "vcpu/state.h"

namespace trapline::differential {
namespace {

constexpr const char* kWays[] = {
    "fields that are not compared:",
    "  PUSH of a segment register: memory, as zeros are written above the selector",
    "  INT1: EIP",
    "  LOOPE and LOOPNE with F2 or F3: EIP and a fault there (in 16-bit code ECX, too), as the "
    "prefix decides about the condition",
    "  ENTER where a 16-bit stack pointer wraps: EBP",
    "  UD1: the fault, as it depends on which bytes are fetched",
    "  LOCK where it is illegal, with SLDT and its like: the fault, as the host's kernel is asked "
    "first",
    "  REP CMPS and SCAS that fault at a later element: flags",
    "cases in whose place others are drawn:",
    "  PUSH of a segment register whose zeros run into a page that faults",
    "  x87 stores with an unmasked exception and a fault of the memory, which comes first",
    "  accesses across the end of a flat segment: #GP or #SS",
    "  LDMXCSR and FXRSTOR of bit 17, which is not reserved",
    "instructions that blocks are made without, as all that follows would differ:",
    "  PUSH of a segment register; ENTER in 16-bit code",
    "  FXSAVE, FNSTENV and FNSAVE: pointers only with an unmasked exception, other selectors",
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

bool repeated(const Decoded& decoded) {
  return has_prefix(decoded, {0xf2, 0xf3});
}

bool loops_on_condition(const Decoded& decoded) {
  const ZydisMnemonic mnemonic = decoded.instruction.mnemonic;
  return mnemonic == ZYDIS_MNEMONIC_LOOPE || mnemonic == ZYDIS_MNEMONIC_LOOPNE;
}

bool enters_by_short_stack(const Decoded& decoded, CodeSize size) {
  return decoded.instruction.mnemonic == ZYDIS_MNEMONIC_ENTER && size == CodeSize::k16;
}

/// ENTER pushes four bytes at most before it reads the stack pointer.
bool enter_may_wrap(const Case& test, const Decoded& decoded) {
  return enters_by_short_stack(decoded, test.size) && (test.initial.gpr[kEsp] & 0xffff) < 4;
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

bool amd_blocks_lack(const Decoded& decoded, CodeSize size) {
  return pushes_segment(decoded) || saves_x87(decoded) || enters_by_short_stack(decoded, size);
}

bool amd_differs(const Case& test, const Outcome& host) {
  if (!host_is_amd()) return false;
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
    mask.memory |= pushes_segment(*decoded);
    mask.eip |= decoded->instruction.mnemonic == ZYDIS_MNEMONIC_INT1;
    if (loops_on_condition(*decoded) && repeated(*decoded)) {
      mask.eip = mask.event = true;
      if (test.size == CodeSize::k16) mask.gprs |= 1u << kEcx;  // Not counted if beyond the limit.
    }
    if (enter_may_wrap(test, *decoded)) mask.gprs |= 1u << kEbp;
  }
  if (host.event != Event::kException) return;
  const auto decoded = decode_at(test, host.final.eip - test.initial.eip);
  if (!decoded) {
    mask.which_fault = true;
    return;
  }
  mask.which_fault |= decoded->instruction.mnemonic == ZYDIS_MNEMONIC_UD1;
  if (compares_strings(*decoded) && repeated(*decoded)) mask.eflags |= eflags::kArithmetic;
}

void print_amd_ways() {
  for (const char* way : kWays) std::printf("  %s\n", way);
}

}  // namespace trapline::differential
