// What 32-bit instructions begin with: one prefix, the opcode, the ModRM byte. That is what most of
// their properties depend on, so it is a key to remember them by, and for most of them it tells
// their length.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace trapline {

struct InstructionForm {
  static constexpr size_t kLongest = 15;  ///< Bytes of an instruction.
  static constexpr size_t kPrefixes = 6;  ///< None, 66, F2, F3, any segment's, F0.
  static constexpr size_t kMaps = 2;      ///< One-byte opcodes, those after 0F.
  static constexpr size_t kTables = kPrefixes * kMaps;
  /// What a SIB byte without a base register adds where ModRM has no displacement.
  static constexpr uint8_t kDisplacement = 4;

  uint8_t table = 0;  ///< By prefix and map.
  uint8_t opcode = 0;
  uint8_t modrm = 0;          ///< 0 where it matters neither for the length nor for what is done.
  uint8_t length = 0;         ///< 0: not told by the form alone.
  bool displacement = false;  ///< There are kDisplacement more bytes if there is a SIB byte.
};

/// What is remembered of instructions by their form; T{} is nothing.
template <typename T>
class FormMemo {
 public:
  T& at(const InstructionForm& form) {
    auto& forms = opcodes_[size_t{form.table} << 8 | form.opcode];
    if (!forms) forms = std::make_unique<Forms>();
    return (*forms)[form.modrm];
  }

 private:
  using Forms = std::array<T, 256>;  ///< Of an opcode.
  std::array<std::unique_ptr<Forms>, InstructionForm::kTables << 8> opcodes_;
};

namespace form_detail {

/// What follows an opcode.
struct Shape {
  uint8_t bytes = 0;     ///< Immediate bytes, or a distance, or an address.
  bool modrm = false;    ///< And what ModRM asks for.
  bool shrinks = false;  ///< Two bytes less after 66.
  bool known = true;     ///< False: it depends on ModRM whether there is such an instruction.
};

constexpr Shape kFixed{};
constexpr Shape kByte{.bytes = 1};
constexpr Shape kFull{.bytes = 4, .shrinks = true};
constexpr Shape kModrm{.modrm = true};
constexpr Shape kModrmByte{.bytes = 1, .modrm = true};
constexpr Shape kModrmFull{.bytes = 4, .modrm = true, .shrinks = true};
constexpr Shape kUnknown{.modrm = true, .known = false};

constexpr Shape one_byte_shape(uint8_t opcode) {
  if (opcode < 0x40) {  // Arithmetic; segments, BCD.
    const uint8_t form = opcode & 7;
    return form < 4 ? kModrm : form == 4 ? kByte : form == 5 ? kFull : kFixed;
  }
  if (opcode >= 0x70 && opcode < 0x80) return kByte;  // Jcc
  if (opcode >= 0xb0 && opcode < 0xc0) return opcode < 0xb8 ? kByte : kFull;
  if (opcode >= 0xd8 && opcode < 0xe0) return kUnknown;  // x87
  if (opcode >= 0xe0 && opcode < 0xe8) return kByte;     // LOOP, JECXZ, IN, OUT
  switch (opcode) {
    case 0x63:
    case 0x84:
    case 0x85:
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
    case 0x8a:
    case 0x8b:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
      return kModrm;
    case 0x6b:
    case 0x80:
    case 0x82:
    case 0x83:
    case 0xc0:
    case 0xc1:
      return kModrmByte;
    case 0x69:
    case 0x81:
      return kModrmFull;
    case 0x6a:
    case 0xa8:
    case 0xcd:
    case 0xd4:
    case 0xd5:
    case 0xeb:
      return kByte;
    case 0x68:
    case 0xa9:
    case 0xe8:
    case 0xe9:
      return kFull;
    case 0x9a:  // far CALL and JMP
    case 0xea:
      return {.bytes = 6, .shrinks = true};
    case 0xa0:  // MOV with an address
    case 0xa1:
    case 0xa2:
    case 0xa3:
      return {.bytes = 4};
    case 0xc2:  // RET
    case 0xca:
      return {.bytes = 2};
    case 0xc8:  // ENTER
      return {.bytes = 3};
    case 0x62:  // BOUND or EVEX
    case 0x8c:
    case 0x8d:
    case 0x8e:
    case 0x8f:  // POP or XOP
    case 0xc4:  // LES, LDS or VEX
    case 0xc5:
    case 0xc6:
    case 0xc7:
    case 0xf6:  // TEST has an immediate, the others do not.
    case 0xf7:
    case 0xfe:
    case 0xff:
      return kUnknown;
    default:
      return kFixed;
  }
}

constexpr Shape shape_after_0f(uint8_t opcode) {
  if (opcode >= 0x40 && opcode < 0x50) return kModrm;  // CMOVcc
  if (opcode >= 0x80 && opcode < 0x90) return kFull;   // Jcc
  if (opcode >= 0x90 && opcode < 0xa0) return kModrm;  // SETcc
  switch (opcode) {
    case 0xa3:
    case 0xab:
    case 0xaf:
    case 0xb6:
    case 0xb7:
    case 0xbe:
    case 0xbf:
      return kModrm;
    case 0xa4:
    case 0xac:
      return kModrmByte;
    case 0xa2:
      return kFixed;
    default:
      return kUnknown;
  }
}

constexpr auto kShapes = [] {
  std::array<std::array<Shape, 256>, InstructionForm::kMaps> out{};
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    out[0][opcode] = one_byte_shape(static_cast<uint8_t>(opcode));
    out[1][opcode] = shape_after_0f(static_cast<uint8_t>(opcode));
  }
  return out;
}();

