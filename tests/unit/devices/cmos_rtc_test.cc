#include "runtime/devices/cmos_rtc.h"

#include <gtest/gtest.h>

#include "runtime/devices/calendar.h"
#include "tests/unit/devices/device_checks.h"
#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

constexpr uint64_t kMillisecond = 1'000'000, kSecond = 1000 * kMillisecond;
enum : int { kA = 10, kB = 11, kC = 12, kD = 13, kCentury = 0x32 };
constexpr int kBcd24 = 2, kBinary = 4, kSet = 0x80;
constexpr int kUpdate = 0x10, kAlarm = 0x20, kPeriodic = 0x40, kInterrupt = 0x80;

class Rtc : public ::testing::Test {
 protected:
  int in(int index) {
    rtc.port_write(0, static_cast<uint8_t>(index));
    return rtc.port_read(1);
  }
  void out(int index, int value) {
    rtc.port_write(0, static_cast<uint8_t>(index));
    rtc.port_write(1, static_cast<uint8_t>(value));
  }
  void go_to(uint64_t time) { advance_to(clock, queue, time); }
  /// Year (four digits), month, day, hour, minute, second, as the registers show them.
  std::vector<int> time() { return {in(kCentury), in(9), in(8), in(7), in(4), in(2), in(0)}; }
  void set(std::vector<int> time) {
    constexpr int order[] = {kCentury, 9, 8, 7, 4, 2, 0};
    for (size_t i = 0; i < time.size(); ++i) out(order[i], time[i]);
  }

  FakeClock clock;
  EventQueue queue{clock};
  FakeLine irq8;
  CmosRtc rtc{queue, irq8};
};

