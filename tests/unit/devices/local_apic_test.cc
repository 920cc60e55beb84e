#include "runtime/devices/local_apic.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

constexpr uint32_t kId = 0x20, kVersion = 0x30, kTpr = 0x80, kPpr = 0xa0, kEoi = 0xb0, kLdr = 0xd0,
                   kDfr = 0xe0, kSvr = 0xf0, kIsr = 0x100, kTmr = 0x180, kIrr = 0x200, kEsr = 0x280,
                   kIcr = 0x300, kIcrHigh = 0x310, kTimer = 0x320, kLint0 = 0x350, kLint1 = 0x360,
                   kErrorEntry = 0x370, kInitial = 0x380, kCurrent = 0x390, kDivide = 0x3e0;
constexpr uint32_t kMasked = 1u << 16, kPeriodic = 1u << 17;
constexpr uint32_t kDivideBy1 = 0xb, kDivideBy16 = 0x3;

class FakePic : public InterruptSource {
 public:
  uint8_t acknowledge() override {
    ++acknowledged;
    return 0x08;
  }
  int acknowledged = 0;
};

class Apic : public ::testing::Test {
 protected:
  uint32_t in(uint32_t offset) {
    return static_cast<uint32_t>(apic.mmio_read(LocalApic::kAddress + offset, 4));
  }
  void out(uint32_t offset, uint32_t value) {
    apic.mmio_write(LocalApic::kAddress + offset, 4, value);
  }
  void enable() { out(kSvr, 0x1ff); }
  /// The interrupts that the CPU would take with the given times passing, and finish at once.
  std::vector<uint8_t> taken() {
    std::vector<uint8_t> vectors;
    while (intr.level) {
      vectors.push_back(apic.acknowledge());
      out(kEoi, 0);
    }
    return vectors;
  }
  void wait(uint64_t nanoseconds) { advance_to(clock, queue, clock.time + nanoseconds); }
  std::vector<uint8_t> saved() {
    SnapshotWriter out;
    apic.save(out);
    return {out.content().begin(), out.content().end()};
  }

  using Vectors = std::vector<uint8_t>;
  FakeClock clock;
  EventQueue queue{clock};
  FakeLine intr;
  FakePic pic;
  int nmis = 0;
  LocalApic apic{queue, intr, pic, [this] { ++nmis; }};
};

TEST_F(Apic, ComesOutOfResetInVirtualWireMode) {
  EXPECT_EQ(apic.base_msr(), 0xfee00900u);
  EXPECT_EQ(in(kId), 0u);
  EXPECT_EQ(in(kVersion), 0x00050014u);
  EXPECT_EQ(in(kSvr), 0xffu);
  EXPECT_EQ(in(kDfr), ~0u);
  EXPECT_EQ(in(kLdr), 0u);
  EXPECT_EQ(in(kTimer), kMasked);
  EXPECT_EQ(in(kLint0), 0x700u);
  EXPECT_EQ(in(kLint1), 0x400u);

  apic.lint0().set(true);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(apic.acknowledge(), 0x08);
  EXPECT_EQ(pic.acknowledged, 1);
  EXPECT_TRUE(intr.level);
  apic.lint0().set(false);
  EXPECT_FALSE(intr.level);
  apic.lint1().set(true);
  EXPECT_EQ(nmis, 1);
}

TEST_F(Apic, RegistersKeepTheBitsThatExist) {
  enable();
  for (const auto& [offset, expected] :
       std::vector<std::pair<uint32_t, uint32_t>>{{kId, 0xff000000},
                                                  {kTpr, 0xff},
                                                  {kLdr, 0xff000000},
                                                  {kDfr, 0xffffffff},
                                                  {kIcrHigh, 0xff000000},
                                                  {kTimer, 0x300ff},
                                                  {0x330, 0x107ff},
                                                  {0x340, 0x107ff},
                                                  {kLint0, 0x1a7ff},
                                                  {kLint1, 0x1a7ff},
                                                  {kErrorEntry, 0x100ff},
                                                  {kDivide, 0xb}}) {
    out(offset, ~0u);
    EXPECT_EQ(in(offset), expected) << std::hex << offset;
  }
  out(kDfr, 0);
  EXPECT_EQ(in(kDfr), 0x0fffffffu);
}

