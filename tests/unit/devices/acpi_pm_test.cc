#include "runtime/devices/acpi_pm.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

constexpr uint16_t kStatus = AcpiPm::kPort, kEnable = AcpiPm::kPort + 2,
                   kControl = AcpiPm::kPort + AcpiPm::kControl,
                   kTimer = AcpiPm::kPort + AcpiPm::kTimer,
                   kGeneralStatus = AcpiPm::kPort + AcpiPm::kGeneral,
                   kGeneralEnable = kGeneralStatus + 2, kSmi = AcpiPm::kSmiPort;
constexpr uint16_t kTimerBit = 1, kButtonBit = 1 << 8, kWakeBit = 1 << 15;
constexpr uint64_t kSecond = 1'000'000'000;

class Acpi : public ::testing::Test {
 protected:
  Acpi() {
    ports.claim(AcpiPm::kPort, AcpiPm::kPorts, pm);
    ports.claim(AcpiPm::kSmiPort, AcpiPm::kSmiPorts, pm.smi_command());
  }
  uint32_t in(uint16_t port, uint32_t size = 2) { return ports.in(port, size); }
  void out(uint16_t port, uint32_t value, uint32_t size = 2) { ports.out(port, size, value); }
  void take_over() { out(kSmi, AcpiPm::kAcpiEnable, 1); }
  std::vector<uint8_t> saved() {
    SnapshotWriter out;
    pm.save(out);
    return {out.content().begin(), out.content().end()};
  }

  FakeClock clock;
  EventQueue queue{clock};
  FakeLine sci;
  int power_offs = 0;
  AcpiPm pm{queue, sci, [this] { ++power_offs; }};
  PortBus ports;
};

TEST_F(Acpi, CommandsTurnItOnAndOff) {
  EXPECT_EQ(in(kControl), 0u);
  out(kControl, 1);
  EXPECT_EQ(in(kControl), 0u);
  take_over();
  EXPECT_EQ(in(kControl), 1u);
  EXPECT_EQ(in(kSmi, 1), 0xf1u);
  out(kControl, 0x1c02);
  EXPECT_EQ(in(kControl), 0x1c03u);
  out(kSmi, AcpiPm::kAcpiDisable, 1);
  EXPECT_EQ(in(kControl), 0x1c02u);
  out(kSmi + 1, 0x55, 1);
  EXPECT_EQ(in(kSmi + 1, 1), 0x55u);
}

TEST_F(Acpi, TheTimerIsExact) {
  EXPECT_EQ(in(kTimer, 4), 0u);
  clock.time = kSecond;
  EXPECT_EQ(in(kTimer, 4), 3'579'545u);
  clock.time = 10 * kSecond;
  EXPECT_EQ(in(kTimer, 4), 35'795'450u % (1u << 24));
  const uint64_t year = 365 * 24 * 3600;
  clock.time = year * kSecond + kSecond / 2;
  EXPECT_EQ(in(kTimer, 4), (year * 3'579'545 + 1'789'772) % (1u << 24));
  EXPECT_EQ(in(kTimer, 1), in(kTimer, 4) & 0xff);
  EXPECT_EQ(in(kTimer + 2, 1), in(kTimer, 4) >> 16);
  EXPECT_EQ(in(kTimer + 3, 1), 0u);
  out(kTimer, 0, 4);
  EXPECT_EQ(in(kTimer, 4), (year * 3'579'545 + 1'789'772) % (1u << 24));
}

TEST_F(Acpi, TheCarryIsSeenWithoutAnEvent) {
  const uint64_t carry = (uint64_t{1 << 23} * kSecond + 3'579'544) / 3'579'545;
  clock.time = carry - 1;
  EXPECT_EQ(in(kStatus), 0u);
  clock.time = carry;
  EXPECT_EQ(in(kTimer, 4), 0x800000u);
  EXPECT_EQ(in(kStatus), kTimerBit);
  EXPECT_FALSE(queue.next_due());
  out(kStatus, kTimerBit);
  EXPECT_EQ(in(kStatus), 0u);
}

TEST_F(Acpi, TheCarryInterrupts) {
  take_over();
  out(kEnable, kTimerBit);
  advance_to(clock, queue, 5 * kSecond);
  EXPECT_EQ(sci.edges, 1);
  out(kStatus, kTimerBit);
  EXPECT_FALSE(sci.level);
  advance_to(clock, queue, 8 * kSecond);
  EXPECT_EQ(sci.edges, 2);
  out(kStatus, kTimerBit);
  out(kEnable, 0);
  EXPECT_FALSE(queue.next_due());
}

