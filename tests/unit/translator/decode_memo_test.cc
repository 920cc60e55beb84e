// The memo against the decoder itself: the same result for any bytes, in all kinds of code.
#include "translator/decode_memo.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <sstream>

namespace trapline {
namespace {

constexpr CodeSize kKinds[] = {CodeSize::k32, CodeSize::k16};
constexpr uint32_t kEip = 0x1234;

using Bytes = std::array<uint8_t, 18>;

class DecodeMemoTest : public ::testing::Test {
 protected:
  void expect_same(DecodeMemo& memo, const CpuModel& model, std::span<const uint8_t> bytes,
                   const CodeSize& kind) {
    Instruction expected;
    Instruction found;
    const Decoded result = decode(bytes, kind, model, kEip, expected);
    const Decoded remembered = memo.decode(bytes, kind, kEip, found);
    const bool same = result == remembered && (result != Decoded::kOk || expected == found);
    if (same) return;
    std::ostringstream text;
    for (const uint8_t byte : bytes) text << std::hex << ' ' << int{byte};
    ADD_FAILURE() << "differs in kind " << &kind - kKinds << " for" << text.str();
  }

  void expect_same_everywhere(std::span<const uint8_t> bytes) {
    for (const CodeSize& kind : kKinds) expect_same(memo_, model_, bytes, kind);
  }

  Bytes random_bytes() {
    Bytes bytes;
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
    return bytes;
  }

  std::mt19937 random_{1};
  const CpuModel& model_ = CpuModel::max();
  DecodeMemo memo_{CpuModel::max()};
};

TEST_F(DecodeMemoTest, EveryOpcodeWithEveryModrmAndPrefix) {
  constexpr uint8_t kPrefixes[] = {0x00, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x65};  // The first: none.
  constexpr uint16_t kMaps[] = {0x0000, 0x0f00, 0x0f38, 0x0f3a};
  for (const uint16_t map : kMaps)
    for (const uint8_t prefix : kPrefixes)
      for (uint32_t opcode_and_modrm = 0; opcode_and_modrm < 0x10000; ++opcode_and_modrm) {
        Bytes bytes = random_bytes();
        size_t at = 0;
        if (prefix) bytes[at++] = prefix;
        if (map >> 8) bytes[at++] = static_cast<uint8_t>(map >> 8);
        if (map & 0xff) bytes[at++] = static_cast<uint8_t>(map);
        bytes[at++] = static_cast<uint8_t>(opcode_and_modrm >> 8);
        bytes[at++] = static_cast<uint8_t>(opcode_and_modrm);
        const CodeSize& kind = kKinds[random_() % std::size(kKinds)];
        expect_same(memo_, model_, bytes, kind);
        // Once more with other values, behind a SIB byte that stays.
        for (size_t value = at + 1; value < bytes.size(); ++value)
          bytes[value] = static_cast<uint8_t>(random_());
        expect_same(memo_, model_, bytes, kind);
      }
  EXPECT_GT(memo_.counters().found, memo_.counters().decoded / 4);
}

TEST_F(DecodeMemoTest, EveryOpcodeWithEverySib) {
  for (const bool escape : {false, true})
    for (uint32_t opcode = 0; opcode < 0x100; ++opcode)
      for (const uint8_t mod : {0x00, 0x40, 0x80})
        for (uint32_t sib = 0; sib < 0x100; ++sib) {
          Bytes bytes = random_bytes();
          size_t at = 0;
          if (random_() % 4 == 0) bytes[at++] = 0x66;
          if (random_() % 4 == 0) bytes[at++] = 0x2e;
          if (escape) bytes[at++] = 0x0f;
          bytes[at++] = static_cast<uint8_t>(opcode);
          bytes[at++] = static_cast<uint8_t>(mod | (random_() & 0x38) | 4);
          bytes[at++] = static_cast<uint8_t>(sib);
          expect_same_everywhere(bytes);
        }
  EXPECT_GT(memo_.counters().derived, memo_.counters().decoded / 8);
}

TEST_F(DecodeMemoTest, EveryLength) {
  for (int i = 0; i < 20'000; ++i) {
    const Bytes bytes = random_bytes();
    expect_same_everywhere(bytes);
    for (size_t length = 0; length < bytes.size(); ++length)
      expect_same_everywhere(std::span(bytes).first(length));
  }
}

TEST_F(DecodeMemoTest, ManyPrefixes) {
  constexpr uint8_t kPrefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
                                   0x66, 0x67, 0xf0, 0xf2, 0xf3};
  for (int i = 0; i < 200'000; ++i) {
    Bytes bytes = random_bytes();
    const size_t prefixes = random_() % 16;
    for (size_t at = 0; at < prefixes; ++at)
      bytes[at] = kPrefixes[random_() % std::size(kPrefixes)];
    expect_same_everywhere(bytes);
    for (size_t value = prefixes + 3; value < bytes.size(); ++value)
      bytes[value] = static_cast<uint8_t>(random_());
    expect_same_everywhere(bytes);
  }
}

TEST_F(DecodeMemoTest, CountsOfShiftsDecideAboutFlags) {
  Bytes bytes{0xc1, 0xe0, 0x05};  // shl eax, 5
  for (uint8_t count : {5, 0, 32, 33, 0}) {
    bytes[2] = count;
    expect_same_everywhere(bytes);
    Instruction in;
    ASSERT_EQ(memo_.decode(bytes, CodeSize::k32, kEip, in), Decoded::kOk);
    EXPECT_EQ(in.flags_conditional, count % 32 == 0);
  }
}

TEST_F(DecodeMemoTest, ModelsDoNotShare) {
  const CpuModel* old = CpuModel::find("pentium");
  ASSERT_NE(old, nullptr);
  DecodeMemo old_memo(*old);
  const Bytes cmov{0x0f, 0x44, 0xc1};
  for (int i = 0; i < 2; ++i) {
    expect_same(memo_, model_, cmov, kKinds[0]);
    expect_same(old_memo, *old, cmov, kKinds[0]);
  }
  Instruction in;
  EXPECT_EQ(old_memo.decode(cmov, CodeSize::k32, kEip, in), Decoded::kInvalid);
}

}  // namespace
}  // namespace trapline
