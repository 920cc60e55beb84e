// Decimal adjustments, and SALC. The flags that the manual leaves undefined come out as on Intel's
// processors: those that depend on a result follow AL, the others are clear, except AAD's.
#include <bit>

#include "vcpu/execution.h"

namespace trapline {
namespace {

uint32_t al(const Execution& x) {
  return x.state.gpr[kEax] & 0xff;
}
uint32_t ah(const Execution& x) {
  return x.state.gpr[kEax] >> 8 & 0xff;
}

uint32_t result_flags(uint32_t value) {
  const bool even = std::popcount(value & 0xff) % 2 == 0;
  return ((value & 0xff) == 0 ? eflags::kZf : 0) | (value & 0x80 ? eflags::kSf : 0) |
         (even ? eflags::kPf : 0);
}

void finish(Execution& x, bool carry, bool adjust) {
  x.set_flags(eflags::kArithmetic,
              result_flags(al(x)) | (carry ? eflags::kCf : 0) | (adjust ? eflags::kAf : 0));
}

bool needs_low_adjust(const Execution& x) {
  return (al(x) & 0xf) > 9 || (x.state.eflags & eflags::kAf);
}

OrFault<void> ascii_adjust(Execution& x, uint32_t by) {
  const bool adjust = needs_low_adjust(x);
  if (adjust) x.set_gpr(kEax, x.state.gpr[kEax] + by, 2);
  x.set_gpr(kEax, al(x) & 0xf, 1);
  finish(x, adjust, adjust);
  return {};
}
OrFault<void> aaa(Execution& x) {
  return ascii_adjust(x, 0x106);
}
OrFault<void> aas(Execution& x) {
  return ascii_adjust(x, 0u - 0x106);
}

OrFault<void> daa(Execution& x) {
  const uint32_t old = al(x);
  const bool low = needs_low_adjust(x);
  const bool high = old > 0x99 || (x.state.eflags & eflags::kCf);
  x.set_gpr(kEax, old + (low ? 6 : 0) + (high ? 0x60 : 0), 1);
  finish(x, high, low);
  return {};
}

OrFault<void> das(Execution& x) {
  const uint32_t old = al(x);
  const bool low = needs_low_adjust(x);
  const bool high = old > 0x99 || (x.state.eflags & eflags::kCf);
  const bool borrow = low && old < 6;
  x.set_gpr(kEax, old - (low ? 6 : 0) - (high ? 0x60 : 0), 1);
  finish(x, high || borrow, low);
  return {};
}

OrFault<void> aam(Execution& x) {
  const auto base = static_cast<uint32_t>(x.operands[0].imm.value.u & 0xff);
  if (base == 0) return Fault::plain(Vector::kDivide);
  x.set_gpr(kEax, al(x) / base << 8 | al(x) % base, 2);
  finish(x, false, false);
  return {};
}

// Its flags are those of the addition.
OrFault<void> aad(Execution& x) {
  const auto base = static_cast<uint32_t>(x.operands[0].imm.value.u & 0xff);
  const uint32_t left = al(x);
  const uint32_t right = ah(x) * base & 0xff;
  const uint32_t sum = left + right;
  const bool overflow = (left ^ sum) & (right ^ sum) & 0x80;
  x.set_gpr(kEax, sum & 0xff, 2);
  finish(x, sum > 0xff, (left ^ right ^ sum) & 0x10);
  if (overflow) x.set_flags(eflags::kOf, eflags::kOf);
  return {};
}

OrFault<void> salc(Execution& x) {
  x.set_gpr(kEax, x.state.eflags & eflags::kCf ? 0xff : 0, 1);
  return {};
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_AAA, aaa},   {ZYDIS_MNEMONIC_AAS, aas}, {ZYDIS_MNEMONIC_DAA, daa},
    {ZYDIS_MNEMONIC_DAS, das},   {ZYDIS_MNEMONIC_AAM, aam}, {ZYDIS_MNEMONIC_AAD, aad},
    {ZYDIS_MNEMONIC_SALC, salc},
};

}  // namespace

std::span<const InterpreterRow> bcd_rows() {
  return kRows;
}

}  // namespace trapline
