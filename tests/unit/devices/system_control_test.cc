#include "runtime/devices/system_control.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/device_checks.h"

namespace trapline {
namespace {

class SystemControlTest : public ::testing::Test {
 protected:
  SystemControlTest() {
    bus.claim(SystemControl::kPortA, 1, control.port_a());
    bus.claim(SystemControl::kResetControl, 1, control.reset_control());
  }
  uint8_t in(int port) { return static_cast<uint8_t>(bus.in(static_cast<uint16_t>(port), 1)); }
  void out(int port, int value) {
    bus.out(static_cast<uint16_t>(port), 1, static_cast<uint32_t>(value));
  }

  bool a20 = false;
  int a20_changes = 0, resets = 0;
  SystemControl control{[this](bool on) {
                          a20 = on;
                          ++a20_changes;
                        },
                        [this] { ++resets; }};
  PortBus bus;
};

TEST_F(SystemControlTest, Port92GatesA20) {
  EXPECT_EQ(in(0x92), 0);
  out(0x92, 0xfe);
  EXPECT_TRUE(a20);
  EXPECT_EQ(in(0x92), 0x02);
  out(0x92, 0x02);
  EXPECT_EQ(a20_changes, 1);
  out(0x92, 0x00);
  EXPECT_FALSE(a20);
  EXPECT_EQ(resets, 0);
}

TEST_F(SystemControlTest, Port92ResetsWhenItsBitRises) {
  out(0x92, 0x03);
  EXPECT_EQ(resets, 1);
  out(0x92, 0x03);
  EXPECT_EQ(resets, 1);
  out(0x92, 0x02);
  out(0x92, 0x03);
  EXPECT_EQ(resets, 2);
}

TEST_F(SystemControlTest, ResetControlResetsWhenItsBitRises) {
  out(0xcf9, 0x02);
  EXPECT_EQ(resets, 0);
  EXPECT_EQ(in(0xcf9), 0x02);
  out(0xcf9, 0x06);
  EXPECT_EQ(resets, 1);
  out(0xcf9, 0x06);
  EXPECT_EQ(resets, 1);
  out(0xcf9, 0x00);
  out(0xcf9, 0x0e);
  EXPECT_EQ(resets, 2);
}

TEST_F(SystemControlTest, ResetShutsTheGate) {
  out(0x92, 0x02);
  out(0xcf9, 0x06);
  control.reset();
  EXPECT_FALSE(a20);
  EXPECT_EQ(in(0x92), 0);
  EXPECT_EQ(in(0xcf9), 0);
}

TEST_F(SystemControlTest, SavedStateGivesTheSameRegisters) {
  std::mt19937 random(5);
  constexpr std::array<uint16_t, 2> kAll = {0x92, 0xcf9};
  bool other_a20 = false;
  SystemControl other([&](bool on) { other_a20 = on; }, [] {});
  for (int round = 0; round < 50; ++round) {
    poke(bus, kAll, random, 5);
    expect_round_trip(control, other);
    EXPECT_EQ(other_a20, a20);
  }
  damage_every_byte(control, other, [&] { other.reset(); });
}

}  // namespace
}  // namespace trapline
