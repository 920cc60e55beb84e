#include "runtime/devices/uart16550.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

enum : uint16_t { kData, kIer, kIir, kLcr, kMcr, kLsr, kMsr, kScr, kFcr = kIir };
constexpr uint8_t kOut2 = 8, kLoop = 16;

class Uart : public ::testing::Test {
 protected:
  uint8_t in(uint16_t offset) { return uart.port_read(offset); }
  void out(uint16_t offset, int value) { uart.port_write(offset, static_cast<uint8_t>(value)); }

  FakeBackend backend;
  FakeLine line;
  Uart16550 uart{backend, &line};
};

TEST_F(Uart, ComesOutOfResetIdle) {
  EXPECT_EQ(in(kIer), 0);
  EXPECT_EQ(in(kIir), 0x01);
  EXPECT_EQ(in(kLcr), 0);
  EXPECT_EQ(in(kMcr), 0);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kMsr), 0xb0);
}

TEST_F(Uart, TransmitsAtOnce) {
  for (const char c : {'o', 'k'}) out(kData, c);
  EXPECT_EQ(backend.output, "ok");
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Uart, TheDivisorLatchHidesDataAndInterruptEnable) {
  out(kIer, 0x05);
  out(kLcr, 0x83);
  out(kData, 0x34);
  out(kIer, 0x12);
  EXPECT_EQ(in(kData), 0x34);
  EXPECT_EQ(in(kIer), 0x12);
  EXPECT_TRUE(backend.output.empty());
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0x05);
}

TEST_F(Uart, RegistersKeepOnlyTheBitsThatExist) {
  out(kIer, 0xff);
  EXPECT_EQ(in(kIer), 0x0f);
  out(kMcr, 0xff);
  EXPECT_EQ(in(kMcr), 0x1f);
  out(kScr, 0xa5);
  EXPECT_EQ(in(kScr), 0xa5);
  out(kLsr, 0xff);
  EXPECT_EQ(in(kLsr)&0x9e, 0);
}

TEST_F(Uart, WithoutFifosOneByteWaitsAndTheRestStaysOutside) {
  backend.type("abc");
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(backend.input.size(), 2u);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(in(kData), 'b');
  EXPECT_EQ(in(kData), 'c');
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kData), 'c');  // An empty receiver shows the last byte again.
}

TEST_F(Uart, ABreakIsAZeroWhoseStatusSaysSo) {
  out(kFcr, 0x01);
  out(kIer, 0x04);
  out(kMcr, kOut2);
  backend.type("ab");
  backend.type_break();
  backend.type("c");
  uart.poll();
  EXPECT_FALSE(line.level);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kData), 'b');
  EXPECT_TRUE(line.level);
  EXPECT_EQ(in(kIir), 0xc6);
  EXPECT_EQ(in(kLsr), 0x71);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kData), 0);
  EXPECT_EQ(in(kData), 'c');
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Uart, FifosAnnounceThemselvesAndHoldSixteen) {
  out(kFcr, 0x01);
  EXPECT_EQ(in(kIir), 0xc1);
  backend.type("0123456789abcdefgh");
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(backend.input.size(), 2u);
  std::string read;
  while (in(kLsr)&1) read += static_cast<char>(in(kData));
  EXPECT_EQ(read, "0123456789abcdefgh");
}

TEST_F(Uart, ClearingTheReceiverOrTogglingFifosLosesInput) {
  out(kFcr, 0x01);
  backend.type("xy");
  EXPECT_EQ(in(kLsr), 0x61);
  out(kFcr, 0x03);
  EXPECT_EQ(in(kLsr), 0x60);
  backend.type("xy");
  EXPECT_EQ(in(kLsr), 0x61);
  out(kFcr, 0x00);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Uart, ReceivedDataInterruptsAtTheTriggerLevelOrByTimeout) {
  out(kMcr, kOut2);
  out(kFcr, 0x41);  // Trigger at 4.
  out(kIer, 0x01);
  EXPECT_FALSE(line.level);
  backend.type("abc");
  uart.poll();
  EXPECT_TRUE(line.level);
  EXPECT_EQ(in(kIir), 0xcc);
  backend.type("d");
  uart.poll();
  EXPECT_EQ(in(kIir), 0xc4);
  for (int i = 0; i < 4; ++i) in(kData);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(in(kIir), 0xc1);
}

TEST_F(Uart, TheTransmitterInterruptIsTakenBackByReadingIir) {
  out(kMcr, kOut2);
  out(kIer, 0x02);
  EXPECT_TRUE(line.level);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_FALSE(line.level);
  EXPECT_EQ(in(kIir), 0x01);
  out(kData, 'x');
  EXPECT_TRUE(line.level);
  EXPECT_EQ(line.edges, 2);
  out(kData, 'y');  // Without reading IIR: an edge all the same.
  EXPECT_EQ(line.edges, 3);
  out(kIer, 0x00);
  EXPECT_FALSE(line.level);
  out(kIer, 0x02);  // Enabling it again reports the empty transmitter again.
  EXPECT_EQ(in(kIir), 0x02);
}

