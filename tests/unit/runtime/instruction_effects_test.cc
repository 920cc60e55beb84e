#include "runtime/native/instruction_effects.h"

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <vector>

#include "tests/unit/runtime/instruction_forms.h"

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
  for_each_form([this](std::span<const uint8_t> bytes) { expect_as_asked(bytes); });
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

TEST_P(InstructionEffectsOf, IntegersInXmmRegistersAreSse) {
  const std::array<uint8_t, 15> mmx = {0x0f, 0xef, 0xc1};             // pxor mm0, mm1
  const std::array<uint8_t, 15> xmm = {0x66, 0x0f, 0xef, 0xc1};       // pxor xmm0, xmm1
  const std::array<uint8_t, 15> load = {0x66, 0x0f, 0x6e, 0x00};      // movd xmm0, [eax]
  const std::array<uint8_t, 15> shift = {0x66, 0x0f, 0x73, 0xd0, 1};  // psrlq xmm0, 1
  EXPECT_FALSE(effects_.of(mmx).sse);
  for (const auto& code : {xmm, load, shift})
    EXPECT_EQ(effects_.of(code).sse, model_.has(Feature::kSse2));
}

}  // namespace
}  // namespace trapline
