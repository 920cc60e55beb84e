#include "runtime/devices/dma8237.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/unit/devices/device_checks.h"

namespace trapline {
namespace {

class Dma : public ::testing::Test {
 protected:
  Dma() { dma.connect(bus); }
  uint8_t in(int port) { return static_cast<uint8_t>(bus.in(static_cast<uint16_t>(port), 1)); }
  void out(int port, int value) {
    bus.out(static_cast<uint16_t>(port), 1, static_cast<uint32_t>(value));
  }

  Dma8237Pair dma;
  PortBus bus;
};

TEST_F(Dma, WordsGoThroughTheFlipFlop) {
  for (const int spacing : {1, 2}) {
    const int base = spacing == 1 ? 0x00 : 0xc0;
    for (int index = 0; index < 8; ++index) {
      out(base + index * spacing, 0x10 + index);
      out(base + index * spacing, 0xa0 + index);
    }
    for (int index = 0; index < 8; ++index) {
      EXPECT_EQ(in(base + index * spacing), 0x10 + index);
      EXPECT_EQ(in(base + index * spacing), 0xa0 + index);
    }
    in(base);
    out(base + 12 * spacing, 0);
    EXPECT_EQ(in(base), 0x10);
  }
}

TEST_F(Dma, Masks) {
  EXPECT_EQ(in(0x0f), 0xff);
  out(0x0a, 0x02);
  EXPECT_EQ(in(0x0f), 0xfb);
  out(0x0a, 0x06);
  EXPECT_EQ(in(0x0f), 0xff);
  out(0x0e, 0);
  EXPECT_EQ(in(0x0f), 0xf0);
  out(0x0f, 0x05);
  EXPECT_EQ(in(0x0f), 0xf5);
  out(0x0d, 0);
  EXPECT_EQ(in(0x0f), 0xff);
  EXPECT_EQ(in(0xde), 0xff);
  EXPECT_EQ(in(0x08), 0);
  EXPECT_EQ(in(0xc1), 0xff);
}

TEST_F(Dma, PageRegistersAreScratch) {
  for (int port = 0x80; port < 0x90; ++port) out(port, port * 3 & 0xff);
  for (int port = 0x80; port < 0x90; ++port) EXPECT_EQ(in(port), port * 3 % 256);
  dma.reset();
  EXPECT_EQ(in(0x80), 0);
}

TEST_F(Dma, SavedStateGivesTheSameRegisters) {
  std::vector<uint16_t> ports(0x10 + 0x10 + 0x20);
  std::iota(ports.begin(), ports.begin() + 0x10, uint16_t{0x00});
  std::iota(ports.begin() + 0x10, ports.begin() + 0x20, uint16_t{0x80});
  std::iota(ports.begin() + 0x20, ports.end(), uint16_t{0xc0});
  std::mt19937 random(6);
  for (int round = 0; round < 50; ++round) {
    poke(bus, ports, random, 100);
    Dma8237Pair other;
    expect_round_trip(dma, other);
  }
  Dma8237Pair other;
  damage_every_byte(dma, other, [&] { other.reset(); });
}

}  // namespace
}  // namespace trapline