TEST_F(Apic, HardwareDisabledItIsNotThere) {
  enable();
  apic.accept(0x50, false);
  out(kLint0, kMasked);
  EXPECT_TRUE(intr.level);
  apic.set_base_msr(0xfee00000);
  EXPECT_EQ(apic.base_msr(), 0xfee00100u);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(in(kVersion), ~0u);
  EXPECT_EQ(apic.mmio_read(LocalApic::kAddress, 1), 0xffu);
  EXPECT_FALSE(apic.accept(0x51, false));

  apic.lint0().set(true);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(apic.acknowledge(), 0x08);
  apic.lint1().set(true);
  EXPECT_EQ(nmis, 1);
  apic.lint0().set(false);

  apic.set_base_msr(0xfee00800);
  EXPECT_EQ(in(kSvr), 0xffu);
  EXPECT_FALSE(intr.level);
}

TEST_F(Apic, SoftwareDisabledItMasksItsEntriesAndTakesNothing) {
  enable();
  out(kTimer, 0x40);
  out(kLint0, 0x700);
  out(kSvr, 0xff);
  EXPECT_EQ(in(kTimer), kMasked | 0x40);
  EXPECT_EQ(in(kLint0), kMasked | 0x700);
  out(kTimer, 0x40);
  EXPECT_EQ(in(kTimer), kMasked | 0x40);
  EXPECT_FALSE(apic.accept(0x50, false));
  EXPECT_TRUE(taken().empty());
}

TEST_F(Apic, TakesInterruptsByPriority) {
  enable();
  for (const uint8_t vector : {0x31, 0x52, 0x51, 0xf0}) EXPECT_TRUE(apic.accept(vector, false));
  EXPECT_EQ(in(kIrr + 0x10), 1u << 17);
  EXPECT_EQ(apic.acknowledge(), 0xf0);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(in(kIsr + 0x70), 1u << 16);
  EXPECT_EQ(in(kPpr), 0xf0u);
  out(kEoi, 0);
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(apic.acknowledge(), 0x52);
  EXPECT_FALSE(intr.level) << "the same class waits";
  apic.accept(0x61, false);
  EXPECT_EQ(apic.acknowledge(), 0x61);
  out(kEoi, 0);
  out(kEoi, 0);
  EXPECT_EQ(taken(), (Vectors{0x51, 0x31}));
}

TEST_F(Apic, TheTaskPriorityHoldsInterruptsBack) {
  enable();
  out(kTpr, 0x5f);
  EXPECT_EQ(in(kPpr), 0x5fu);
  apic.accept(0x55, false);
  EXPECT_FALSE(intr.level);
  apic.accept(0x60, false);
  EXPECT_TRUE(intr.level);
  out(kTpr, 0xff);
  EXPECT_FALSE(intr.level);
  EXPECT_EQ(apic.acknowledge(), 0xff) << "spurious";
  EXPECT_EQ(in(kIsr + 0x70), 0u);
  apic.mmio_write(LocalApic::kAddress + kTpr, 1, 0);  // As NT does.
  EXPECT_EQ(taken(), (Vectors{0x60, 0x55}));
}

TEST_F(Apic, ReportsTheEndOfLevelInterruptsOnly) {
  std::vector<uint8_t> ended;
  apic.on_end_of_level([&](uint8_t vector) { ended.push_back(vector); });
  enable();
  apic.accept(0x40, false);
  apic.accept(0x41, true);
  EXPECT_EQ(in(kTmr + 0x20), 2u);
  EXPECT_EQ(taken(), (Vectors{0x41, 0x40}));
  EXPECT_EQ(ended, Vectors{0x41});
  out(kEoi, 0);
  EXPECT_EQ(ended.size(), 1u);
}

TEST_F(Apic, SendsInterruptsToItself) {
  enable();
  out(kIcr, 0x40041);  // Shorthand self.
  out(kIcr, 0x80042);  // All, self included.
  out(kIcr, 0xc0043);  // All others.
  EXPECT_EQ(in(kIcr), 0xc0043u);
  out(kIcr, 0x00044);  // Physical 0, which is this one.
  out(kIcrHigh, 0x01000000);
  out(kIcr, 0x00045);  // Nobody.
  out(kLdr, 0x03000000);
  out(kIcr, 0x00846);  // Logical, one of the two bits.
  EXPECT_EQ(taken(), (Vectors{0x46, 0x44, 0x42, 0x41}));

  out(kDfr, 0);
  out(kLdr, 0x21000000);
  out(kIcrHigh, 0x11000000);
  out(kIcr, 0x00851);  // Another cluster.
  out(kIcrHigh, 0x2f000000);
  out(kIcr, 0x00852);
  EXPECT_EQ(taken(), Vectors{0x52});

  out(kIcrHigh, 0);
  out(kIcr, 0x400);
  EXPECT_EQ(nmis, 1);
  int inits = 0;
  apic.on_init([&] { ++inits; });
  out(kIcr, 0x8500);  // The level's end: nothing.
  out(kIcr, 0x0608);  // Start-up: lost.
  out(kIcr, 0xc4500);
  EXPECT_EQ(inits, 0);
  out(kIcr, 0x4500);
  EXPECT_EQ(inits, 1);
}

