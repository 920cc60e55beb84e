#include "runtime/native/instruction_effects.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace trapline {
namespace {

class InstructionEffectsOf : public testing::TestWithParam<const char*> {
 protected:
  void expect_as_asked(std::span<const uint8_t> bytes) {
    const InstructionEffect asked = effects_.ask(bytes);
    InstructionEffect of = effects_.of(bytes);
    if (of == asked) of = effects_.of(bytes);  // When it is remembered, too.
    ASSERT_TRUE(of == asked) << testing::PrintToString(
        std::vector<uint8_t>(bytes.begin(), bytes.end()));
  }

  const CpuModel& model_ = *CpuModel::find(GetParam());
  InstructionEffects effects_{model_};
};

INSTANTIATE_TEST_SUITE_P(Models, InstructionEffectsOf, testing::Values("max", "486"));

TEST_P(InstructionEffectsOf, EveryFormIsWhatTheDecoderSays) {
  std::mt19937 random(7);
  std::array<uint8_t, 15> bytes;
  for (const int prefix : {-1, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x65})
    for (const int escape : {-1, 0x0f})
      for (int opcode = 0; opcode < 256; ++opcode)
        for (int modrm = 0; modrm < 256; ++modrm) {
          // Whichever comes first: that one is remembered.
          const unsigned first = random() & 1;
          for (const unsigned second : {0u, 1u}) {
            for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
            size_t at = 0;
            if (prefix >= 0) bytes[at++] = static_cast<uint8_t>(prefix);
            if (escape >= 0) bytes[at++] = static_cast<uint8_t>(escape);
            bytes[at++] = static_cast<uint8_t>(opcode);
            bytes[at++] = static_cast<uint8_t>(modrm);
            const uint8_t sib_base = first == second ? 5 : 4;
            bytes[at] = static_cast<uint8_t>((bytes[at] & ~7) | sib_base);
            expect_as_asked(bytes);
            if (HasFatalFailure()) return;
          }
        }
}

TEST_P(InstructionEffectsOf, AnInstructionThatGoesOnBehindTheBytesEndsWithThem) {
  const std::array<uint8_t, 15> code = {0x81, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(effects_.of(code).length, 11);
  for (size_t count = 1; count < 11; ++count) {
    const InstructionEffect effect = effects_.of(std::span(code).first(count));
    EXPECT_EQ(effect.length, count);
    EXPECT_TRUE(effect.valid && effect.ends && !effect.differs);
  }
}

}  // namespace
}  // namespace trapline
