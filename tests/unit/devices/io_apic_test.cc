#include "runtime/devices/io_apic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "runtime/devices/local_apic.h"
#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

constexpr uint32_t kMasked = 1u << 16, kLevel = 1u << 15, kRemoteIrr = 1u << 14;

class RecordingBus : public ApicBus {
 public:
  bool deliver(const ApicMessage& message) override {
    messages.push_back(message);
    return takes;
  }
  std::vector<ApicMessage> messages;
  bool takes = true;
};

class Redirection : public ::testing::Test {
 protected:
  uint32_t in(uint8_t index) {
    chip.mmio_write(IoApic::kAddress, 4, index);
    return static_cast<uint32_t>(chip.mmio_read(IoApic::kAddress + 0x10, 4));
  }
  void out(uint8_t index, uint32_t value) {
    chip.mmio_write(IoApic::kAddress, 4, index);
    chip.mmio_write(IoApic::kAddress + 0x10, 4, value);
  }
  void entry(int pin, uint32_t low, uint32_t high = 0) {
    out(static_cast<uint8_t>(0x11 + 2 * pin), high);
    out(static_cast<uint8_t>(0x10 + 2 * pin), low);
  }
  uint32_t entry(int pin) { return in(static_cast<uint8_t>(0x10 + 2 * pin)); }
  void pulse(int pin) {
    chip.line(pin).set(true);
    chip.line(pin).set(false);
  }
  size_t sent() const { return bus.messages.size(); }
  std::vector<uint8_t> saved() {
    SnapshotWriter out;
    chip.save(out);
    return {out.content().begin(), out.content().end()};
  }

  RecordingBus bus;
  IoApic chip{bus};
};

TEST_F(Redirection, HasTheRegistersOfThe82093) {
  EXPECT_EQ(in(0), 0u);
  EXPECT_EQ(in(1), 0x00170011u);
  out(0, ~0u);
  EXPECT_EQ(in(0), 0x0f000000u);
  EXPECT_EQ(in(2), 0x0f000000u);
  out(1, 0);
  EXPECT_EQ(in(1), 0x00170011u);
  for (int pin = 0; pin < IoApic::kPins; ++pin) EXPECT_EQ(entry(pin), kMasked);
  entry(3, ~0u, ~0u);
  EXPECT_EQ(entry(3), 0x1afffu);
  EXPECT_EQ(in(0x17), 0xff000000u);
  EXPECT_EQ(in(0x40), 0u);
  EXPECT_EQ(in(0xff), 0u);
  EXPECT_EQ(chip.mmio_read(IoApic::kAddress, 4), 0xffu);
  EXPECT_EQ(chip.mmio_read(IoApic::kAddress + 0x40, 4), 0u);
}

TEST_F(Redirection, SendsOneMessageForEachEdge) {
  entry(4, 0x0931, 0x03000000);
  pulse(4);
  ASSERT_EQ(sent(), 1u);
  EXPECT_EQ(bus.messages[0].vector, 0x31);
  EXPECT_EQ(bus.messages[0].delivery, ApicDelivery::kLowestPriority);
  EXPECT_EQ(bus.messages[0].destination, 3);
  EXPECT_TRUE(bus.messages[0].logical);
  EXPECT_FALSE(bus.messages[0].level);
  chip.line(4).set(true);
  chip.line(4).set(true);
  EXPECT_EQ(sent(), 2u);
  EXPECT_EQ(entry(4), 0x931u);
}

TEST_F(Redirection, LosesEdgesOfMaskedPins) {
  chip.line(4).set(true);
  entry(4, 0x31);
  EXPECT_EQ(sent(), 0u);
  chip.line(4).set(false);
  chip.line(4).set(true);
  EXPECT_EQ(sent(), 1u);
}

TEST_F(Redirection, RepeatsALevelAfterItsEnd) {
  entry(16, kLevel | 0x41);
  chip.line(16).set(true);
  EXPECT_EQ(sent(), 1u);
  EXPECT_TRUE(bus.messages[0].level);
  EXPECT_EQ(entry(16), kLevel | kRemoteIrr | 0x41);
  chip.line(16).set(false);
  chip.line(16).set(true);
  EXPECT_EQ(sent(), 1u);
  chip.end_of(0x42);
  EXPECT_EQ(sent(), 1u);
  chip.end_of(0x41);
  EXPECT_EQ(sent(), 2u);
  chip.line(16).set(false);
  chip.end_of(0x41);
  EXPECT_EQ(sent(), 2u);
  EXPECT_EQ(entry(16), kLevel | 0x41);
}