TEST_F(Apic, KeepsErrorsUntilTheyAreAskedFor) {
  enable();
  out(kErrorEntry, 0xfe);
  out(kIcr, 0x40005);
  EXPECT_EQ(in(kEsr), 0u);
  EXPECT_EQ(taken(), Vectors{0xfe});
  in(0x3f0);
  out(0x3f0, 1);
  out(kEsr, 0);
  EXPECT_EQ(in(kEsr), 0xa0u);
  out(kEsr, 0);
  EXPECT_EQ(in(kEsr), 0u);
  EXPECT_EQ(taken(), Vectors{0xfe});
  EXPECT_FALSE(apic.accept(0x0f, false));
  out(kEsr, 0);
  EXPECT_EQ(in(kEsr), 0x40u);
}

TEST_F(Apic, AnErrorEntryWithAnIllegalVectorEndsSomewhere) {
  enable();
  out(kErrorEntry, 3);
  out(kIcr, 0x40005);
  out(kEsr, 0);
  EXPECT_EQ(in(kEsr), 0x60u);
}

TEST_F(Apic, PinsCanBeFixedInterrupts) {
  enable();
  out(kLint0, 0x61);
  apic.lint0().set(true);
  EXPECT_EQ(taken(), Vectors{0x61});
  apic.lint0().set(false);
  out(kLint0, 0x8061);
  apic.lint0().set(true);
  EXPECT_EQ(in(kLint0), 0xc061u);
  EXPECT_EQ(apic.acknowledge(), 0x61);
  EXPECT_FALSE(intr.level);
  out(kEoi, 0);
  EXPECT_TRUE(intr.level) << "it is still asserted";
  apic.lint0().set(false);
  EXPECT_EQ(taken(), Vectors{0x61});
  EXPECT_EQ(in(kLint0), 0x8061u);

  out(kLint0, 0x400);
  apic.lint0().set(true);
  EXPECT_EQ(nmis, 1);
}

TEST_F(Apic, TakesExternalInterruptsFromTheIoApic) {
  enable();
  out(kLint0, kMasked);
  EXPECT_TRUE(apic.deliver({.delivery = ApicDelivery::kExternal}));
  EXPECT_TRUE(intr.level);
  EXPECT_EQ(apic.acknowledge(), 0x08);
  EXPECT_FALSE(intr.level);
}

