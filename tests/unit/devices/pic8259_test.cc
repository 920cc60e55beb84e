#include <gtest/gtest.h>

#include "runtime/devices/pic8259_pair.h"
#include "tests/unit/devices/device_checks.h"
#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

constexpr uint16_t kMaster = 0x20, kMasterMask = 0x21, kSlave = 0xa0, kSlaveMask = 0xa1;
constexpr int kEoi = 0x20, kReadIrr = 0x0a, kReadIsr = 0x0b, kPoll = 0x0c;

class Pic : public ::testing::Test {
 protected:
  Pic() { pics.connect(bus); }
  void SetUp() override { initialize(0x01); }

  void initialize(int icw4) {
    for (const uint16_t port : {kMaster, kSlave}) {
      out(port, 0x11);
      out(port + 1, port == kMaster ? 0x20 : 0x28);
      out(port + 1, port == kMaster ? 0x04 : 0x02);
      out(port + 1, icw4);
    }
  }
  uint8_t in(int port) { return static_cast<uint8_t>(bus.in(static_cast<uint16_t>(port), 1)); }
  void out(int port, int value) {
    bus.out(static_cast<uint16_t>(port), 1, static_cast<uint32_t>(value));
  }
  uint8_t in_service(int port) {
    out(port, kReadIsr);
    return in(port);
  }
  uint8_t requests(int port) {
    out(port, kReadIrr);
    return in(port);
  }
  void raise(int irq) { pics.line(irq).set(true); }
  void lower(int irq) { pics.line(irq).set(false); }

  FakeLine intr;
  Pic8259Pair pics{intr};
  PortBus bus;
};

TEST_F(Pic, IsSilentUntilItIsProgrammed) {
  Pic8259Pair fresh(intr);
  for (int irq = 0; irq < 16; ++irq) fresh.line(irq).set(true);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, DeliversTheVectorAndWaitsForTheEndOfInterrupt) {
  raise(4);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(requests(kMaster), 0x10);
  EXPECT_EQ(pics.acknowledge(), 0x24);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(requests(kMaster), 0);
  EXPECT_EQ(in_service(kMaster), 0x10);
  lower(4);
  raise(4);
  EXPECT_FALSE(intr.level);
  out(kMaster, kEoi);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x24);
}

TEST_F(Pic, AnnouncesAgainWhenMoreIsPending) {
  raise(3);
  raise(1);
  EXPECT_EQ(pics.acknowledge(), 0x21);
  EXPECT_FALSE(intr.level);
  raise(0);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x20);
  out(kMaster, kEoi);
  EXPECT_FALSE(intr.level);  // IRQ 1 is still in service.
  out(kMaster, kEoi);
  EXPECT_EQ(pics.acknowledge(), 0x23);
  initialize(0x03);
  lower(5);
  raise(5);
  raise(6);
  EXPECT_EQ(pics.acknowledge(), 0x25);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x26);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, TheSlaveGoesThroughIrq2) {
  raise(8);
  EXPECT_EQ(requests(kMaster), 0x04);
  EXPECT_EQ(requests(kSlave), 0x01);
  EXPECT_EQ(pics.acknowledge(), 0x28);
  EXPECT_EQ(in_service(kMaster), 0x04);
  EXPECT_EQ(in_service(kSlave), 0x01);
  raise(12);
  raise(3);  // Below IRQ 2 in priority, as all of the slave's.
  EXPECT_FALSE(intr.level);
  out(kSlave, kEoi);
  EXPECT_FALSE(intr.level);
  out(kMaster, kEoi);
  EXPECT_EQ(pics.acknowledge(), 0x2c);
  out(kSlave, kEoi);
  out(kMaster, kEoi);
  EXPECT_EQ(pics.acknowledge(), 0x23);
}

TEST_F(Pic, TheLineOfIrq2LeadsNowhere) {
  raise(2);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, AnEdgeThatIsTakenBackIsNoRequest) {
  raise(3);
  lower(3);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(requests(kMaster), 0);
  raise(10);
  lower(10);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, AnInputThatStaysHighIsOneEdge) {
  raise(3);
  EXPECT_EQ(pics.acknowledge(), 0x23);
  out(kMaster, kEoi);
  EXPECT_FALSE(intr.level);
  raise(3);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, NothingPendingIsIrq7WithoutService) {
  EXPECT_EQ(pics.acknowledge(), 0x27);
  EXPECT_EQ(in_service(kMaster), 0);
  raise(14);
  lower(14);
  EXPECT_EQ(pics.acknowledge(), 0x27);
  EXPECT_EQ(in_service(kSlave), 0);
}

