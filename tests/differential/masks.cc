// Fields that are not compared when a certain instruction faults, each with its reason. A row masks
// fields, never cases; what the manual defines is always compared.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "tests/differential/campaign.h"
#include "vcpu/host_x87.h"

namespace trapline::differential {
namespace {

constexpr const char* kWholeOperand =
    "an operand of many words is checked in an order that differs between processors, which may "
    "have "
    "stored its first part by then";
constexpr const char* kPartialStore =
    "a store that runs into a page that faults may have written its first part; processors differ";
constexpr const char* kTwoOperands =
    "when both operands fault, which one is reported is not defined";
constexpr const char* kSecondBound =
    "when the lower bound is violated already, some processors do not read the upper one";
constexpr const char* kMaskedBytes =
    "whether bytes that are not to be stored can fault, and which one is reported, is not defined";
constexpr const char* kMmxTop =
    "some processors set TOP to 0 before the store of an MMX register faults";
constexpr const char* kPartialPop = "some processors load registers before a later word faults";

constexpr const char* kPushedBefore =
    "some processors push before they find the target beyond the limit of CS, which the manual has "
    "the other way round";

constexpr const char* kWrapsInside =
    "some processors access 80 bits in two parts, whose 16-bit offsets wrap";

struct MaskRow {
  ZydisMnemonic mnemonic;
  FieldMask mask;
  const char* reason;
  std::optional<CodeSize> only = {};
};

constexpr FieldMask large_store() {
  FieldMask mask;
  mask.cr2_offset = true;
  mask.memory = true;
  return mask;
}

constexpr FieldMask whole_store() {
  FieldMask mask;
  mask.which_fault = true;
  mask.memory = true;
  return mask;
}

constexpr FieldMask memory() {
  FieldMask mask;
  mask.memory = true;
  return mask;
}

constexpr FieldMask which_fault() {
  FieldMask mask;
  mask.which_fault = true;
  return mask;
}

constexpr FieldMask mmx_top() {
  FieldMask mask;
  mask.x87_top = true;
  return mask;
}

constexpr FieldMask masked_mmx() {
  FieldMask mask = which_fault();
  mask.x87_top = true;
  return mask;
}

constexpr FieldMask popped_registers() {
  FieldMask mask;
  mask.gprs = 0xff & ~(1u << kEsp);
  return mask;
}

constexpr MaskRow kRows[] = {
    {ZYDIS_MNEMONIC_FLDENV, which_fault(), kWholeOperand},
    {ZYDIS_MNEMONIC_FRSTOR, which_fault(), kWholeOperand},
    {ZYDIS_MNEMONIC_CALL, whole_store(), kPushedBefore},
    {ZYDIS_MNEMONIC_FXRSTOR, which_fault(), kWholeOperand},
    {ZYDIS_MNEMONIC_MASKMOVQ, masked_mmx(), kMaskedBytes},
    {ZYDIS_MNEMONIC_MOVQ, mmx_top(), kMmxTop},
    {ZYDIS_MNEMONIC_MOVD, mmx_top(), kMmxTop},
    {ZYDIS_MNEMONIC_MOVNTQ, mmx_top(), kMmxTop},
    {ZYDIS_MNEMONIC_MASKMOVDQU, which_fault(), kMaskedBytes},
    {ZYDIS_MNEMONIC_FNSTENV, whole_store(), kWholeOperand},
    {ZYDIS_MNEMONIC_FNSAVE, whole_store(), kWholeOperand},
    {ZYDIS_MNEMONIC_FXSAVE, whole_store(), kWholeOperand},
    {ZYDIS_MNEMONIC_FLD, which_fault(), kWrapsInside, CodeSize::k16},
    {ZYDIS_MNEMONIC_FBLD, which_fault(), kWrapsInside, CodeSize::k16},
    {ZYDIS_MNEMONIC_FSTP, whole_store(), kWrapsInside, CodeSize::k16},
    {ZYDIS_MNEMONIC_FBSTP, whole_store(), kWrapsInside, CodeSize::k16},
    {ZYDIS_MNEMONIC_FSTP, memory(), kPartialStore},
    {ZYDIS_MNEMONIC_FBSTP, memory(), kPartialStore},
    {ZYDIS_MNEMONIC_PUSHA, whole_store(), kPartialStore, CodeSize::k16},
    {ZYDIS_MNEMONIC_PUSHAD, whole_store(), kPartialStore, CodeSize::k16},
    {ZYDIS_MNEMONIC_PUSHA, memory(), kPartialStore},
    {ZYDIS_MNEMONIC_PUSHAD, memory(), kPartialStore},
    {ZYDIS_MNEMONIC_ENTER, large_store(), kPartialStore},
    {ZYDIS_MNEMONIC_POPA, popped_registers(), kPartialPop},
    {ZYDIS_MNEMONIC_POPAD, popped_registers(), kPartialPop},
    {ZYDIS_MNEMONIC_BOUND, which_fault(), kSecondBound},
    {ZYDIS_MNEMONIC_CMPSB, which_fault(), kTwoOperands},
    {ZYDIS_MNEMONIC_CMPSW, which_fault(), kTwoOperands},
    {ZYDIS_MNEMONIC_CMPSD, which_fault(), kTwoOperands},
};

ZydisMnemonic instruction_at(const Case& test, uint32_t eip) {
  const auto decoded = decode_at(test, eip - test.initial.eip);
  return decoded ? decoded->instruction.mnemonic : ZYDIS_MNEMONIC_INVALID;
}

/// Hosts that leave the pointers out of what they save leave them out of FXSAVE's image, too, and
/// of signals'.
void mask_x87_pointers(const Case& test, const Outcome& outcome, FieldMask& mask) {
  if (host_saves_x87_pointers()) return;
  mask.fpu_pointers |= outcome.event == Event::kException;
  mask.memory |= instruction_at(test, test.initial.eip) == ZYDIS_MNEMONIC_FXSAVE;
}

}  // namespace

std::optional<Decoded> decode_at(const Case& test, uint32_t offset) {
  static const ZydisDecoder decoder32 = make_decoder(CodeSize::k32);
  static const ZydisDecoder decoder16 = make_decoder(CodeSize::k16);
  if (offset >= test.code_length) return std::nullopt;
  Decoded decoded;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(test.size == CodeSize::k16 ? &decoder16 : &decoder32,
                                           &test.code[offset], test.code_length - offset,
                                           &decoded.instruction, decoded.operands)))
    return std::nullopt;
  return decoded;
}

FieldMask mask_for(const Case& test, const Outcome& outcome) {
  FieldMask mask;
  if (outcome.event == Event::kException) {
    const ZydisMnemonic mnemonic = instruction_at(test, outcome.final.eip);
    const auto* row = std::ranges::find_if(kRows, [&](const MaskRow& each) {
      return each.mnemonic == mnemonic && each.only.value_or(test.size) == test.size;
    });
    if (row != std::end(kRows)) mask = row->mask;
  }
  mask_x87_pointers(test, outcome, mask);
  return mask;
}

bool stores_x87_pointers(const Case& test) {
  switch (instruction_at(test, test.initial.eip)) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
      return true;
    default:
      return false;
  }
}

void print_masks() {
  for (const MaskRow& row : kRows)
    std::printf("  %-12s %s\n", ZydisMnemonicGetString(row.mnemonic), row.reason);
}

}  // namespace trapline::differential
