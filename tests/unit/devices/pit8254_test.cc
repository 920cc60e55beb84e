#include "runtime/devices/pit8254.h"

#include <gtest/gtest.h>

#include "runtime/devices/tick_rate.h"
#include "tests/unit/devices/device_checks.h"
#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

constexpr TickRate kRate(Pit8254::kHertz);
constexpr int kControl = 0x43, kPortB = 0x61;

TEST(TickRate, IsExactOverYears) {
  EXPECT_EQ(kRate.ticks_at(1'000'000'000), 1'193'182u);
  EXPECT_EQ(kRate.ticks_at(3600ull * 24 * 365 * 100 * 1'000'000'000),
            1'193'182ull * 3600 * 24 * 365 * 100);
  for (const uint64_t tick : {1ull, 2ull, 18ull, 1193181ull, 1193182ull, 987654321987ull}) {
    EXPECT_EQ(kRate.ticks_at(kRate.time_of(tick)), tick);
    EXPECT_EQ(kRate.ticks_at(kRate.time_of(tick) - 1), tick - 1);
  }
}

class Pit : public ::testing::Test {
 protected:
  Pit() { pit.connect(bus); }

  uint8_t in(int port) { return static_cast<uint8_t>(bus.in(static_cast<uint16_t>(port), 1)); }
  void out(int port, int value) {
    bus.out(static_cast<uint16_t>(port), 1, static_cast<uint32_t>(value));
  }
  int in16(int port) {
    const int low = in(port);
    return low | in(port) << 8;
  }
  void out16(int port, int value) {
    out(port, value & 0xff);
    out(port, value >> 8);
  }
  void go_to(uint64_t tick) { advance_to(clock, queue, kRate.time_of(tick)); }
  int status(int channel) {
    out(kControl, 0xe0 | 2 << channel);
    return in(0x40 + channel);
  }
  bool out2() { return in(kPortB)&0x20; }

  FakeClock clock;
  EventQueue queue{clock};
  FakeLine irq0;
  Pit8254 pit{queue, irq0};
  PortBus bus;
};

TEST_F(Pit, Mode0InterruptsOnceWhenTheCountIsOver) {
  go_to(1000);
  out(kControl, 0x30);
  out16(0x40, 100);
  EXPECT_FALSE(irq0.level);
  EXPECT_EQ(status(0), 0x70);  // OUT low, count not yet loaded.
  go_to(1001);
  EXPECT_EQ(status(0), 0x30);
  EXPECT_EQ(in16(0x40), 100);
  go_to(1100);
  EXPECT_EQ(in16(0x40), 1);
  EXPECT_FALSE(irq0.level);
  go_to(1101);
  EXPECT_TRUE(irq0.level);
  EXPECT_EQ(status(0), 0xb0);
  EXPECT_EQ(in16(0x40), 0);
  go_to(1102);
  EXPECT_EQ(in16(0x40), 0xffff);
  EXPECT_EQ(queue.next_due(), std::nullopt);
  EXPECT_EQ(irq0.edges, 1);
}

TEST_F(Pit, Mode0StopsAtTheFirstByte) {
  out(kControl, 0x30);
  out16(0x40, 50);
  go_to(20);
  out(0x40, 10);
  EXPECT_EQ(queue.next_due(), std::nullopt);
  go_to(100);
  EXPECT_EQ(in16(0x40), 31);
  out(0x40, 0);
  go_to(111);
  EXPECT_TRUE(irq0.level);
}

TEST_F(Pit, Mode2TicksWithoutDrift) {
  out(kControl, 0x34);
  EXPECT_TRUE(irq0.level);  // A low OUT rises when another mode is chosen.
  out16(0x40, 1193);
  const int before = irq0.edges;
  go_to(1 + 1193);
  EXPECT_EQ(irq0.edges - before, 1);
  EXPECT_EQ(in16(0x40), 1193);
  go_to(1 + 1193 * 10 + 1192);
  EXPECT_EQ(irq0.edges - before, 10);
  EXPECT_EQ(in16(0x40), 1);
  EXPECT_EQ(status(0), 0x34);  // OUT is low in the last tick of each period.
  advance_to(clock, queue, 10'000'000'000);
  EXPECT_EQ(irq0.edges - before, (11931820 - 1) / 1193);
}

TEST_F(Pit, AGuestThatWasAwayGetsTheEdgesThatItMissedInQuickSuccession) {
  out(kControl, 0x34);
  out16(0x40, 1193);
  const int before = irq0.edges;
  constexpr uint64_t kBack = 1 + 1193 * 50 + 600;
  clock.time = kRate.time_of(kBack);
  queue.run_due();
  queue.run_due();
  EXPECT_EQ(irq0.edges - before, 1);
  EXPECT_EQ(in16(0x40), 593);
  EXPECT_EQ(queue.next_due(), kRate.time_of(kBack + 24));
  go_to(1 + 1193 * 51 - 1);
  EXPECT_EQ(irq0.edges - before, 593 / 24 + 1);
  go_to(1 + 1193 * 60);
  EXPECT_EQ(irq0.edges - before, 60);
  EXPECT_EQ(queue.next_due(), kRate.time_of(1 + 1193 * 61));
}

TEST_F(Pit, NoMoreThan64EdgesAreMadeUpFor) {
  out(kControl, 0x34);
  out16(0x40, 11932);  // 100 Hz.
  const int before = irq0.edges;
  clock.time = 60'000'000'000;
  queue.run_due();
  advance_to(clock, queue, 60'005'000'000);
  EXPECT_GE(irq0.edges - before, 64);
  EXPECT_LE(irq0.edges - before, 66);
}

TEST_F(Pit, WhatWasMissedComesAsFastAsInterruptsAreTaken) {
  out(kControl, 0x34);
  out16(0x40, 1193);
  const int before = irq0.edges;
  pit.interrupt_taken();
  EXPECT_EQ(irq0.edges, before);  // Nothing is overdue.
  clock.time = kRate.time_of(1 + 1193 * 10 + 600);
  queue.run_due();
  for (int i = 0; i < 20; ++i) pit.interrupt_taken();
  EXPECT_EQ(irq0.edges - before, 10);
  EXPECT_EQ(queue.next_due(), kRate.time_of(1 + 1193 * 11));
}

TEST_F(Pit, ReprogrammingForgetsWhatWasMissed) {
  out(kControl, 0x34);
  out16(0x40, 1193);
  clock.time = kRate.time_of(1 + 1193 * 50);
  queue.run_due();
  out(kControl, 0x34);
  out16(0x40, 1193);
  const int before = irq0.edges;
  go_to(1193 * 51);
  EXPECT_EQ(irq0.edges, before);
}

TEST_F(Pit, SavedStateKeepsWhatWasMissed) {
  out(kControl, 0x34);
  out16(0x40, 1193);
  clock.time = kRate.time_of(1 + 1193 * 50);
  queue.run_due();
  FakeLine other_irq;
  Pit8254 other(queue, other_irq);
  expect_round_trip(pit, other);
  const int before = other_irq.edges;
  go_to(1193 * 53);
  EXPECT_EQ(other_irq.edges - before, 51);
}

TEST_F(Pit, ShortPeriodsMayGather) {
  const auto slack = [this] { return *queue.next_due_at_latest() - *queue.next_due(); };
  out(kControl, 0x34);
  out16(0x40, 4773);  // 4 ms
  EXPECT_EQ(slack(), kRate.time_of(4773));
  out(kControl, 0x34);
  out16(0x40, 0);  // 55 ms
  EXPECT_EQ(slack(), 0u);
  out(kControl, 0x30);  // Once.
  out16(0x40, 4773);
  EXPECT_EQ(slack(), 0u);
}

TEST_F(Pit, Mode2TakesANewCountAtTheEndOfThePeriod) {
  out(kControl, 0x34);
  out16(0x40, 1000);
  go_to(301);
  const int before = irq0.edges;
  out16(0x40, 200);
  EXPECT_EQ(in16(0x40), 700);
  EXPECT_EQ(status(0) & 0x40, 0x40);
  go_to(1001);
  EXPECT_EQ(irq0.edges - before, 1);
  EXPECT_EQ(in16(0x40), 200);
  EXPECT_EQ(status(0) & 0x40, 0);
  go_to(1201);
  EXPECT_EQ(irq0.edges - before, 2);
}

TEST_F(Pit, Mode3CountsByTwos) {
  out(kControl, 0x36);
  out16(0x40, 100);
  go_to(1);
  EXPECT_EQ(in16(0x40), 100);
  EXPECT_EQ(status(0), 0xb6);
  go_to(50);
  EXPECT_EQ(in16(0x40), 2);
  EXPECT_EQ(status(0), 0xb6);
  go_to(51);
  EXPECT_EQ(in16(0x40), 100);
  EXPECT_EQ(status(0), 0x36);
  const int before = irq0.edges;
  go_to(100);
  EXPECT_EQ(irq0.edges, before);
  go_to(101);
  EXPECT_EQ(irq0.edges, before + 1);
  out(kControl, 0x36);
  out16(0x40, 101);  // 51 ticks high, 50 low.
  go_to(102 + 50);
  EXPECT_EQ(status(0), 0xb6);
  EXPECT_EQ(in16(0x40), 0);
  go_to(102 + 51);
  EXPECT_EQ(status(0), 0x36);
  EXPECT_EQ(in16(0x40), 100);
  go_to(102 + 101);
  EXPECT_EQ(irq0.edges, before + 2);
}

TEST_F(Pit, Mode3TakesANewCountAtTheEndOfTheHalf) {
  out(kControl, 0x36);
  out16(0x40, 100);
  go_to(11);
  out16(0x40, 1000);
  go_to(51);
  EXPECT_EQ(status(0), 0x36);
  EXPECT_EQ(in16(0x40), 1000);
  const int before = irq0.edges;
  EXPECT_EQ(queue.next_due(), kRate.time_of(551));
  go_to(551);
  EXPECT_EQ(irq0.edges, before + 1);
  EXPECT_EQ(in16(0x40), 1000);
  go_to(1061);
  out16(0x40, 60);  // In the low half: its end is a rise.
  EXPECT_EQ(queue.next_due(), kRate.time_of(1551));
  go_to(1551 + 60);
  EXPECT_EQ(irq0.edges, before + 3);
}

TEST_F(Pit, Mode4StrobesOnce) {
  out(kControl, 0x38);
  out16(0x40, 100);
  const int before = irq0.edges;
  go_to(101);
  EXPECT_EQ(status(0), 0x38);
  EXPECT_EQ(irq0.edges, before);
  go_to(102);
  EXPECT_EQ(status(0), 0xb8);
  EXPECT_EQ(irq0.edges, before + 1);
  EXPECT_EQ(queue.next_due(), std::nullopt);
  out16(0x40, 30);  // The next one without a control word.
  go_to(102 + 32);
  EXPECT_EQ(irq0.edges, before + 2);
}

TEST_F(Pit, TooShortPeriodsAreThinnedOut) {
  out(kControl, 0x34);
  out16(0x40, 2);
  const int before = irq0.edges;
  go_to(24'000);
  EXPECT_LE(irq0.edges - before, 1001);
  EXPECT_GE(irq0.edges - before, 900);
  out16(0x40, 1);
  out(kControl, 0x34);
  out16(0x40, 1);
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(Pit, OnlyChannel0ArmsTimers) {
  for (const int control : {0x74, 0xb6}) {
    out(kControl, control);
    out16(control >> 6 == 1 ? 0x41 : 0x42, 500);
  }
  out(kPortB, 1);
  EXPECT_EQ(queue.next_due(), std::nullopt);
}

TEST_F(Pit, TheGateOfChannel2PausesMode0) {
  out(kControl, 0xb0);
  out16(0x42, 1000);
  go_to(500);
  EXPECT_EQ(in16(0x42), 1000);
  out(kPortB, 1);
  go_to(600);
  EXPECT_EQ(in16(0x42), 900);
  out(kPortB, 0);
  go_to(5000);
  EXPECT_EQ(in16(0x42), 900);
  EXPECT_FALSE(out2());
  out(kPortB, 1);
  go_to(5900);
  EXPECT_TRUE(out2());
}

TEST_F(Pit, TheGateOfChannel2TriggersModes1And5) {
  out(kControl, 0xb2);
  EXPECT_TRUE(out2());
  out16(0x42, 100);
  go_to(500);
  EXPECT_TRUE(out2());
  out(kPortB, 1);
  go_to(550);
  EXPECT_FALSE(out2());
  EXPECT_EQ(in16(0x42), 51);
  out(kPortB, 0);  // Neither stops it nor starts it again.
  out16(0x42, 40);
  go_to(600);
  EXPECT_FALSE(out2());
  go_to(601);
  EXPECT_TRUE(out2());
  out(kPortB, 1);  // With the new count.
  EXPECT_FALSE(out2());
  go_to(642);
  EXPECT_TRUE(out2());

  out(kPortB, 0);
  out(kControl, 0xba);
  out16(0x42, 10);
  out(kPortB, 1);
  go_to(652);
  EXPECT_TRUE(out2());
  go_to(653);
  EXPECT_FALSE(out2());
  go_to(654);
  EXPECT_TRUE(out2());
}

TEST_F(Pit, TheGateOfChannel2RestartsMode3) {
  out(kControl, 0xb6);
  out16(0x42, 100);
  out(kPortB, 1);
  go_to(61);
  EXPECT_FALSE(out2());
  out(kPortB, 0);
  EXPECT_TRUE(out2());
  const int held = in16(0x42);
  go_to(200);
  EXPECT_EQ(in16(0x42), held);
  out(kPortB, 1);
  go_to(201);
  EXPECT_EQ(in16(0x42), 100);
  go_to(251);
  EXPECT_FALSE(out2());
}

TEST_F(Pit, CountsInBcd) {
  out(kControl, 0x35);
  out16(0x40, 0x1000);
  go_to(1);
  EXPECT_EQ(in16(0x40), 0x1000);
  go_to(2);
  EXPECT_EQ(in16(0x40), 0x0999);
  out(kControl, 0x31);
  out16(0x40, 0);  // 10000.
  go_to(3);
  EXPECT_EQ(in16(0x40), 0);
  go_to(4);
  EXPECT_EQ(in16(0x40), 0x9999);
}

TEST_F(Pit, AccessModes) {
  out(kControl, 0x14);
  out(0x40, 0x80);
  go_to(1);
  EXPECT_EQ(in(0x40), 0x80);
  EXPECT_EQ(in(0x40), 0x80);
  out(kControl, 0x24);
  out(0x40, 0x12);
  go_to(2);
  EXPECT_EQ(in(0x40), 0x12);
  out(kControl, 0x34);
  out(0x40, 0x34);
  out(kControl, 0x34);  // Starts over with the low byte.
  out16(0x40, 0x1234);
  go_to(3);
  EXPECT_EQ(in16(0x40), 0x1234);
}

TEST_F(Pit, LatchedCountsStay) {
  out(kControl, 0x34);
  out16(0x40, 0x8000);
  go_to(1);
  out(kControl, 0x00);
  go_to(1000);
  out(kControl, 0x00);  // Ignored: the first latch has not been read.
  EXPECT_EQ(in16(0x40), 0x8000);
  EXPECT_EQ(in16(0x40), 0x8000 - 999);
  out(kControl, 0x00);
  EXPECT_EQ(in(0x40), (0x8000 - 999) & 0xff);
  go_to(30000);
  EXPECT_EQ(in(0x40), (0x8000 - 999) >> 8);
}

TEST_F(Pit, ReadBackLatchesSeveralChannels) {
  out(kControl, 0x34);
  out16(0x40, 1000);
  out(kControl, 0x56);
  out(0x41, 18);
  go_to(11);
  out(kControl, 0xc6);  // Count and status of channels 0 and 1.
  go_to(500);
  EXPECT_EQ(in(0x40), 0xb4);
  EXPECT_EQ(in16(0x40), 990);
  EXPECT_EQ(in(0x41), 0x96 & ~0x80);  // Tick 10 of 18: the low half.
  EXPECT_EQ(in(0x41), 16);
  EXPECT_NE(in16(0x40), 990);
}

TEST_F(Pit, PortBShowsRefreshAndKeepsItsBits) {
  EXPECT_EQ(in(kPortB)&0x0f, 0);
  out(kPortB, 0xff);
  EXPECT_EQ(in(kPortB)&0xcf, 0x0f);
  int toggles = 0;
  bool last = in(kPortB)&0x10;
  for (uint64_t tick = 0; tick < 1800; tick += 3) {
    go_to(tick);
    const bool refresh = in(kPortB)&0x10;
    toggles += refresh != last;
    last = refresh;
  }
  EXPECT_EQ(toggles, 99);
}

TEST_F(Pit, ResetStopsEverything) {
  out(kControl, 0x34);
  out16(0x40, 1000);
  out(kPortB, 0x0f);
  pit.reset();
  EXPECT_FALSE(irq0.level);
  EXPECT_EQ(queue.next_due(), std::nullopt);
  EXPECT_EQ(in(kPortB)&0x0f, 0);
}

TEST_F(Pit, SavedStateKeepsCountsAndALateEdge) {
  out(kControl, 0x34);
  out16(0x40, 1000);
  out(kControl, 0xb0);
  out16(0x42, 30000);
  out(kPortB, 1);
  go_to(100);
  out(kControl, 0x00);
  in(0x40);
  clock.time = kRate.time_of(1005);  // The edge is due, and nobody has looked.
  FakeLine other_irq;
  Pit8254 other(queue, other_irq);
  expect_round_trip(pit, other);
  EXPECT_EQ(other_irq.level, irq0.level);
  queue.run_due();
  EXPECT_EQ(other_irq.edges, 2);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(other.counter_ports().port_read(0), in(0x40)) << i;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(other.counter_ports().port_read(2), in(0x42)) << i;
}

TEST_F(Pit, SurvivesAnything) {
  constexpr std::array<uint16_t, 5> kAll = {0x40, 0x41, 0x42, 0x43, 0x61};
  std::mt19937 random(2);
  FakeLine other_irq;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 20; ++i) {
      poke(bus, kAll, random, 3);
      clock.time += random() % (1u << random() % 30);
      queue.run_due();
      EXPECT_GT(queue.next_due().value_or(UINT64_MAX), clock.time);
    }
    Pit8254 other(queue, other_irq);
    expect_round_trip(pit, other);
  }
  Pit8254 other(queue, other_irq);
  damage_every_byte(pit, other, [&] {
    for (uint16_t offset = 0; offset < 3; ++offset) other.counter_ports().port_read(offset);
    other.system_control_port().port_read(0);
    other.counter_ports().port_write(0, 1);
    clock.time += 1'000'000;
    queue.run_due();
  });
}

}  // namespace
}  // namespace trapline