TEST_F(Pic, LevelTriggeredInputsAskUntilTheyFall) {
  out(0x4d0, 0xff);
  out(0x4d1, 0xff);
  EXPECT_EQ(in(0x4d0), 0xf8);
  EXPECT_EQ(in(0x4d1), 0xde);
  raise(11);
  EXPECT_EQ(pics.acknowledge(), 0x2b);
  EXPECT_EQ(requests(kSlave), 0x08);
  EXPECT_FALSE(intr.level);
  out(kSlave, kEoi);
  out(kMaster, kEoi);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x2b);
  lower(11);
  out(kSlave, kEoi);
  out(kMaster, kEoi);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, MasksHoldRequestsBack) {
  out(kMasterMask, 0x08);
  EXPECT_EQ(in(kMasterMask), 0x08);
  raise(3);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(requests(kMaster), 0x08);
  out(kMasterMask, 0);
  EXPECT_TRUE(intr.level);
  out(kMasterMask, 0x08);
  EXPECT_FALSE(intr.level);
  out(kMasterMask, 0x04);
  raise(9);
  EXPECT_EQ(pics.acknowledge(), 0x23);
  out(kMaster, kEoi);
  EXPECT_FALSE(intr.level);
  out(kMasterMask, 0x00);
  out(kSlaveMask, 0x02);
  EXPECT_FALSE(intr.level);
  out(kSlaveMask, 0x00);
  EXPECT_EQ(pics.acknowledge(), 0x29);
}

TEST_F(Pic, InitializationForgetsEdgesMasksAndService) {
  raise(3);
  pics.acknowledge();
  raise(5);
  out(kMasterMask, 0xff);
  out(kMaster, kReadIsr);
  initialize(0x01);
  EXPECT_EQ(in(kMaster), 0);  // IRR again, and no edge in it.
  EXPECT_EQ(in_service(kMaster), 0);
  EXPECT_EQ(in(kMasterMask), 0);
  EXPECT_FALSE(intr.level);
  lower(5);
  raise(5);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic, ShortInitializations) {
  out(kMaster, 0x12);  // Single, without ICW4.
  out(kMasterMask, 0x43);
  out(kMasterMask, 0xfe);
  EXPECT_EQ(in(kMasterMask), 0xfe);
  raise(0);
  EXPECT_EQ(pics.acknowledge(), 0x40);
  out(kMaster, 0x10);  // Cascaded, without ICW4.
  out(kMasterMask, 0x50);
  out(kMasterMask, 0x04);
  out(kMasterMask, 0xfd);
  EXPECT_EQ(in(kMasterMask), 0xfd);
}

TEST_F(Pic, SpecificEndOfInterrupt) {
  raise(5);
  pics.acknowledge();
  raise(1);
  pics.acknowledge();
  out(kMaster, 0x65);
  EXPECT_EQ(in_service(kMaster), 0x02);
  out(kMaster, 0x63);  // Not in service: no effect.
  EXPECT_EQ(in_service(kMaster), 0x02);
  out(kMaster, kEoi);
  out(kMaster, kEoi);
  EXPECT_EQ(in_service(kMaster), 0);
}

TEST_F(Pic, AutomaticEndOfInterrupt) {
  initialize(0x03);
  raise(6);
  EXPECT_EQ(pics.acknowledge(), 0x26);
  EXPECT_EQ(in_service(kMaster), 0);
  raise(15);
  EXPECT_EQ(pics.acknowledge(), 0x2f);
  EXPECT_EQ(in_service(kSlave), 0);
}

TEST_F(Pic, PrioritiesRotate) {
  out(kMaster, 0xc2);  // IRQ 2 lowest, so IRQ 3 is highest.
  raise(0);
  raise(3);
  EXPECT_EQ(pics.acknowledge(), 0x23);
  out(kMaster, 0xa0);  // Rotate on non-specific EOI: IRQ 3 lowest.
  raise(4);
  EXPECT_EQ(pics.acknowledge(), 0x24);
  out(kMaster, 0xe7);  // Specific, of IRQ 7: lowest although not in service.
  EXPECT_EQ(in_service(kMaster), 0x10);
  EXPECT_TRUE(intr.level);  // IRQ 0 is now highest.
  EXPECT_EQ(pics.acknowledge(), 0x20);
}

