#include <algorithm>

#include "tests/differential/instruction.h"
#include "tests/differential/values.h"

namespace trapline::differential {
namespace {

constexpr std::array<uint8_t, 6> kSegmentPrefixes = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

class Encoder {
 public:
  Encoder(const Skeleton& skeleton, ZydisMachineMode mode, Random& random)
      : skeleton_(skeleton), mode_(mode), random_(random) {}

  Encoded encode() {
    put_prefixes();
    if (skeleton_.two_byte) put(0x0f);
    put(skeleton_.opcode);
    if (skeleton_.has_modrm) put_modrm();
    // More than any displacement and immediate needs; the decoder says where it ends.
    while (length_ < bytes_.size()) {
      const uint32_t value = random_.one_in(3) ? random_.next32() : interesting_integer(random_);
      for (int i = 0; i < 4 && length_ < bytes_.size(); ++i)
        put(static_cast<uint8_t>(value >> 8 * i));
    }
    Encoded out;
    std::copy_n(bytes_.begin(), out.bytes.size(), out.bytes.begin());
    return out;
  }

 private:
  void put(uint8_t byte) {
    if (length_ < bytes_.size()) bytes_[length_++] = byte;
  }

  void put_prefixes() {
    std::vector<uint8_t> prefixes;
    for (int i = 0; i < skeleton_.prefix_count; ++i) {
      const bool segment = skeleton_.prefixes[i] == 0x26;
      prefixes.push_back(segment ? kSegmentPrefixes[random_.below(6)] : skeleton_.prefixes[i]);
    }
    // Repeating a prefix changes nothing but the length.
    if (!prefixes.empty() && random_.one_in(16)) {
      for (uint32_t n = 1 + random_.below(3); n > 0; --n)
        prefixes.push_back(prefixes[random_.below(static_cast<uint32_t>(prefixes.size()))]);
    }
    // The last of F2 and F3 counts; there is at most one kind, so the order is free.
    for (size_t i = prefixes.size(); i > 1; --i)
      std::swap(prefixes[i - 1], prefixes[random_.below(static_cast<uint32_t>(i))]);
    for (const uint8_t prefix : prefixes) put(prefix);
  }

  bool address16() const {
    const bool short_address = mode_ == ZYDIS_MACHINE_MODE_LEGACY_16;
    for (int i = 0; i < skeleton_.prefix_count; ++i) {
      if (skeleton_.prefixes[i] == 0x67) return !short_address;
    }
    return short_address;
  }

  void put_modrm() {
    if (skeleton_.modrm >= 0xc0) return put(skeleton_.modrm);
    const uint32_t mod = random_.below(3), rm = random_.below(8);
    put(static_cast<uint8_t>(mod << 6 | (skeleton_.modrm & 0x38) | rm));
    if (!address16() && rm == 4) put(static_cast<uint8_t>(random_.next32()));
  }

  const Skeleton& skeleton_;
  const ZydisMachineMode mode_;
  Random& random_;
  std::array<uint8_t, 40> bytes_{};
  size_t length_ = 0;
};

/// A bit offset in a register leads to anywhere in a segment of 64 KiB, and so into the code pages,
/// which differ between backends.
bool may_look_at_code(const Decoded& decoded) {
  const ZydisDecodedOperand& memory = decoded.operands[0];
  const bool bit_test = decoded.instruction.mnemonic == ZYDIS_MNEMONIC_BT ||
                        decoded.instruction.mnemonic == ZYDIS_MNEMONIC_BTS ||
                        decoded.instruction.mnemonic == ZYDIS_MNEMONIC_BTR ||
                        decoded.instruction.mnemonic == ZYDIS_MNEMONIC_BTC;
  return bit_test && decoded.instruction.machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16 &&
         is_memory_operand(memory) && memory.mem.segment == ZYDIS_REGISTER_CS;
}

}  // namespace

Encoded encode(const Form& form, const ZydisDecoder& decoder, Random& random) {
  const auto count = static_cast<uint32_t>(form.skeletons.size());
  for (int attempt = 0; attempt < 64; ++attempt) {
    Encoded out =
        Encoder(form.skeletons[random.below(count)], decoder.machine_mode, random).encode();
    const ZyanStatus status = ZydisDecoderDecodeFull(
        &decoder, out.bytes.data(), 15, &out.decoded.instruction, out.decoded.operands);
    if (form.illegal_lock) {
      if (status != ZYDIS_STATUS_ILLEGAL_LOCK) continue;
      out.length = 15;
      return out;
    }
    if (!ZYAN_SUCCESS(status) || out.decoded.instruction.mnemonic != form.mnemonic) continue;
    if (may_look_at_code(out.decoded)) continue;
    out.length = out.decoded.instruction.length;
    out.valid = true;
    std::fill(out.bytes.begin() + out.length, out.bytes.end(), uint8_t{0xcc});
    return out;
  }
  Encoded nop;
  nop.bytes[0] = 0x90;
  nop.length = 1;
  ZydisDecoderDecodeFull(&decoder, nop.bytes.data(), 1, &nop.decoded.instruction,
                         nop.decoded.operands);
  nop.valid = true;
  return nop;
}

}  // namespace trapline::differential
