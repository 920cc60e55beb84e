// Decimal adjustments, and SALC. The flags that the manual leaves undefined come out as on the
// host: AAM's follow AL, the others being clear, and AAD's are those of the addition; decimal.h has
// the rest.
#include "vcpu/decimal.h"
#include "vcpu/execution.h"

namespace trapline {
namespace {

constexpr uint32_t kSign = 0x80;

uint32_t al(const Execution& x) {
  return x.state.gpr[kEax] & 0xff;
}
uint32_t ah(const Execution& x) {
  return x.state.gpr[kEax] >> 8 & 0xff;
}

void finish(Execution& x, uint32_t flags) {
  x.set_flags(eflags::kArithmetic, flags);
}

OrFault<void> adjust(Execution& x, bool subtract,
                     Adjusted (*make)(uint32_t ax, uint32_t flags, bool subtract, DecimalFlags)) {
  const Adjusted made =
      make(x.state.gpr[kEax] & 0xffff, x.state.eflags, subtract, host_decimal_flags());
  x.set_gpr(kEax, made.ax, 2);
  finish(x, made.flags);
  return {};
}
OrFault<void> aaa(Execution& x) {
  return adjust(x, false, adjust_unpacked);
}
OrFault<void> aas(Execution& x) {
  return adjust(x, true, adjust_unpacked);
}
OrFault<void> daa(Execution& x) {
  return adjust(x, false, adjust_packed);
}
OrFault<void> das(Execution& x) {
  return adjust(x, true, adjust_packed);
}

OrFault<void> aam(Execution& x) {
  const auto base = static_cast<uint32_t>(x.operands[0].imm.value.u & 0xff);
  if (base == 0) return Fault::plain(Vector::kDivide);
  x.set_gpr(kEax, al(x) / base << 8 | al(x) % base, 2);
  finish(x, decimal::result_flags(al(x), kSign));
  return {};
}

OrFault<void> aad(Execution& x) {
  const auto base = static_cast<uint32_t>(x.operands[0].imm.value.u & 0xff);
  const uint32_t left = al(x);
  const uint32_t right = ah(x) * base & 0xff;
  const uint32_t sum = left + right;
  x.set_gpr(kEax, sum & 0xff, 2);
  finish(x, decimal::result_flags(sum & 0xff, kSign) |
                decimal::overflow(left, right, sum, false, kSign) | (sum > 0xff ? eflags::kCf : 0) |
                ((left ^ right ^ sum) & 0x10 ? eflags::kAf : 0));
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
