#include "runtime/native/instruction_lengths.h"

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <vector>

#include "tests/unit/runtime/instruction_forms.h"

namespace trapline {
namespace {

/// Both times: when it is asked for and when it is remembered.
void expect_as_asked(InstructionLengths& lengths, std::span<const uint8_t> bytes) {
  const int asked = InstructionLengths::ask(bytes);
  for (int time = 0; time < 2; ++time)
    ASSERT_EQ(int{lengths.of(bytes)}, asked)
        << testing::PrintToString(std::vector<uint8_t>(bytes.begin(), bytes.end()));
}

TEST(InstructionLengths, RemembersWhatZydisSays) {
  InstructionLengths lengths;
  for_each_form([&](std::span<const uint8_t> bytes) { expect_as_asked(lengths, bytes); });
}

TEST(InstructionLengths, NoInstructionGoesOnBehindTheBytes) {
  InstructionLengths lengths;
  const std::array<uint8_t, 15> code = {0x81, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8};
  expect_as_asked(lengths, code);
  EXPECT_EQ(lengths.of(code), 11);
  EXPECT_EQ(lengths.of(std::span(code).first(10)), InstructionLengths::kNone);
}

}  // namespace
}  // namespace trapline