TEST_F(Redirection, AMaskedLevelWaits) {
  chip.line(16).set(true);
  entry(16, kLevel | kMasked | 0x41);
  EXPECT_EQ(sent(), 0u);
  entry(16, kLevel | 0x41);
  EXPECT_EQ(sent(), 1u);
  entry(16, kLevel | kMasked | 0x41);
  chip.end_of(0x41);
  EXPECT_EQ(sent(), 1u);
  entry(16, kLevel | 0x41);
  EXPECT_EQ(sent(), 2u);
}

TEST_F(Redirection, ALevelThatNobodyTookStaysToBeSent) {
  bus.takes = false;
  entry(16, kLevel | 0x41);
  chip.line(16).set(true);
  EXPECT_EQ(entry(16), kLevel | 0x41);
  bus.takes = true;
  chip.line(16).set(true);
  EXPECT_EQ(entry(16), kLevel | kRemoteIrr | 0x41);
}

TEST_F(Redirection, MakingAPinEdgeTriggeredEndsItsInterrupt) {
  entry(16, kLevel | 0x41);
  chip.line(16).set(true);
  entry(16, kMasked | 0x41);
  EXPECT_EQ(entry(16), kMasked | 0x41);
  entry(16, kLevel | 0x41);
  EXPECT_EQ(sent(), 2u);
}

TEST_F(Redirection, WithoutAVectorEverythingIsAnEdge) {
  entry(0, kLevel | 0x700);
  entry(1, kLevel | 0x400);
  pulse(0);
  pulse(1);
  ASSERT_EQ(sent(), 2u);
  EXPECT_EQ(bus.messages[0].delivery, ApicDelivery::kExternal);
  EXPECT_FALSE(bus.messages[0].level);
  EXPECT_EQ(bus.messages[1].delivery, ApicDelivery::kNmi);
  EXPECT_EQ(entry(0), kLevel | 0x700);
}

TEST_F(Redirection, SnapshotsAreComplete) {
  out(0, 0x02000000);
  entry(16, kLevel | 0x41, 0x01000000);
  chip.line(16).set(true);
  entry(2, 0x30);
  in(1);
  const auto content = saved();
  RecordingBus other_bus;
  IoApic other(other_bus);
  SnapshotReader reader(content);
  ASSERT_TRUE(other.load(reader).ok());
  SnapshotWriter again;
  other.save(again);
  EXPECT_TRUE(std::ranges::equal(again.content(), content));
  EXPECT_TRUE(other_bus.messages.empty());
  other.end_of(0x41);
  EXPECT_EQ(other_bus.messages.size(), 1u);
}

TEST_F(Redirection, ResetMasksAllPins) {
  entry(16, kLevel | 0x41);
  chip.line(16).set(true);
  chip.reset();
  EXPECT_EQ(entry(16), kMasked);
  entry(16, kLevel | 0x41);
  EXPECT_EQ(sent(), 2u) << "the device still asks";
}

TEST_F(Redirection, SurvivesRandomUse) {
  FakeClock clock;
  EventQueue queue{clock};
  FakeLine intr;
  struct Pic : InterruptSource {
    uint8_t acknowledge() override { return 8; }
  } pic;
  LocalApic apic{queue, intr, pic, [] {}};
  IoApic io{apic};
  apic.on_end_of_level([&](uint8_t vector) { io.end_of(vector); });
  std::mt19937 random(82093);
  constexpr std::array<uint32_t, 4> kSizes = {1, 2, 4, 8};
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t offset = random() % 8 ? random() % 2 * 16 : random() % (kPageSize - 8);
    const uint32_t size = kSizes[random() % 4];
    switch (random() % 8) {
      case 0:
        io.line(static_cast<int>(random() % IoApic::kPins)).set(random() % 2);
        break;
      case 1:
        if (intr.level) apic.acknowledge();
        apic.mmio_write(LocalApic::kAddress + 0xb0, 4, 0);
        break;
      case 2:
        apic.mmio_write(LocalApic::kAddress + 0xf0, 4, random() | 0x100);
        break;
      case 3:
        io.mmio_read(IoApic::kAddress + offset, size);
        break;
      default:
        io.mmio_write(IoApic::kAddress + offset, size, random() >> random() % 32);
        break;
    }
    if (i % 1000 != 0) continue;
    SnapshotWriter first, second;
    io.save(first);
    SnapshotReader reader(first.content());
    ASSERT_TRUE(io.load(reader).ok());
    io.save(second);
    ASSERT_TRUE(std::ranges::equal(first.content(), second.content()));
  }
}

}  // namespace
}  // namespace trapline