TEST_F(Apic, CountsDownOnce) {
  enable();
  out(kTimer, 0x40);
  out(kDivide, kDivideBy16);
  out(kInitial, 1000);
  EXPECT_EQ(in(kCurrent), 1000u);
  wait(1600);
  EXPECT_EQ(in(kCurrent), 900u);
  wait(14'399);
  EXPECT_FALSE(intr.level);
  wait(1);
  EXPECT_EQ(taken(), Vectors{0x40});
  EXPECT_EQ(in(kCurrent), 0u);
  wait(100'000);
  EXPECT_TRUE(taken().empty());
  EXPECT_FALSE(queue.next_due());
}

TEST_F(Apic, EveryDivisorDivides) {
  enable();
  out(kTimer, 0x40);
  const std::vector<std::pair<uint32_t, uint32_t>> divisors = {
      {0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
  for (const auto& [code, divisor] : divisors) {
    out(kDivide, code);
    out(kInitial, 100'000);
    wait(uint64_t{1000} * divisor);
    EXPECT_EQ(in(kCurrent), 99'000u) << divisor;
  }
}

TEST_F(Apic, AChangedDivisorGoesOnFromTheCount) {
  enable();
  out(kTimer, 0x40);
  wait(1'000'000);
  out(kDivide, kDivideBy1);
  out(kInitial, 1000);
  wait(500);
  out(kDivide, kDivideBy16);
  EXPECT_EQ(in(kCurrent), 500u);
  wait(16 * 500);
  EXPECT_EQ(taken(), Vectors{0x40});
}

TEST_F(Apic, CountsPeriodically) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1'000'000);
  int interrupts = 0;
  for (int i = 0; i < 100; ++i) {
    wait(100'000);
    interrupts += static_cast<int>(taken().size());
  }
  EXPECT_EQ(interrupts, 10);
  wait(300'000);
  EXPECT_EQ(in(kCurrent), 700'000u);
}

TEST_F(Apic, AGuestThatWasAwayGetsWhatItMissedAndThenThePhase) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1'000'000);
  clock.time = 50'500'000;
  queue.run_due();
  // One after the other, as fast as they are taken.
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(intr.level) << i;
    EXPECT_EQ(apic.acknowledge(), 0x40);
    EXPECT_FALSE(intr.level);
    out(kEoi, 0);
  }
  EXPECT_FALSE(intr.level);
  queue.run_due();
  EXPECT_TRUE(taken().empty());
  EXPECT_EQ(queue.next_due(), 51'000'000u);
  wait(500'000);
  EXPECT_EQ(taken(), Vectors{0x40});
}

TEST_F(Apic, AGuestThatWasAwayForLongGetsNoStorm) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1'000'000);
  clock.time += 3'600'000'000'000;
  queue.run_due();
  EXPECT_EQ(taken().size(), 65u);
  // Nor does one whose periods are too short for its handler.
  out(kInitial, 100'000);
  clock.time += 10'000'000;
  queue.run_due();
  EXPECT_EQ(taken().size(), 1u);
}

TEST_F(Apic, WhatWasMissedIsForgottenWithTheTimer) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  for (int how = 0; how < 3; ++how) {
    out(kTimer, kPeriodic | 0x40);
    out(kInitial, 1'000'000);
    clock.time += 10'000'000;
    queue.run_due();
    if (how == 0) out(kInitial, 1'000'000);
    if (how == 1) out(kTimer, kMasked | kPeriodic | 0x40);
    if (how == 2) out(kTimer, 0x40);
    EXPECT_EQ(taken(), Vectors{0x40}) << how;
  }
}

TEST_F(Apic, CountsThatAreTicksMayBeLate) {
  enable();
  out(kTimer, 0x40);
  out(kDivide, kDivideBy1);
  const auto slack = [this] { return *queue.next_due_at_latest() - *queue.next_due(); };
  // Each tick takes a while to arm the next one, on a grid of 4 ms.
  uint64_t next = clock.time;
  const auto tick = [&](uint64_t ticks, uint64_t late) {
    clock.time = std::max(clock.time, next) + late;
    queue.run_due();
    next += ticks * 4'000'000;
    out(kInitial, static_cast<uint32_t>(next - clock.time));
    return slack();
  };
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(tick(1, i % 3 * 10'000), 0u);
  for (uint64_t i = 0; i < 20; ++i) tick(1, i % 3 * 10'000);
  EXPECT_NEAR(static_cast<double>(tick(1, 0)), 4e6, 1e5);
  // One that came late arms the one after those that it missed.
  EXPECT_NEAR(static_cast<double>(tick(2, 4'050'000)), 4e6, 1e5);
  EXPECT_NEAR(static_cast<double>(tick(3, 0)), 4e6, 1e5);
  // Somebody's alarm is due in time.
  out(kInitial, 2'500'000);
  EXPECT_EQ(slack(), 0u);
  EXPECT_EQ(queue.next_due(), clock.time + 2'500'000);
  next = clock.time + 2'500'000;
  EXPECT_EQ(tick(1, 0), 0u);
}

TEST_F(Apic, PeriodicInterruptsMayBeLate) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 4'000'000);
  EXPECT_EQ(queue.next_due_at_latest(), *queue.next_due() + 4'000'000);
  out(kInitial, 5'000'001);
  EXPECT_EQ(queue.next_due_at_latest(), queue.next_due());
  out(kTimer, 0x40);
  out(kInitial, 4'000'000);
  EXPECT_EQ(queue.next_due_at_latest(), queue.next_due());
}

TEST_F(Apic, TheShortestPeriodLeavesTimeForTheGuest) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1);
  int interrupts = 0;
  const uint64_t end = clock.time + 1'000'000;
  while (const auto due = queue.next_due()) {
    if (*due > end) break;
    clock.time = std::max(clock.time, *due);
    queue.run_due();
    interrupts += static_cast<int>(taken().size());
  }
  EXPECT_LE(interrupts, 101);
  EXPECT_GE(interrupts, 99);
}

TEST_F(Apic, AMaskedTimerNeedsNoEvents) {
  enable();
  out(kTimer, kMasked | kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1000);
  EXPECT_FALSE(queue.next_due());
  clock.time += 2300;
  EXPECT_EQ(in(kCurrent), 700u);
  out(kTimer, kPeriodic | 0x40);
  EXPECT_TRUE(taken().empty());
  EXPECT_TRUE(queue.next_due());
}

TEST_F(Apic, WhatExpiredBeforeItWasMaskedStillInterrupts) {
  enable();
  out(kTimer, 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 1000);
  clock.time += 2000;
  out(kTimer, kMasked | 0x40);
  EXPECT_EQ(taken(), Vectors{0x40});
}

TEST_F(Apic, OddAccessesAreHarmless) {
  enable();
  EXPECT_EQ(apic.mmio_read(LocalApic::kAddress + kVersion, 1), 0x14u);
  EXPECT_EQ(apic.mmio_read(LocalApic::kAddress + kVersion + 2, 2), 0x5u);
  EXPECT_EQ(apic.mmio_read(LocalApic::kAddress + kVersion, 8), 0x50014u);
  EXPECT_EQ(apic.mmio_read(LocalApic::kAddress + kVersion + 4, 4), 0u);
  apic.mmio_write(LocalApic::kAddress + kTpr + 1, 1, 0x55);
  apic.mmio_write(LocalApic::kAddress + kTpr + 4, 4, 0x55);
  EXPECT_EQ(in(kTpr), 0u);
}

TEST_F(Apic, ResetForgetsEverything) {
  enable();
  out(kTimer, kPeriodic | 0x40);
  out(kInitial, 1000);
  apic.accept(0x80, true);
  apic.set_base_msr(0xfee00000);
  apic.reset();
  EXPECT_FALSE(intr.level);
  EXPECT_FALSE(queue.next_due());
  EXPECT_EQ(apic.base_msr(), 0xfee00900u);
  EXPECT_EQ(in(kSvr), 0xffu);
  EXPECT_EQ(in(kInitial), 0u);
}

TEST_F(Apic, SnapshotsAreComplete) {
  enable();
  out(kTpr, 0x20);
  out(kTimer, kPeriodic | 0x40);
  out(kDivide, kDivideBy1);
  out(kInitial, 50'000);
  wait(20'000);
  apic.accept(0x91, true);
  apic.acknowledge();
  apic.accept(0x92, false);
  const auto content = saved();
  EXPECT_FALSE(intr.level);

  wait(1'000'000);
  apic.reset();
  clock.time = 20'000;
  SnapshotReader reader(content);
  ASSERT_TRUE(apic.load(reader).ok());
  EXPECT_EQ(saved(), content);
  EXPECT_EQ(in(kCurrent), 30'000u);
  EXPECT_EQ(queue.next_due(), 50'000u);
  out(kEoi, 0);
  EXPECT_EQ(taken(), Vectors{0x92});
}

TEST_F(Apic, RefusesSnapshotsWithBitsThatDoNotExist) {
  const auto content = saved();
  int refused = 0;
  for (size_t i = 0; i < content.size(); ++i) {
    auto damaged = content;
    damaged[i] ^= 0xff;
    SnapshotReader reader(damaged);
    if (apic.load(reader).ok()) continue;
    ++refused;
  }
  EXPECT_GT(refused, 20);
}

TEST_F(Apic, SurvivesRandomUse) {
  std::mt19937 random(20261121);
  apic.on_end_of_level([&](uint8_t vector) {
    if (random() % 2) apic.accept(vector, true);
  });
  constexpr std::array<uint32_t, 4> kSizes = {1, 2, 4, 8};
  for (int i = 0; i < 200'000; ++i) {
    const uint32_t offset = random() % 4 ? random() % 64 * 16 : random() % (kPageSize - 8);
    const uint32_t size = random() % 4 ? 4 : kSizes[random() % 4];
    switch (random() % 16) {
      case 0:
        apic.set_base_msr(uint64_t{random()} << 4);
        apic.set_base_msr(0xfee00900);
        break;
      case 1:
        apic.accept(static_cast<uint8_t>(random()), random() % 2);
        break;
      case 2:
        apic.lint0().set(random() % 2);
        break;
      case 3:
        apic.lint1().set(random() % 2);
        break;
      case 4:
        clock.time += random() >> random() % 32;
        queue.run_due();
        break;
      case 5:
        if (intr.level) apic.acknowledge();
        break;
      case 6:
        apic.mmio_read(LocalApic::kAddress + offset, size);
        break;
      case 7:
        enable();
        break;
      default:
        apic.mmio_write(LocalApic::kAddress + offset, size, random());
        break;
    }
    if (i % 1000 != 0) continue;
    const auto content = saved();
    SnapshotReader reader(content);
    ASSERT_TRUE(apic.load(reader).ok());
    ASSERT_EQ(saved(), content);
  }
}

}  // namespace
}  // namespace trapline
