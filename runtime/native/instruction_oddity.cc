#include "runtime/native/instruction_oddity.h"

#include "runtime/native/instruction_effects.h"

namespace trapline {

namespace {

/// The last byte of addresses that kernels have.
constexpr uint8_t kKernels = 0xc0;

/// Into the kernels of Linux, of Windows NT and of those that keep DOS's interrupts; INT 3.
bool is_likely_interrupt(uint8_t vector) {
  return vector == 0x03 || vector == 0x80 || (vector >= 0x20 && vector < 0x40);
}

/// What RET takes from the stack is a few arguments.
bool is_likely_return(uint8_t low, uint8_t high) {
  return low % 4 == 0 && high < 4;
}

bool is_odd_after_0f(uint8_t opcode, uint8_t modrm) {
  const uint8_t reg = modrm >> 3 & 7;
  switch (opcode) {
    case 0x00:  // LLDT, LTR
      return reg == 2 || reg == 3;
    case 0x01:  // LGDT, LIDT, LMSW, INVLPG
      return modrm < 0xc0 && (reg == 2 || reg == 3 || reg == 6 || reg == 7);
    case 0x06:  // CLTS, SYSRET, INVD, WBINVD
    case 0x07:
    case 0x08:
    case 0x09:
    case 0x20:  // control and debug registers
    case 0x21:
    case 0x22:
    case 0x23:
    case 0x30:  // WRMSR, RDMSR, SYSEXIT
    case 0x32:
    case 0x35:
      return true;
    default:
      return false;
  }
}

}  // namespace

uint32_t oddity(std::span<const uint8_t> bytes) {
  size_t at = 0;
  while (at < bytes.size() && is_prefix(bytes[at])) ++at;
  const bool repeats = at > 0 && (bytes[at - 1] == 0xf2 || bytes[at - 1] == 0xf3);
  const auto byte = [&](size_t i) { return at + i < bytes.size() ? bytes[at + i] : uint8_t{0}; };
  const uint8_t second = byte(1);
  switch (byte(0)) {
    case 0x0f:
      return is_odd_after_0f(second, byte(2)) ? kOdd : 0;
    case 0x27:  // DAA, DAS, AAA, AAS, AAM, AAD, and what sets AL from carry
    case 0x2f:
    case 0x37:
    case 0x3f:
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0x63:  // ARPL
    case 0x6c:  // INS, OUTS, IN, OUT
    case 0x6d:
    case 0x6e:
    case 0x6f:
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7:
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
    case 0x9a:  // far CALL and JMP to a place that the code tells, far RET, IRET
    case 0xea:
    case 0xca:
    case 0xcb:
    case 0xcf:
    case 0xce:  // INTO, INT1
    case 0xf1:
    case 0xf4:  // HLT, CLI, STI
    case 0xfa:
    case 0xfb:
      return kOdd;
    case 0x62:  // BOUND, LES, LDS; the processor's own encodings otherwise
    case 0xc4:
    case 0xc5:
      return second < 0xc0 ? kOdd : 0;
    case 0xa0:  // MOV with an address
    case 0xa1:
    case 0xa2:
    case 0xa3:
      return at == 0 && byte(4) >= kKernels ? kOdd : 0;
    case 0xc2:
      return is_likely_return(second, byte(2)) ? 0 : kOdd;
    case 0xc8:  // ENTER for a procedure inside another one
      return byte(3) != 0 ? kOdd : 0;
    case 0xcd:
      return is_likely_interrupt(second) ? 0 : kOdd;
    case 0x14:  // ADC and SBB of the accumulator and a number
    case 0x15:
    case 0x1c:
    case 0x1d:
    case 0x60:  // PUSHA, POPA
    case 0x61:
    case 0x82:  // what 80 is, too
    case 0x9f:  // LAHF
    case 0xd7:  // XLAT
    case 0xe0:  // LOOPNE, LOOPE
    case 0xe1:
    case 0xf5:  // CMC
      return 1;
    case 0xa6:  // CMPS, LODS, SCAS
    case 0xa7:
    case 0xac:
    case 0xad:
    case 0xae:
    case 0xaf:
      return repeats ? 0 : 1;
    default:
      return 0;
  }
}

}  // namespace trapline
