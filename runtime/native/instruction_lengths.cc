#include "runtime/native/instruction_lengths.h"

#include <Zydis/Decoder.h>

#include <algorithm>
#include <optional>

namespace trapline {

namespace {

constexpr uint8_t kBase = 0x80;
constexpr uint8_t kSibBase = 7;
constexpr uint8_t kNoBase = 5;
constexpr uint8_t kDisplacement = 4;

const ZydisDecoder& decoder() {
  static const ZydisDecoder made = [] {
    ZydisDecoder out;
    ZydisDecoderInit(&out, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderEnableMode(&out, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE);
    return out;
  }();
  return made;
}

bool decode(std::span<const uint8_t> bytes, ZydisDecodedInstruction& out) {
  return ZYAN_SUCCESS(
      ZydisDecoderDecodeInstruction(&decoder(), nullptr, bytes.data(), bytes.size(), &out));
}

enum class Prefix : uint8_t { kNone, kOperandSize, kRepne, kRep, kSegment };

/// What a first byte is, if it is a prefix that lengths are remembered for.
Prefix prefix_of(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
      return Prefix::kSegment;
    case 0x66:
      return Prefix::kOperandSize;
    case 0xf2:
      return Prefix::kRepne;
    case 0xf3:
      return Prefix::kRep;
    default:
      return Prefix::kNone;
  }
}

/// Prefixes that may follow, and bytes that more follows of than ModRM tells.
bool is_special(uint8_t byte) {
  if (prefix_of(byte) != Prefix::kNone) return true;
  switch (byte) {
    case 0x62:
    case 0x67:
    case 0x8f:
    case 0xc4:
    case 0xc5:
    case 0xf0:
      return true;
    default:
      return false;
  }
}

bool is_special_after_0f(uint8_t byte) {
  return byte == 0x0f || byte == 0x38 || byte == 0x3a;
}

/// ModRM's address has a SIB byte and no displacement of its own.
bool base_matters(uint8_t modrm) {
  return (modrm & 0xc7) == 4;
}

}  // namespace

InstructionLengths::InstructionLengths()
    : with_modrm_(kPrefixes * kMaps << 16), without_(kPrefixes * kMaps << 8) {}

uint8_t InstructionLengths::ask(std::span<const uint8_t> bytes) {
  ZydisDecodedInstruction in;
  return decode(bytes, in) ? in.length : kNone;
}

uint8_t InstructionLengths::of(std::span<const uint8_t> bytes) {
  if (bytes.size() < kLongest) return ask(bytes);
  const Prefix prefix = prefix_of(bytes[0]);
  size_t at = prefix == Prefix::kNone ? 0 : 1;
  if (is_special(bytes[at])) return ask(bytes);
  const size_t map = bytes[at] == 0x0f ? 1 : 0;
  at += map;
  if (map && is_special_after_0f(bytes[at])) return ask(bytes);
  const size_t opcode = (static_cast<size_t>(prefix) * kMaps + map) << 8 | bytes[at];
  if (without_[opcode]) return without_[opcode];
  const uint8_t modrm = bytes[at + 1];
  const bool base = base_matters(modrm) && (bytes[at + 2] & kSibBase) == kNoBase;
  uint8_t& known = with_modrm_[opcode << 8 | modrm];
  if (known == kNone) return kNone;
  if (known)
    return static_cast<uint8_t>((known & ~kBase) + (known & kBase && base ? kDisplacement : 0));
  ZydisDecodedInstruction in;
  if (!decode(bytes, in)) return known = kNone;
  if (!(in.attributes & ZYDIS_ATTRIB_HAS_MODRM)) return without_[opcode] = in.length;
  const bool sib = in.attributes & ZYDIS_ATTRIB_HAS_SIB && base_matters(modrm);
  known = static_cast<uint8_t>(in.length - (sib && base ? kDisplacement : 0)) | (sib ? kBase : 0);
  return in.length;
}

}  // namespace trapline
