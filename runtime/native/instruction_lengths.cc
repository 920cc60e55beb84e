#include "runtime/native/instruction_lengths.h"

#include <Zydis/Decoder.h>

namespace trapline {

namespace {

constexpr uint8_t kSib = 0x80;

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

}  // namespace

uint8_t InstructionLengths::ask(std::span<const uint8_t> bytes) {
  ZydisDecodedInstruction in;
  return decode(bytes, in) ? in.length : kNone;
}

uint8_t InstructionLengths::remembered(std::span<const uint8_t> bytes,
                                       const InstructionForm& form) {
  uint8_t& known = memo_.at(form);
  if (known == 0) {
    ZydisDecodedInstruction in;
    if (!decode(bytes, in)) return known = kNone;
    const bool sib = in.attributes & ZYDIS_ATTRIB_HAS_SIB;
    known = in.length;
    if (sib && form.displacement) known -= InstructionForm::kDisplacement;
    if (sib) known |= kSib;
  }
  if (known == kNone) return kNone;
  const bool more = known & kSib && form.displacement;
  return static_cast<uint8_t>((known & ~kSib) + (more ? InstructionForm::kDisplacement : 0));
}

}  // namespace trapline