TEST_F(Pic, PrioritiesRotateOnAutomaticEnds) {
  initialize(0x03);
  out(kMaster, 0x80);
  raise(1);
  pics.acknowledge();
  raise(0);
  raise(5);
  EXPECT_EQ(pics.acknowledge(), 0x25);
  out(kMaster, 0x00);  // No more rotation: IRQ 5 stays lowest.
  EXPECT_EQ(pics.acknowledge(), 0x20);
  lower(0);
  raise(0);
  raise(6);
  EXPECT_EQ(pics.acknowledge(), 0x26);
}

TEST_F(Pic, SpecialMaskModeLetsLowerOnesThrough) {
  raise(1);
  pics.acknowledge();
  raise(6);
  EXPECT_FALSE(intr.level);
  out(kMasterMask, 0x02);
  EXPECT_FALSE(intr.level);
  out(kMaster, 0x68);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x26);
  out(kMaster, kEoi);  // Leaves the masked IRQ 1 in service.
  EXPECT_EQ(in_service(kMaster), 0x02);
  out(kMaster, 0x48);
  out(kMaster, kEoi);
  EXPECT_EQ(in_service(kMaster), 0);
}

TEST_F(Pic, SpecialFullyNestedModeNestsInsideTheSlave) {
  initialize(0x11);
  raise(12);
  EXPECT_EQ(pics.acknowledge(), 0x2c);
  raise(14);
  EXPECT_FALSE(intr.level);
  raise(8);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(pics.acknowledge(), 0x28);
  initialize(0x01);
  lower(12);
  lower(8);
  raise(12);
  EXPECT_EQ(pics.acknowledge(), 0x2c);
  raise(8);
  EXPECT_FALSE(intr.level);
}

TEST_F(Pic, PollingIsAnAcknowledgement) {
  out(kMaster, kPoll);
  EXPECT_EQ(in(kMaster), 0);
  raise(5);
  out(kMaster, kPoll);
  EXPECT_EQ(in(kMasterMask), 0x85);
  EXPECT_EQ(in(kMasterMask), 0);  // One read only.
  EXPECT_EQ(in_service(kMaster), 0x20);
  EXPECT_FALSE(intr.level);
  out(kMaster, kEoi);
  raise(9);
  raise(10);
  out(kMaster, kPoll);
  EXPECT_EQ(in(kMaster), 0x82);
  out(kSlave, kPoll);
  EXPECT_EQ(in(kSlave), 0x81);
  out(kSlave, kEoi);
  out(kMaster, kEoi);
  EXPECT_EQ(pics.acknowledge(), 0x2a);
}

TEST_F(Pic, ResetMasksEverythingAndKeepsTheInputs) {
  out(0x4d0, 0xf8);
  raise(5);
  pics.reset();
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(in(0x4d0), 0);
  initialize(0x01);
  EXPECT_FALSE(intr.level);
  out(0x4d0, 0xf8);
  EXPECT_TRUE(intr.level);
}

TEST_F(Pic, SavedStateGivesTheSameControllers) {
  out(0x4d1, 0x08);
  raise(11);
  pics.acknowledge();
  raise(1);
  out(kMasterMask, 0x60);
  FakeLine other_intr;
  Pic8259Pair other(other_intr);
  expect_round_trip(pics, other);
  EXPECT_TRUE(other_intr.level);
  EXPECT_EQ(other.acknowledge(), pics.acknowledge());
}

TEST_F(Pic, SurvivesAnything) {
  constexpr std::array<uint16_t, 6> kAll = {kMaster, kMasterMask, kSlave, kSlaveMask, 0x4d0, 0x4d1};
  std::mt19937 random(1);
  FakeLine other_intr;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 20; ++i) {
      poke(bus, kAll, random, 2);
      pics.line(static_cast<int>(random() % 16)).set(random() % 2);
      if (intr.level && random() % 2) pics.acknowledge();
    }
    Pic8259Pair other(other_intr);
    expect_round_trip(pics, other);
    EXPECT_EQ(other_intr.level, intr.level);
  }
  Pic8259Pair other(other_intr);
  damage_every_byte(pics, other, [&] {
    for (int i = 0; i < 4; ++i) other.acknowledge();
    other.slave_ports().port_write(0, kEoi);
    other.slave_ports().port_read(0);
  });
}

}  // namespace
}  // namespace trapline
