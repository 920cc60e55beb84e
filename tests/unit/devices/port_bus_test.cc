#include "runtime/devices/port_bus.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/devices/debug_console.h"
#include "runtime/devices/debug_exit.h"
#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

/// Answers with its offsets and notes what is done to it.
class Recorder : public PortDevice {
 public:
  uint8_t port_read(uint16_t offset) override { return static_cast<uint8_t>(0x40 + offset); }
  void port_write(uint16_t offset, uint8_t value) override {
    log += std::to_string(offset) + "=" + std::to_string(value) + " ";
  }
  std::string log;
};

TEST(PortBus, NobodyAnswersWithAllOnes) {
  PortBus bus;
  EXPECT_EQ(bus.in(0x80, 1), 0xffu);
  EXPECT_EQ(bus.in(0x80, 2), 0xffffu);
  EXPECT_EQ(bus.in(0x80, 4), 0xffffffffu);
  EXPECT_EQ(bus.in(0xffff, 4), 0xffffffffu);
  bus.out(0xffff, 4, 1);
}

TEST(PortBus, AWideAccessIsOneAccessPerByteForAByteDevice) {
  PortBus bus;
  Recorder device;
  bus.claim(0x300, 4, device);
  EXPECT_EQ(bus.in(0x301, 1), 0x41u);
  EXPECT_EQ(bus.in(0x300, 2), 0x4140u);
  EXPECT_EQ(bus.in(0x300, 4), 0x43424140u);
  bus.out(0x302, 2, 0x0201);
  EXPECT_EQ(device.log, "2=1 3=2 ");
}

TEST(PortBus, AnAccessAcrossTheEndsOfADeviceReachesItsPart) {
  PortBus bus;
  Recorder device;
  bus.claim(0x300, 1, device);
  EXPECT_EQ(bus.in(0x2ff, 4), 0xffff40ffu);  // Both ends are nobody's, the middle is not.
  EXPECT_EQ(bus.in(0x2ff, 2), 0x40ffu);
  EXPECT_EQ(bus.in(0x300, 2), 0xff40u);
  bus.out(0x2ff, 4, 0x44332211);
  EXPECT_EQ(device.log, "0=34 ");
}

TEST(PortBus, NeighboursStayApart) {
  PortBus bus;
  Recorder low, high;
  bus.claim(0x10, 2, low);
  bus.claim(0x12, 2, high);
  EXPECT_EQ(bus.in(0x11, 2), 0x4041u);
  bus.out(0x10, 4, 0x04030201);
  EXPECT_EQ(low.log, "0=1 1=2 ");
  EXPECT_EQ(high.log, "0=3 1=4 ");
}

TEST(PortBus, ReleasedPortsAreNobodysAndCanBeClaimedAgain) {
  PortBus bus;
  Recorder first, second;
  bus.claim(0x300, 4, first);
  EXPECT_FALSE(bus.is_free(0x303, 2));
  bus.release(0x300, 4);
  EXPECT_TRUE(bus.is_free(0x300, 4));
  EXPECT_EQ(bus.in(0x300, 4), 0xffffffffu);
  bus.out(0x300, 1, 1);
  for (int i = 0; i < 1000; ++i) {  // The bus has no room for a thousand ranges.
    bus.claim(0x302, 2, second);
    if (i < 999) bus.release(0x302, 2);
  }
  EXPECT_EQ(bus.in(0x300, 4), 0x4140ffffu);
  EXPECT_EQ(first.log, "");
}

TEST(PortBus, PollingIsForPortsThatSayThatItChangesNothing) {
  class Half : public Recorder {
   public:
    bool changes_by_events_only(uint16_t offset) const override { return offset < 2; }
  };
  PortBus bus;
  Recorder device;
  Half half;
  bus.claim(0x300, 1, device);
  bus.claim(0x304, 4, half);
  EXPECT_TRUE(bus.changes_by_events_only(0x2ff, 1));
  EXPECT_FALSE(bus.changes_by_events_only(0x2ff, 2));
  EXPECT_FALSE(bus.changes_by_events_only(0x300, 1));
  EXPECT_TRUE(bus.changes_by_events_only(0x302, 4));
  EXPECT_FALSE(bus.changes_by_events_only(0x304, 4));
  EXPECT_TRUE(bus.changes_by_events_only(0xffff, 4));
}

TEST(DebugConsole, WritesGoOutAndReadsIdentifyIt) {
  PortBus bus;
  FakeBackend backend;
  DebugConsole console(backend);
  bus.claim(DebugConsole::kPort, DebugConsole::kPorts, console);
  bus.out(0xe9, 1, 'h');
  bus.out(0xe9, 1, 'i');
  EXPECT_EQ(backend.output, "hi");
  EXPECT_EQ(bus.in(0xe9, 1), 0xe9u);
}

TEST(DebugExit, TheFirstWriteDecides) {
  PortBus bus;
  int calls = 0;
  DebugExit device([&] { ++calls; });
  bus.claim(DebugExit::kPort, DebugExit::kPorts, device);
  EXPECT_EQ(bus.in(0xf4, 1), 0u);
  EXPECT_FALSE(device.status().has_value());
  bus.out(0xf4, 4, 0x10);
  bus.out(0xf4, 1, 0x11);
  EXPECT_EQ(device.status(), 0x21);
  EXPECT_EQ(calls, 1);
  device.reset();
  EXPECT_FALSE(device.status().has_value());
  bus.out(0xf4, 1, 0xff);
  EXPECT_EQ(device.status(), 0xff);
}

TEST(DebugExit, StateSurvivesASnapshot) {
  DebugExit ended([] {});
  ended.port_write(0, 3);
  SnapshotWriter writer;
  ended.save(writer);
  DebugExit loaded([] {});
  SnapshotReader reader(writer.content());
  ASSERT_TRUE(loaded.load(reader).ok());
  EXPECT_EQ(loaded.status(), 7);
}

TEST(DebugConsole, StateSurvivesASnapshot) {
  FakeBackend backend;
  DebugConsole console(backend);
  SnapshotWriter writer;
  console.save(writer);
  SnapshotReader reader(writer.content());
  EXPECT_TRUE(console.load(reader).ok());
}

}  // namespace
}  // namespace trapline
