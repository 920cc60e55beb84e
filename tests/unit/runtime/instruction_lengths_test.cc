#include "runtime/native/instruction_lengths.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

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
  std::mt19937 random(7);
  std::array<uint8_t, 15> bytes;
  for (const int prefix : {-1, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x64, 0x65})
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
            expect_as_asked(lengths, bytes);
            if (HasFatalFailure()) return;
          }
        }
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
