#include "runtime/native/instruction_form.h"

namespace trapline::form_detail {

namespace {

/// More bytes of opcode follow, or what ModRM does not tell about.
bool goes_on(size_t map, uint8_t opcode, uint8_t next) {
  if (map == 1) return opcode == 0x0f || opcode == 0x38 || opcode == 0x3a;
  switch (opcode) {
    case 0x62:
    case 0xc4:
    case 0xc5:
      return next >= 0xc0;
    case 0x8f:
      return next & 0x38;
    default:
      return false;
  }
}

}  // namespace

bool other_form_of(const uint8_t* bytes, InstructionForm& out) {
  const Byte prefix = kBytes[bytes[0]];
  if (prefix == Byte::kAddressSize) return false;
  size_t at = prefix == Byte::kOpcode ? 0 : 1;
  if (kBytes[bytes[at]] != Byte::kOpcode) return false;
  const size_t map = bytes[at] == 0x0f ? 1 : 0;
  at += map;
  const uint8_t opcode = bytes[at];
  const uint8_t modrm = bytes[at + 1];
  if (goes_on(map, opcode, modrm)) return false;
  const Shape shape = kShapes[map][opcode];
  out.table = static_cast<uint8_t>(static_cast<size_t>(prefix) * InstructionForm::kMaps + map);
  out.opcode = opcode;
  out.modrm = shape.modrm ? modrm : 0;
  out.displacement = shape.modrm && base_matters(modrm) && (bytes[at + 2] & 7) == 5;
  out.length = 0;
  // LOCK is illegal with most, and some choose among what is after 0F.
  const bool chooses = prefix != Byte::kOpcode && prefix != Byte::kSegment;
  if (!shape.known || prefix == Byte::kLock || (map == 1 && chooses)) return true;
  size_t length = at + 1 + shape.bytes;
  if (shape.modrm) length += kModrmBytes[modrm];
  if (out.displacement) length += InstructionForm::kDisplacement;
  if (shape.shrinks && prefix == Byte::kOperandSize) length -= 2;
  out.length = static_cast<uint8_t>(length);
  out.modrm = 0;
  return true;
}

}  // namespace trapline::form_detail
