// Code that begins with every prefix, opcode and ModRM byte, for tests of what is remembered by
// these.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

namespace trapline {

/// Each twice, the rest at random: with a SIB byte's base that adds a displacement and with another
/// one. Whichever comes first is remembered, so which that is changes. Ends at a fatal failure.
template <typename Visit>
void for_each_form(Visit visit) {
  constexpr unsigned kAddsDisplacement = 5;
  std::mt19937 random(7);
  std::array<uint8_t, 15> bytes;
  for (const int prefix : {-1, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x64, 0x65})
    for (const int escape : {-1, 0x0f})
      for (int opcode = 0; opcode < 256; ++opcode)
        for (int modrm = 0; modrm < 256; ++modrm) {
          const unsigned first = random() & 1;
          for (const unsigned second : {0u, 1u}) {
            for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
            size_t at = 0;
            if (prefix >= 0) bytes[at++] = static_cast<uint8_t>(prefix);
            if (escape >= 0) bytes[at++] = static_cast<uint8_t>(escape);
            bytes[at++] = static_cast<uint8_t>(opcode);
            bytes[at++] = static_cast<uint8_t>(modrm);
            const unsigned base = first == second ? kAddsDisplacement : 4;
            bytes[at] = static_cast<uint8_t>((bytes[at] & ~7u) | base);
            visit(std::span<const uint8_t>(bytes));
            if (testing::Test::HasFatalFailure()) return;
          }
        }
}

}  // namespace trapline