TEST_F(Rtc, ShowsTheTimeOfDay) {
  EXPECT_EQ(time(), (std::vector{0x20, 0x01, 0x11, 0x14, 0x10, 0x20, 0x30}));
  EXPECT_EQ(in(6), 4);  // Wednesday.
  EXPECT_EQ(in(kA), 0x26);
  EXPECT_EQ(in(kB), kBcd24);
  EXPECT_EQ(in(kD), 0x80);
  go_to(40 * 60 * kSecond);
  EXPECT_EQ(time(), (std::vector{0x20, 0x01, 0x11, 0x14, 0x11, 0x00, 0x30}));
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(Rtc, BinaryAndTwelveHours) {
  out(kB, kBinary | kBcd24);
  EXPECT_EQ(time(), (std::vector{20, 1, 11, 14, 10, 20, 30}));
  go_to(14 * 3600 * kSecond);
  EXPECT_EQ(in(4), 0);
  out(kB, 0);
  EXPECT_EQ(in(4), 0x12);
  go_to((14 + 13) * 3600 * kSecond);
  EXPECT_EQ(in(4), 0x81);
  out(4, 0x92);
  EXPECT_EQ(in(4), 0x92);
  out(kB, kBcd24);
  EXPECT_EQ(in(4), 0x12);
}

TEST_F(Rtc, IsSetWhileHeld) {
  go_to(kSecond / 4);
  out(kB, kBcd24 | kSet);
  set({0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x58});
  out(6, 4);
  go_to(10 * kSecond);
  EXPECT_EQ(time(), (std::vector{0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x58}));
  out(kB, kBcd24);
  EXPECT_EQ(time(), (std::vector{0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x58}));
  go_to(11 * kSecond);
  EXPECT_EQ(in(0), 0x59);
  go_to(12 * kSecond);
  EXPECT_EQ(time(), (std::vector{0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00}));
  EXPECT_EQ(in(6), 5);
}

TEST_F(Rtc, IsSetInPassing) {
  out(0, 0x45);
  out(9, 0x99);
  out(kCentury, 0x19);
  out(6, 1);
  EXPECT_EQ(time(), (std::vector{0x19, 0x99, 0x11, 0x14, 0x10, 0x20, 0x45}));
  EXPECT_EQ(in(6), 1);
  go_to(86400 * kSecond);
  EXPECT_EQ(in(6), 2);
  EXPECT_EQ(in(7), 0x15);
}

TEST_F(Rtc, AfterADividerResetTheFirstSecondIsHalf) {
  go_to(kSecond / 10);
  out(kB, kBcd24 | kSet);
  out(kA, 0x76);
  out(0, 0x10);
  out(kB, kBcd24);
  go_to(5 * kSecond + 200 * kMillisecond);
  EXPECT_EQ(in(0), 0x10);
  out(kA, 0x26);
  EXPECT_EQ(in(0), 0x10);
  go_to(5 * kSecond + 699 * kMillisecond);
  EXPECT_EQ(in(0), 0x10);
  go_to(5 * kSecond + 700 * kMillisecond);
  EXPECT_EQ(in(0), 0x11);
}

TEST_F(Rtc, AnnouncesUpdates) {
  EXPECT_EQ(in(kA)&0x80, 0);
  go_to(kSecond - 244'001);
  EXPECT_EQ(in(kA)&0x80, 0);
  go_to(kSecond - 244'000);
  EXPECT_EQ(in(kA)&0x80, 0x80);
  EXPECT_EQ(in(0), 0x30);
  go_to(kSecond);
  EXPECT_EQ(in(kA)&0x80, 0);
  EXPECT_EQ(in(0), 0x31);
  out(kB, kBcd24 | kSet);
  go_to(2 * kSecond - 1000);
  EXPECT_EQ(in(kA)&0x80, 0);
}

TEST_F(Rtc, FlagsAreFoundWithoutInterrupts) {
  in(kC);
  EXPECT_EQ(in(kC), 0);
  go_to(kMillisecond);
  EXPECT_EQ(in(kC), kPeriodic);
  EXPECT_EQ(in(kC), 0);
  go_to(kSecond);
  EXPECT_EQ(in(kC), kPeriodic | kUpdate);
  EXPECT_EQ(irq8.edges, 0);
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(Rtc, PeriodicInterruptsByRate) {
  out(kB, kBcd24 | kPeriodic);
  const auto count = [&](int rate) {
    out(kA, 0x20 | rate);
    in(kC);
    const uint64_t start = (clock.time / kSecond + 1) * kSecond;
    go_to(start);
    in(kC);
    const int before = irq8.edges;
    while (clock.time < start + kSecond) {
      advance_to(clock, queue, std::min(queue.next_due().value_or(UINT64_MAX), start + kSecond));
      if (irq8.level) {
        EXPECT_EQ(in(kC) & (kInterrupt | kPeriodic), kInterrupt | kPeriodic);
      }
    }
    return irq8.edges - before;
  };
  EXPECT_EQ(count(0), 0);
  EXPECT_EQ(count(1), 256);
  EXPECT_EQ(count(2), 128);
  EXPECT_EQ(count(3), 8192);
  EXPECT_EQ(count(6), 1024);
  EXPECT_EQ(count(15), 2);
}

TEST_F(Rtc, AGuestThatDoesNotAnswerGetsOneInterrupt) {
  out(kB, kBcd24 | kPeriodic);
  go_to(10 * kMillisecond);
  EXPECT_EQ(irq8.edges, 1);
  EXPECT_EQ(queue.next_due(), std::nullopt);
  clock.time = 5 * kSecond + 100'000;
  in(kC);
  EXPECT_FALSE(irq8.level);
  ASSERT_TRUE(queue.next_due());
  EXPECT_GT(*queue.next_due(), clock.time);
  EXPECT_LE(*queue.next_due(), clock.time + kMillisecond);
}

TEST_F(Rtc, UpdateEndedInterrupts) {
  out(kA, 0x20);
  out(kB, kBcd24 | kUpdate);
  go_to(kSecond - 1);
  EXPECT_FALSE(irq8.level);
  go_to(kSecond);
  EXPECT_TRUE(irq8.level);
  EXPECT_EQ(in(kC), kInterrupt | kUpdate);
  EXPECT_FALSE(irq8.level);
  out(kB, kBcd24 | kUpdate | kSet);  // Holding the time turns them off.
  EXPECT_EQ(in(kB), kBcd24 | kSet);
}

TEST_F(Rtc, AlarmsMatchWhatTheyCareFor) {
  out(kA, 0x20);
  out(kB, kBcd24 | kAlarm);
  struct Case {
    int hour, minute, second;
    uint64_t after;  // From 10:20:30 on.
  };
  constexpr Case cases[] = {{0x10, 0x20, 0x35, 5},     {0xff, 0xff, 0xff, 1},
                            {0xc0, 0xff, 0x00, 30},    {0xff, 0x20, 0x10, 3580},
                            {0x09, 0x00, 0x00, 81570}, {0x10, 0x20, 0x30, 86400}};
  for (const Case& test : cases) {
    FakeClock other_clock;
    EventQueue other_queue(other_clock);
    FakeLine line;
    CmosRtc other(other_queue, line);
    const auto write = [&](int index, int value) {
      other.port_write(0, static_cast<uint8_t>(index));
      other.port_write(1, static_cast<uint8_t>(value));
    };
    write(5, test.hour);
    write(3, test.minute);
    write(1, test.second);
    write(kB, kBcd24 | kAlarm);
    EXPECT_EQ(other_queue.next_due(), test.after * kSecond);
    advance_to(other_clock, other_queue, test.after * kSecond);
    EXPECT_TRUE(line.level);
  }
  out(1, 0x77);  // No such second.
  in(kC);
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(Rtc, AlarmsFollowASetClock) {
  out(kA, 0x20);
  out(5, 0x08);
  out(3, 0x00);
  out(1, 0x00);
  out(kB, kBcd24 | kAlarm);
  out(4, 0x07);
  out(2, 0x59);
  out(0, 0x50);
  EXPECT_EQ(queue.next_due(), 10 * kSecond);
  go_to(10 * kSecond);
  EXPECT_EQ(in(kC), kInterrupt | kAlarm | kUpdate);
}

TEST_F(Rtc, EnablingAnInterruptThatIsPendingRaisesTheLine) {
  go_to(2 * kSecond);
  out(kB, kBcd24 | kUpdate);
  EXPECT_TRUE(irq8.level);
  out(kB, kBcd24);
  EXPECT_FALSE(irq8.level);
}

TEST_F(Rtc, CmosKeepsBytesAndDescribesTheMachine) {
  out(0x40, 0x5a);
  out(0x7f, 0xa5);
  EXPECT_EQ(in(0x40), 0x5a);
  EXPECT_EQ(in(0x7f), 0xa5);
  EXPECT_EQ(in(0x14), 0x06);
  rtc.port_write(0, 0x80 | 0x40);
  EXPECT_TRUE(rtc.nmi_masked());
  EXPECT_EQ(rtc.port_read(1), 0x5a);
  EXPECT_EQ(rtc.port_read(0), 0xff);
  rtc.port_write(0, 0x40);
  EXPECT_FALSE(rtc.nmi_masked());
  const auto word = [&](int at) { return in(at) | in(at + 1) << 8; };
  rtc.set_memory(512ull << 20);
  EXPECT_EQ(word(0x15), 640);
  EXPECT_EQ(word(0x17), 0xffff);
  EXPECT_EQ(word(0x30), 0xffff);
  EXPECT_EQ(word(0x34), (512 - 16) * 16);
  rtc.set_memory(8ull << 20);
  EXPECT_EQ(word(0x17), 7 * 1024);
  EXPECT_EQ(word(0x34), 0);
  int sum = 0;
  for (int at = 0x10; at <= 0x2d; ++at) sum += in(at);
  EXPECT_EQ(in(0x2e) << 8 | in(0x2f), sum);
  rtc.set_memory(~0ull);
  EXPECT_EQ(word(0x34), 0xffff);
}

TEST_F(Rtc, ResetKeepsTheTime) {
  out(0, 0x01);
  out(0x50, 0x77);
  out(kB, kBcd24 | kPeriodic);
  go_to(kSecond);
  EXPECT_TRUE(irq8.level);
  rtc.reset();
  EXPECT_FALSE(irq8.level);
  EXPECT_EQ(in(kB), kBcd24);
  EXPECT_EQ(in(0), 0x02);
  EXPECT_EQ(in(0x50), 0x77);
}

TEST_F(Rtc, SavedStateGivesTheSameClock) {
  out(kCentury, 0x21);
  out(6, 2);
  out(kA, 0x2a);
  out(kB, kBcd24 | kPeriodic | kAlarm);
  go_to(kSecond);
  in(kC);
  out(0x60, 9);
  FakeLine other_line;
  CmosRtc other(queue, other_line);
  expect_round_trip(rtc, other);
  const auto due = queue.next_due();
  rtc.reset();
  EXPECT_EQ(queue.next_due(), due);
  other.port_write(0, kCentury);
  EXPECT_EQ(other.port_read(1), 0x21);
}

TEST_F(Rtc, SurvivesAnything) {
  PortBus bus;
  bus.claim(0x70, 2, rtc);
  constexpr std::array<uint16_t, 2> kAll = {0x70, 0x71};
  std::mt19937 random(3);
  FakeLine other_line;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 30; ++i) {
      out(static_cast<int>(random() % 16), static_cast<int>(random() % 256));
      poke(bus, kAll, random, 4);
      clock.time += random() % (1u << random() % 31);
      queue.run_due();
      EXPECT_GT(queue.next_due().value_or(UINT64_MAX), clock.time);
    }
    CmosRtc other(queue, other_line);
    expect_round_trip(rtc, other);
    EXPECT_EQ(other_line.level, irq8.level);
  }
  CmosRtc other(queue, other_line);
  damage_every_byte(rtc, other, [&] {
    for (uint8_t index = 0; index < 16; ++index) {
      other.port_write(0, index);
      other.port_write(1, other.port_read(1));
    }
    clock.time += kSecond;
    queue.run_due();
  });
}

}  // namespace
}  // namespace trapline
