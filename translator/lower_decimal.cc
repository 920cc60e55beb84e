// Decimal adjustments and SALC, which 64-bit code does not have. What the manual leaves undefined
// is as in vcpu/interpreter_bcd.cc.
#include <Zydis/Mnemonic.h>

#include <array>
#include <bit>

#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

/// The flags among the saved ones, which are LAHF's shifted left by 8: the index of a table entry
/// is these bits and AL.
constexpr uint32_t kCarry = 1u << 8;
constexpr uint32_t kAdjust = 1u << 12;

/// What an adjustment makes of AL and the flags: AL, then AH as SAHF wants it, then what is added
/// to the guest's AH.
using AdjustTable = std::array<uint32_t, (kCarry | kAdjust) + 0x100>;

constexpr uint32_t entry(uint32_t al, bool carry, bool adjust, uint32_t added = 0) {
  const bool even = std::popcount(al) % 2 == 0;
  const uint32_t flags = (al == 0 ? eflags::kZf : 0) | (al & 0x80 ? eflags::kSf : 0) |
                         (even ? eflags::kPf : 0) | (carry ? eflags::kCf : 0) |
                         (adjust ? eflags::kAf : 0);
  return al | flags << 8 | (added & 0xff) << 16;
}

constexpr uint32_t decimal_entry(uint32_t al, bool carry, bool adjust, bool subtract) {
  const bool low = adjust || (al & 0xf) > 9;
  const bool high = carry || al > 0x99;
  const bool borrow = subtract && low && al < 6;
  const uint32_t change = (low ? 6 : 0) + (high ? 0x60 : 0);
  return entry((subtract ? al - change : al + change) & 0xff, high || borrow, low);
}

constexpr uint32_t ascii_entry(uint32_t al, bool adjust, bool subtract) {
  if (!adjust && (al & 0xf) <= 9) return entry(al & 0xf, false, false);
  const uint32_t ax = subtract ? al - 0x106 : al + 0x106;
  return entry(ax & 0xf, true, true, ax >> 8);
}

template <typename Make>
constexpr AdjustTable make_table(const Make& make) {
  AdjustTable table{};
  for (uint32_t flags : {0u, kCarry, kAdjust, kCarry | kAdjust})
    for (uint32_t al = 0; al < 0x100; ++al)
      table[flags | al] = make(al, (flags & kCarry) != 0, (flags & kAdjust) != 0);
  return table;
}

constexpr AdjustTable kDaa = make_table(
    [](uint32_t al, bool carry, bool adjust) { return decimal_entry(al, carry, adjust, false); });
constexpr AdjustTable kDas = make_table(
    [](uint32_t al, bool carry, bool adjust) { return decimal_entry(al, carry, adjust, true); });
constexpr AdjustTable kAaa =
    make_table([](uint32_t al, bool, bool adjust) { return ascii_entry(al, adjust, false); });
constexpr AdjustTable kAas =
    make_table([](uint32_t al, bool, bool adjust) { return ascii_entry(al, adjust, true); });

const AdjustTable& table_of(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_DAA:
      return kDaa;
    case ZYDIS_MNEMONIC_DAS:
      return kDas;
    case ZYDIS_MNEMONIC_AAA:
      return kAaa;
    default:
      return kAas;
  }
}

/// DAA, DAS, AAA, AAS.
void adjust_by_table(BlockEmitter& e, const Instruction& in, bool changes_ah) {
  const x86::Gp found = host::kValue.r32();
  const x86::Gp other = host::kDelta.r32();
  e.save_flags_for_exit();
  const auto table =
      reinterpret_cast<uint64_t>(table_of(static_cast<ZydisMnemonic>(in.mnemonic)).data());
  e.a.mov(found, host::kFlags.r32());
  e.a.and_(found, asmjit::imm(kCarry | kAdjust));
  e.a.movzx(other, x86::al);
  e.a.add(found, other);
  e.a.mov(host::kDelta, asmjit::imm(table));
  e.a.mov(found, x86::ptr(host::kDelta, host::kValue, 2, 0, 4));
  e.a.mov(x86::al, host::kValue.r8());
  // The low byte of the saved flags is OF.
  e.a.mov(host::kFlags.r32(), found);
  e.a.and_(host::kFlags.r32(), asmjit::imm(0xff00));
  if (changes_ah) {
    e.a.and_(found, asmjit::imm(0xff0000));
    e.a.shr(found, 8);
    e.a.add(x86::ax, host::kValue.r16());
  }
  e.set_flags_saved();
}

/// The quotient by a constant: for dividends and divisors of 8 bits, the upper half of a product is
/// exact.
void adjust_after_multiply(BlockEmitter& e, const Instruction& in) {
  const auto base = static_cast<uint32_t>(in.operand[0].value & 0xff);
  if (base == 0) {
    e.raise(Vector::kDivide, false, 0, in);
    return;
  }
  const x86::Gp rest = host::kValue.r32();
  const x86::Gp quotient = host::kDelta.r32();
  const x86::Gp product = host::kAddress.r32();
  e.clobber_flags();
  e.a.movzx(rest, x86::al);
  e.a.imul(quotient, rest, asmjit::imm(0x10000 / base + 1));
  e.a.shr(quotient, 16);
  e.a.imul(product, quotient, asmjit::imm(base));
  e.a.sub(rest, product);
  e.a.shl(quotient, 8);
  e.a.add(rest, quotient);
  e.a.mov(x86::ax, host::kValue.r16());
  e.a.add(x86::al, asmjit::imm(0));  // No carries; the others follow AL.
  e.flags_are_in_host();
}

/// The flags are those of the addition.
void adjust_before_divide(BlockEmitter& e, const Instruction& in) {
  const x86::Gp high = host::kValue.r32();
  e.clobber_flags();
  e.a.mov(high, x86::eax);
  e.a.shr(high, 8);
  e.a.imul(high, high, asmjit::imm(static_cast<uint32_t>(in.operand[0].value & 0xff)));
  e.a.and_(x86::eax, asmjit::imm(static_cast<int32_t>(0xffff00ff)));
  e.a.add(x86::al, host::kValue.r8());
  e.flags_are_in_host();
}

/// AL becomes the carry flag's copies, and no flag changes.
void set_by_carry(BlockEmitter& e) {
  e.need_flags();
  e.a.setnc(host::kValue.r8());
  e.a.movzx(host::kValue.r32(), host::kValue.r8());
  e.a.lea(host::kValue.r32(), x86::ptr(host::kValue, -1));
  e.a.mov(x86::al, host::kValue.r8());
}

}  // namespace

void lower_decimal(BlockEmitter& e, const Instruction& in) {
  if (!e.switches().inline_system) {
    lower_interpreted(e, in);
    return;
  }
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_AAM:
      return adjust_after_multiply(e, in);
    case ZYDIS_MNEMONIC_AAD:
      return adjust_before_divide(e, in);
    case ZYDIS_MNEMONIC_SALC:
      return set_by_carry(e);
    default:
      return adjust_by_table(
          e, in, in.mnemonic == ZYDIS_MNEMONIC_AAA || in.mnemonic == ZYDIS_MNEMONIC_AAS);
  }
}

}  // namespace trapline