TEST_F(Uart, InterruptsComeByPriority) {
  out(kMcr, kLoop);
  in(kMsr);
  out(kLcr, 0x03);
  out(kData, 1);
  out(kData, 2);            // Overrun.
  out(kMcr, kLoop | 0x01);  // DSR changes.
  out(kIer, 0x0f);
  EXPECT_EQ(in(kIir), 0x06);
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kLsr), 0x61);
  EXPECT_EQ(in(kIir), 0x04);
  EXPECT_EQ(in(kData), 2);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x00);
  EXPECT_EQ(in(kMsr), 0x22);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(Uart, TheLineIsGatedByOut2AndLoopback) {
  out(kIer, 0x02);
  EXPECT_FALSE(line.level);
  out(kMcr, kOut2);
  EXPECT_TRUE(line.level);
  out(kMcr, kOut2 | kLoop);
  EXPECT_FALSE(line.level);
}

TEST_F(Uart, LoopbackConnectsDataAndModemLines) {
  out(kMcr, kLoop);
  in(kMsr);
  out(kLcr, 0x02);  // Seven bits.
  out(kData, 0xc1);
  EXPECT_TRUE(backend.output.empty());
  EXPECT_EQ(in(kData), 0x41);
  backend.type("outside");
  EXPECT_EQ(in(kLsr), 0x60);
  out(kMcr, kLoop | 0x0f);
  EXPECT_EQ(in(kMsr), 0xf0 | 0x0b);  // The ring indicator reports its end only.
  out(kMcr, kLoop | 0x0b);
  EXPECT_EQ(in(kMsr), 0xb0 | 0x04);
  EXPECT_EQ(in(kMsr), 0xb0);
}

TEST_F(Uart, AFullFifoKeepsTheOldBytes) {
  out(kMcr, kLoop);
  out(kLcr, 0x03);
  out(kFcr, 0x01);
  for (int i = 0; i < 17; ++i) out(kData, i);
  EXPECT_EQ(in(kLsr), 0x63);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(in(kData), i);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(Uart, ReadsThatTakeSomethingAwayAreNoPolling) {
  const auto steady = [this](uint16_t offset) { return uart.changes_by_events_only(offset); };
  for (uint16_t offset = 0; offset < Uart16550::kPorts; ++offset) EXPECT_TRUE(steady(offset));
  out(kIer, 0x02);
  EXPECT_FALSE(steady(kIir));
  in(kIir);
  EXPECT_TRUE(steady(kIir));
  backend.type_break();
  uart.poll();
  EXPECT_FALSE(steady(kLsr));
  EXPECT_FALSE(steady(kData));
  in(kLsr);
  EXPECT_TRUE(steady(kLsr));
  in(kData);
  EXPECT_TRUE(steady(kData));
  out(kMcr, kLoop | 0x03);
  EXPECT_FALSE(steady(kMsr));
  in(kMsr);
  EXPECT_TRUE(steady(kMsr));
}

TEST_F(Uart, ResetLeavesTheScratchRegister) {
  out(kScr, 0x77);
  out(kIer, 0x0f);
  out(kMcr, kOut2);
  out(kFcr, 0xc1);
  EXPECT_TRUE(line.level);
  uart.reset();
  EXPECT_FALSE(line.level);
  EXPECT_EQ(in(kScr), 0x77);
  EXPECT_EQ(in(kIer), 0);
  EXPECT_EQ(in(kIir), 0x01);
}

class UartSnapshot : public Uart {
 protected:
  void SetUp() override {
    out(kLcr, 0x83);
    out(kData, 0x01);
    out(kIer, 0x02);
    out(kLcr, 0x1b);
    out(kFcr, 0x81);
    out(kMcr, kLoop | 0x03);
    for (int i = 0; i < 17; ++i) out(kData, 0x20 + i);
    out(kIer, 0x0f);
    out(kScr, 0x5a);
    uart.save(writer);
  }
  std::vector<uint8_t> content() const {
    return {writer.content().begin(), writer.content().end()};
  }
  SnapshotWriter writer;
};

TEST_F(UartSnapshot, GivesBackTheSameDevice) {
  FakeBackend other_backend;
  Uart16550 loaded(other_backend, nullptr);
  SnapshotReader reader(writer.content());
  ASSERT_TRUE(loaded.load(reader).ok());
  SnapshotWriter again;
  loaded.save(again);
  EXPECT_TRUE(std::ranges::equal(writer.content(), again.content()));
  for (const uint16_t offset : {kIer, kLcr, kMcr, kScr, kIir, kLsr, kIir, kData, kMsr, kIir})
    EXPECT_EQ(loaded.port_read(offset), in(offset)) << offset;
}

TEST_F(UartSnapshot, EveryPrefixIsRefusedAndChangesNothing) {
  const auto whole = content();
  for (size_t length = 0; length < whole.size(); ++length) {
    Uart16550 loaded(backend, nullptr);
    SnapshotReader reader{std::span(whole).first(length)};
    ASSERT_FALSE(loaded.load(reader).ok()) << length;
    EXPECT_EQ(loaded.port_read(kLcr), 0);
  }
}

TEST_F(UartSnapshot, AnyByteMayBeDamaged) {
  const auto whole = content();
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int value = 0; value < 256; value += 5) {
      auto damaged = whole;
      damaged[at] = static_cast<uint8_t>(value);
      Uart16550 loaded(backend, nullptr);
      SnapshotReader reader(damaged);
      if (!loaded.load(reader).ok()) continue;
      for (uint16_t offset = 0; offset < 8; ++offset) loaded.port_read(offset);
      for (int i = 0; i < 20; ++i) loaded.port_read(kData);
    }
  }
}

}  // namespace
}  // namespace trapline
