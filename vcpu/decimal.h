// DAA, DAS, AAA and AAS, which 64-bit code does not have.
#pragma once

#include <bit>
#include <cstdint>

#include "vcpu/host_processor.h"
#include "vcpu/state.h"

namespace trapline {

/// What becomes of the flags that the manual leaves undefined.
enum class DecimalFlags : uint8_t {
  kOfResult,    ///< Intel's: those that depend on a result follow AL, the others are clear.
  kOfAddition,  ///< AMD's: of the addition or subtraction, which is AAA's and AAS's of 16 bits.
};

inline DecimalFlags host_decimal_flags() {
  return host_is_amd() ? DecimalFlags::kOfAddition : DecimalFlags::kOfResult;
}

struct Adjusted {
  uint32_t ax = 0;
  uint32_t flags = 0;  ///< All arithmetic ones.
};

namespace decimal {

constexpr uint32_t result_flags(uint32_t value, uint32_t sign) {
  const bool even = std::popcount(value & 0xff) % 2 == 0;
  return (value == 0 ? eflags::kZf : 0) | (value & sign ? eflags::kSf : 0) |
         (even ? eflags::kPf : 0);
}

constexpr uint32_t overflow(uint32_t left, uint32_t right, uint32_t result, bool subtract,
                            uint32_t sign) {
  const uint32_t alike = subtract ? left ^ right : ~(left ^ right);
  return alike & (left ^ result) & sign ? eflags::kOf : 0;
}

constexpr bool adjusts_low(uint32_t al, uint32_t flags) {
  return (al & 0xf) > 9 || (flags & eflags::kAf);
}

}  // namespace decimal

/// DAA and DAS.
constexpr Adjusted adjust_packed(uint32_t ax, uint32_t flags, bool subtract, DecimalFlags way) {
  constexpr uint32_t kSign = 0x80;
  const uint32_t al = ax & 0xff;
  const bool low = decimal::adjusts_low(al, flags);
  const bool high = al > 0x99 || (flags & eflags::kCf);
  const bool borrow = subtract && low && al < 6;
  const uint32_t change = (low ? 6 : 0) + (high ? 0x60 : 0);
  const uint32_t result = (subtract ? al - change : al + change) & 0xff;
  uint32_t out = decimal::result_flags(result, kSign) | (high || borrow ? eflags::kCf : 0) |
                 (low ? eflags::kAf : 0);
  if (way == DecimalFlags::kOfAddition)
    out |= decimal::overflow(al, change, result, subtract, kSign);
  return {(ax & ~0xffu) | result, out};
}

/// What AAA adds to AX, and AAS subtracts, if anything.
inline constexpr uint32_t kUnpackedChange = 0x106;

/// AAA and AAS.
constexpr Adjusted adjust_unpacked(uint32_t ax, uint32_t flags, bool subtract, DecimalFlags way) {
  constexpr uint32_t kSign = 0x8000;
  const bool adjust = decimal::adjusts_low(ax & 0xff, flags);
  const uint32_t change = adjust ? kUnpackedChange : 0;
  const uint32_t sum = (subtract ? ax - change : ax + change) & 0xffff;
  const uint32_t base =
      way == DecimalFlags::kOfAddition
          ? decimal::result_flags(sum, kSign) | decimal::overflow(ax, change, sum, subtract, kSign)
          : decimal::result_flags(sum & 0xf, kSign);
  return {sum & 0xff0f, base | (adjust ? eflags::kCf | eflags::kAf : 0)};
}

}  // namespace trapline
