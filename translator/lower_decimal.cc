// Decimal adjustments and SALC, which 64-bit code does not have. What the manual leaves undefined
// is as on the host: vcpu/decimal.h.
#include <Zydis/Mnemonic.h>

#include <array>

#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "vcpu/decimal.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

/// The flags among the saved ones, which are LAHF's shifted left by 8: the index of a table entry
/// is these bits and AL.
constexpr uint32_t kCarry = 1u << 8;
constexpr uint32_t kAdjust = 1u << 12;

/// What an adjustment makes of AL and the flags: AL, then AH as SAHF wants it, then what is added
/// to the guest's AH, then OF as SETO leaves it.
using AdjustTable = std::array<uint32_t, (kCarry | kAdjust) + 0x100>;

template <typename Make>
constexpr AdjustTable make_table(const Make& make) {
  constexpr uint32_t kInSahf = eflags::kArithmetic & 0xff;
  AdjustTable table{};
  for (uint32_t flags : {0u, kCarry, kAdjust, kCarry | kAdjust})
    for (uint32_t al = 0; al < 0x100; ++al) {
      const uint32_t before =
          (flags & kCarry ? eflags::kCf : 0) | (flags & kAdjust ? eflags::kAf : 0);
      const Adjusted made = make(al, before);
      table[flags | al] = (made.ax & 0xff) | (made.flags & kInSahf) << 8 | (made.ax & 0xff00) << 8 |
                          (made.flags & eflags::kOf ? 1u << 24 : 0);
    }
  return table;
}

constexpr AdjustTable packed_table(bool subtract, DecimalFlags way) {
  return make_table(
      [=](uint32_t al, uint32_t flags) { return adjust_packed(al, flags, subtract, way); });
}
/// Where the undefined flags do not depend on AH.
constexpr AdjustTable unpacked_table(bool subtract) {
  return make_table([=](uint32_t al, uint32_t flags) {
    return adjust_unpacked(al, flags, subtract, DecimalFlags::kOfResult);
  });
}

constexpr AdjustTable kDaa[] = {packed_table(false, DecimalFlags::kOfResult),
                                packed_table(false, DecimalFlags::kOfAddition)};
constexpr AdjustTable kDas[] = {packed_table(true, DecimalFlags::kOfResult),
                                packed_table(true, DecimalFlags::kOfAddition)};
constexpr AdjustTable kAaa = unpacked_table(false);
constexpr AdjustTable kAas = unpacked_table(true);

const AdjustTable& table_of(ZydisMnemonic mnemonic) {
  const auto way = static_cast<size_t>(host_decimal_flags());
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_DAA:
      return kDaa[way];
    case ZYDIS_MNEMONIC_DAS:
      return kDas[way];
    case ZYDIS_MNEMONIC_AAA:
      return kAaa;
    default:
      return kAas;
  }
}

/// Loads the table's entry into the value register. The delta register is lost.
void look_up(BlockEmitter& e, const AdjustTable& table) {
  const x86::Gp found = host::kValue.r32();
  const x86::Gp other = host::kDelta.r32();
  e.save_flags_for_exit();
  e.a.mov(found, host::kFlags.r32());
  e.a.and_(found, asmjit::imm(kCarry | kAdjust));
  e.a.movzx(other, x86::al);
  e.a.add(found, other);
  e.a.mov(host::kDelta, asmjit::imm(reinterpret_cast<uint64_t>(table.data())));
  e.a.mov(found, x86::ptr(host::kDelta, host::kValue, 2, 0, 4));
}

/// Flags by the table. The low byte of the saved flags is OF.
void adjust_by_table(BlockEmitter& e, const Instruction& in, bool changes_ah) {
  const x86::Gp found = host::kValue.r32();
  look_up(e, table_of(static_cast<ZydisMnemonic>(in.mnemonic)));
  e.a.mov(x86::al, host::kValue.r8());
  e.a.mov(host::kFlags.r32(), found);
  e.a.and_(host::kFlags.r32(), asmjit::imm(0xff00));
  if (changes_ah) {
    e.a.and_(found, asmjit::imm(0xff0000));
    e.a.shr(found, 8);
    e.a.add(x86::ax, host::kValue.r16());
  } else if (host_decimal_flags() == DecimalFlags::kOfAddition) {
    e.a.shr(found, 24);
    e.a.or_(host::kFlags.r32(), found);
  }
  e.set_flags_saved();
}

/// AAA and AAS with the flags of the addition, of which the table knows CF and AF.
void adjust_by_addition(BlockEmitter& e, const Instruction& in) {
  const x86::Gp known = host::kValue.r32();
  const x86::Gp change = host::kDelta.r32();
  look_up(e, table_of(static_cast<ZydisMnemonic>(in.mnemonic)));
  e.a.and_(known, asmjit::imm(kCarry | kAdjust));
  e.a.mov(change, known);
  e.a.and_(change, asmjit::imm(kCarry));
  e.a.imul(change, change, asmjit::imm(kUnpackedChange));
  e.a.shr(change, 8);
  if (in.mnemonic == ZYDIS_MNEMONIC_AAA)
    e.a.add(x86::ax, host::kDelta.r16());
  else
    e.a.sub(x86::ax, host::kDelta.r16());
  e.flags_are_in_host();
  e.save_flags_for_exit();
  e.a.and_(host::kFlags.r32(), asmjit::imm(static_cast<int>(~(kCarry | kAdjust))));
  e.a.or_(host::kFlags.r32(), known);
  e.a.and_(x86::al, asmjit::imm(0xf));
}

void lower_unpacked(BlockEmitter& e, const Instruction& in) {
  if (host_decimal_flags() == DecimalFlags::kOfAddition)
    adjust_by_addition(e, in);
  else
    adjust_by_table(e, in, true);
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
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
      return lower_unpacked(e, in);
    default:
      return adjust_by_table(e, in, false);
  }
}

}  // namespace trapline
