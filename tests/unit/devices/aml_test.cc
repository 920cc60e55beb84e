#include "runtime/boot/aml.h"

#include <gtest/gtest.h>

namespace trapline::aml {
namespace {

Bytes text(std::string_view characters) {
  return {characters.begin(), characters.end()};
}

TEST(Aml, IntegersTakeAsFewBytesAsTheyNeed) {
  EXPECT_EQ(integer(0), (Bytes{0x00}));
  EXPECT_EQ(integer(1), (Bytes{0x01}));
  EXPECT_EQ(integer(2), (Bytes{0x0a, 2}));
  EXPECT_EQ(integer(0xff), (Bytes{0x0a, 0xff}));
  EXPECT_EQ(integer(0x100), (Bytes{0x0b, 0x00, 0x01}));
  EXPECT_EQ(integer(0x12345678), (Bytes{0x0c, 0x78, 0x56, 0x34, 0x12}));
}

TEST(Aml, IdentifiersArePacked) {
  EXPECT_EQ(eisa_id("PNP0A03"), (Bytes{0x0c, 0x41, 0xd0, 0x0a, 0x03}));
}

TEST(Aml, PathsHaveSegmentsOfFour) {
  EXPECT_EQ(path("_HID"), text("_HID"));
  EXPECT_EQ(path("ISA"), text("ISA_"));
  EXPECT_EQ(path("\\_S5"), text("\\_S5_"));
  EXPECT_EQ(path("_SB.PCI0"), text("\x2e_SB_PCI0"));
  EXPECT_EQ(path("\\_SB.PCI0.ISA"), join({text("\\\x2f\x03"), text("_SB_PCI0ISA_")}));
}

TEST(Aml, LengthsCountThemselves) {
  // Opcode, length, name, body: the length is all but the opcode.
  EXPECT_EQ(scope("AAAA", {}), join({{0x10, 5}, text("AAAA")}));
  const Bytes longest_short = scope("AAAA", Bytes(58, 0xa3));
  EXPECT_EQ(longest_short[1], 63);
  const Bytes two_bytes = scope("AAAA", Bytes(59, 0xa3));  // 2 + 4 + 59 = 65.
  EXPECT_EQ(two_bytes[1], 0x41);
  EXPECT_EQ(two_bytes[2], 0x04);
  EXPECT_EQ(two_bytes.size(), 66u);
  const Bytes most = scope("AAAA", Bytes(4089, 0xa3));  // 4095
  EXPECT_EQ(most[1], 0x4f);
  EXPECT_EQ(most[2], 0xff);
  const Bytes three_bytes = scope("AAAA", Bytes(4090, 0xa3));  // 4097
  EXPECT_EQ(three_bytes[1], 0x81);
  EXPECT_EQ(three_bytes[2], 0x00);
  EXPECT_EQ(three_bytes[3], 0x01);
}

TEST(Aml, ObjectsAreWhatTheGrammarSays) {
  EXPECT_EQ(name("_UID", integer(5)), join({{0x08}, text("_UID"), {0x0a, 5}}));
  EXPECT_EQ(device("COM1", {}), join({{0x5b, 0x82, 5}, text("COM1")}));
  EXPECT_EQ(package({integer(0), integer(7)}), (Bytes{0x12, 5, 2, 0x00, 0x0a, 7}));
  EXPECT_EQ(buffer({1, 2, 3}), (Bytes{0x11, 6, 0x0a, 3, 1, 2, 3}));
  EXPECT_EQ(method("_PIC", 1, store(argument(0), path("PICF"))),
            join({{0x14, 12}, text("_PIC"), {1, 0x70, 0x68}, text("PICF")}));
  EXPECT_EQ(if_true(path("PICF"), return_value(integer(1))),
            join({{0xa0, 7}, text("PICF"), {0xa4, 0x01}}));
}

TEST(Aml, ResourcesEndWithATag) {
  EXPECT_EQ(Resources().ports(0x3f8, 8).irq(4).as_buffer(),
            buffer({0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x22, 0x10, 0, 0x79, 0}));
  EXPECT_EQ(Resources().bus_window(0, 255).as_buffer(),
            buffer({0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 0x79, 0}));
  EXPECT_EQ(
      Resources().memory_window(0xc0000000, 0xfebfffff, Resources::Caching::kUncached).as_buffer(),
      buffer({0x87, 23,   0,    0,    0x0c, 1, 0, 0, 0, 0, 0,    0,    0,    0xc0,
              0xff, 0xff, 0xbf, 0xfe, 0,    0, 0, 0, 0, 0, 0xc0, 0x3e, 0x79, 0}));
}

}  // namespace
}  // namespace trapline::aml
