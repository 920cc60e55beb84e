// What is emitted in the guest's own bytes means in 64-bit mode what it means to the guest.
#include "translator/guest_encoding.h"

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <sstream>

#include "translator/decoder.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"

namespace trapline {
namespace {

struct Decoded64 {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

bool decode64(std::span<const uint8_t> bytes, ZydisMachineMode mode, ZydisStackWidth width,
              Decoded64& out) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, mode, width);
  // The names that the instructions have in our models, in which F3 does not make others of them.
  for (ZydisDecoderMode off : {ZYDIS_DECODER_MODE_LZCNT, ZYDIS_DECODER_MODE_TZCNT})
    ZydisDecoderEnableMode(&decoder, off, ZYAN_FALSE);
  return ZYAN_SUCCESS(
      ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &out.instruction, out.operands));
}

/// Operands equal, but for memory, which must have become [r8 + r9].
bool same_meaning(const Decoded64& guest, const Decoded64& host) {
  if (guest.instruction.mnemonic != host.instruction.mnemonic) return false;
  if (guest.instruction.operand_count_visible != host.instruction.operand_count_visible)
    return false;
  for (int i = 0; i < guest.instruction.operand_count_visible; ++i) {
    const ZydisDecodedOperand& g = guest.operands[i];
    const ZydisDecodedOperand& h = host.operands[i];
    if (g.type != h.type || g.size != h.size) return false;
    if (g.type == ZYDIS_OPERAND_TYPE_REGISTER && g.reg.value != h.reg.value) return false;
    if (g.type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
        static_cast<uint32_t>(g.imm.value.u) != static_cast<uint32_t>(h.imm.value.u))
      return false;
    if (g.type == ZYDIS_OPERAND_TYPE_MEMORY &&
        (h.mem.base != ZYDIS_REGISTER_R8 || h.mem.index != ZYDIS_REGISTER_R9 ||
         h.mem.segment != ZYDIS_REGISTER_DS))
      return false;
  }
  return (guest.instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) ==
         (host.instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK);
}

class GuestEncodingTest : public ::testing::Test {
 protected:
  void check(std::span<const uint8_t> bytes) {
    Instruction in;
    if (decode(bytes, CodeSize::k32, CpuModel::max(), 0, in) != Decoded::kOk) return;
    const bool memory = in.memory() != nullptr;
    if (in.row->lower != lower_generic || in.traits & trait::kNamesEsp) return;
    if (memory && in.traits & trait::kHighByte) return;
    ++seen_;
    const asmjit::x86::Mem operand(asmjit::x86::r8, asmjit::x86::r9, 0, 0);
    assembler_.begin(0);
    if (!emit_guest_encoding(assembler_, in, bytes.first(in.length), memory ? &operand : nullptr)) {
      EXPECT_EQ(assembler_.offset(), 0u);
      return;
    }
    ++emitted_;
    Decoded64 guest;
    Decoded64 host;
    ASSERT_TRUE(decode64(bytes, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32, guest));
    const auto code = assembler_.finish();
    const bool valid = decode64(code, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, host);
    if (valid && host.instruction.length == code.size() && same_meaning(guest, host)) return;
    std::ostringstream text;
    text << std::hex;
    for (const uint8_t byte : bytes.first(in.length)) text << ' ' << int{byte};
    text << " became";
    for (const uint8_t byte : code) text << ' ' << int{byte};
    ADD_FAILURE() << text.str();
  }

  HostAssembler assembler_;
  uint32_t seen_ = 0;
  uint32_t emitted_ = 0;
};

TEST_F(GuestEncodingTest, KeepsTheMeaning) {
  constexpr std::array<uint8_t, 9> kPrefixes = {0x00, 0x66, 0x67, 0xf0, 0xf2,
                                                0xf3, 0x2e, 0x64, 0x65};
  std::mt19937 random(1);
  for (const bool escape : {false, true})
    for (const uint8_t first : kPrefixes)
      for (const uint8_t second : kPrefixes)
        for (uint32_t opcode_and_modrm = 0; opcode_and_modrm < 0x10000; ++opcode_and_modrm) {
          if (second && random() % 16) continue;
          std::array<uint8_t, 16> bytes;
          for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
          size_t at = 0;
          if (first) bytes[at++] = first;
          if (second) bytes[at++] = second;
          if (escape) bytes[at++] = 0x0f;
          bytes[at++] = static_cast<uint8_t>(opcode_and_modrm >> 8);
          bytes[at] = static_cast<uint8_t>(opcode_and_modrm);
          check(bytes);
          if (HasFailure()) return;
        }
  EXPECT_GT(emitted_, seen_ / 2);
}

}  // namespace
}  // namespace trapline