/// The bytes that ModRM asks for, itself included.
constexpr auto kModrmBytes = [] {
  std::array<uint8_t, 256> out{};
  for (unsigned modrm = 0; modrm < 256; ++modrm) {
    const unsigned mod = modrm >> 6;
    const unsigned rm = modrm & 7;
    out[modrm] = 1;
    if (mod == 3) continue;
    if (rm == 4) ++out[modrm];  // SIB
    if (mod == 1) out[modrm] += 1;
    if (mod == 2 || (mod == 0 && rm == 5)) out[modrm] += 4;
  }
  return out;
}();

enum class Byte : uint8_t { kOpcode, kOperandSize, kRepne, kRep, kSegment, kLock, kAddressSize };

/// Whether a byte is a prefix, and which.
constexpr auto kBytes = [] {
  std::array<Byte, 256> out{};
  for (const uint8_t segment : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}) out[segment] = Byte::kSegment;
  out[0x66] = Byte::kOperandSize;
  out[0x67] = Byte::kAddressSize;
  out[0xf0] = Byte::kLock;
  out[0xf2] = Byte::kRepne;
  out[0xf3] = Byte::kRep;
  return out;
}();

/// ModRM's address has a SIB byte and no displacement of its own.
constexpr bool base_matters(uint8_t modrm) {
  return (modrm & 0xc7) == 4;
}

/// What there is besides what ModRM asks for, of opcodes without a prefix whose form tells it; 0 of
/// all others.
constexpr uint8_t kWithModrm = 0x40;
constexpr auto kQuick = [] {
  std::array<uint8_t, 256> out{};
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    const Shape shape = kShapes[0][opcode];
    if (opcode == 0x0f || kBytes[opcode] != Byte::kOpcode || !shape.known) continue;
    out[opcode] = static_cast<uint8_t>((1 + shape.bytes) | (shape.modrm ? kWithModrm : 0));
  }
  return out;
}();

/// For those that kQuick does not have.
bool other_form_of(const uint8_t* bytes, InstructionForm& out);

}  // namespace form_detail

/// The form of the instruction that the bytes begin with, of which there are kLongest or more.
/// False: more prefixes, or more bytes of opcode.
inline bool form_of(const uint8_t* bytes, InstructionForm& out) {
  using namespace form_detail;
  const uint8_t quick = kQuick[bytes[0]];
  if (quick == 0) return other_form_of(bytes, out);
  const uint8_t mask = quick & kWithModrm ? 0xff : 0;
  const uint8_t modrm = bytes[1];
  out.table = 0;
  out.opcode = bytes[0];
  out.modrm = 0;
  out.length = static_cast<uint8_t>((quick & ~kWithModrm) + (kModrmBytes[modrm] & mask));
  out.displacement = mask && base_matters(modrm) && (bytes[2] & 7) == 5;
  if (out.displacement) out.length += InstructionForm::kDisplacement;
  return true;
}

}  // namespace trapline