TEST_F(Acpi, ThePowerButtonInterrupts) {
  take_over();
  out(kEnable, kButtonBit);
  EXPECT_FALSE(sci.level);
  pm.press_power_button();
  EXPECT_TRUE(sci.level);
  EXPECT_EQ(in(kStatus), kButtonBit);
  out(kStatus, 0);
  EXPECT_TRUE(sci.level);
  out(kStatus + 1, kButtonBit >> 8, 1);
  EXPECT_FALSE(sci.level);
}

TEST_F(Acpi, WithoutAcpiThereIsNoInterrupt) {
  out(kEnable, kButtonBit);
  pm.press_power_button();
  EXPECT_FALSE(sci.level);
  take_over();
  EXPECT_TRUE(sci.level);
}

TEST_F(Acpi, GeneralEventsInterrupt) {
  take_over();
  pm.raise_general_event(9);
  EXPECT_EQ(in(kGeneralStatus), 0x200u);
  EXPECT_FALSE(sci.level);
  out(kGeneralEnable, 0xffff);
  EXPECT_TRUE(sci.level);
  out(kGeneralStatus, 0xffff);
  EXPECT_FALSE(sci.level);
  EXPECT_EQ(in(kGeneralStatus, 4), 0xffff0000u);
}

TEST_F(Acpi, SoftOffTurnsTheMachineOff) {
  take_over();
  out(kControl, 0x0001);
  EXPECT_EQ(power_offs, 0);
  out(kControl, 0x2401);
  EXPECT_EQ(power_offs, 0);
  EXPECT_EQ(in(kStatus), kWakeBit) << "no other sleep than soft-off";
  out(kControl, 0x2001);
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(in(kControl), 1u);
  out(kControl + 1, 0x20, 1);
  EXPECT_EQ(power_offs, 2);
}

TEST_F(Acpi, RegistersKeepTheBitsThatExist) {
  out(kEnable, 0xffff);
  EXPECT_EQ(in(kEnable), 0x0521u);
  EXPECT_EQ(in(AcpiPm::kPort + 0x30, 4), 0u);
  out(AcpiPm::kPort + 0x30, 0xffffffff, 4);
  EXPECT_EQ(in(AcpiPm::kPort + 0x30, 4), 0u);
}

TEST_F(Acpi, SnapshotsAreComplete) {
  clock.time = 7 * kSecond;
  take_over();
  out(kEnable, 0x101);
  out(kStatus, kTimerBit);
  out(kGeneralEnable, 4);
  pm.press_power_button();
  const auto content = saved();
  pm.reset();
  EXPECT_FALSE(sci.level);
  SnapshotReader reader(content);
  ASSERT_TRUE(pm.load(reader).ok());
  EXPECT_EQ(saved(), content);
  EXPECT_TRUE(sci.level);
  EXPECT_TRUE(queue.next_due());
}

TEST_F(Acpi, ResetForgetsEverything) {
  clock.time = 7 * kSecond;
  take_over();
  out(kEnable, 0xffff);
  pm.press_power_button();
  pm.reset();
  EXPECT_FALSE(sci.level);
  EXPECT_FALSE(queue.next_due());
  EXPECT_EQ(in(kStatus), 0u);
  EXPECT_EQ(in(kEnable), 0u);
  EXPECT_EQ(in(kControl), 0u);
}

TEST_F(Acpi, SurvivesRandomUse) {
  std::mt19937 random(0x7113);
  constexpr std::array<uint32_t, 3> kSizes = {1, 2, 4};
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t size = kSizes[random() % 3];
    const auto port = static_cast<uint16_t>(random() % 8 ? AcpiPm::kPort - 2 + random() % 20
                                                         : kSmi + random() % 2);
    switch (random() % 8) {
      case 0:
        clock.time += random();
        queue.run_due();
        break;
      case 1:
        pm.press_power_button();
        pm.raise_general_event(static_cast<int>(random() % 16));
        break;
      case 2:
        take_over();
        break;
      case 3:
        in(port, size);
        break;
      default:
        out(port, random(), size);
        break;
    }
    if (i % 500 != 0) continue;
    const auto content = saved();
    SnapshotReader reader(content);
    ASSERT_TRUE(pm.load(reader).ok());
    ASSERT_EQ(saved(), content);
  }
}

}  // namespace
}  // namespace trapline
