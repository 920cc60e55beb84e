// Host registers by role. Nothing else names r8 to r15.
//
// Guest EAX, ECX, EDX, EBX, EBP, ESI and EDI live in the host registers of the same number, always
// zero-extended to 64 bits. The host's stack pointer stays the host's.
#pragma once

#include <asmjit/x86.h>

#include <cstdint>

#include "vcpu/state.h"

namespace trapline::host {

namespace x86 = asmjit::x86;

inline constexpr x86::Gp kAddress = x86::r8;   ///< Scratch: a linear address; branch targets.
inline constexpr x86::Gp kDelta = x86::r9;     ///< Scratch: host minus linear; gate arguments.
inline constexpr x86::Gp kValue = x86::r10;    ///< Scratch: a value. Gates preserve it.
inline constexpr x86::Gp kFlags = x86::r11;    ///< The saved flags' image, while they are saved.
inline constexpr x86::Gp kStack = x86::r12;    ///< Guest ESP.
inline constexpr x86::Gp kWindow = x86::r13;   ///< The stack window's delta.
inline constexpr x86::Gp kTables = x86::r14;   ///< HotFields::tables. Its low byte is kPageShift.
inline constexpr x86::Gp kContext = x86::r15;  ///< &Context::cpu.

/// The 32-bit host register of a guest register.
inline x86::Gp guest(uint8_t number) {
  return number == kEsp ? kStack.r32() : x86::gpd(number);
}
inline x86::Gp guest64(uint8_t number) {
  return number == kEsp ? kStack : x86::gpq(number);
}

/// The part of a register that an operand of 1, 2, 4 or 8 bytes uses.
inline x86::Gp sized(const x86::Gp& reg, uint32_t bytes) {
  switch (bytes) {
    case 1:
      return reg.r8();
    case 2:
      return reg.r16();
    case 4:
      return reg.r32();
    default:
      return reg.r64();
  }
}

inline x86::Mem context(int32_t offset, uint32_t size) {
  return x86::Mem(kContext, offset, size);
}

}  // namespace trapline::host
