#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "runtime/devices/pci_bus.h"
#include "runtime/devices/pci_chipset.h"
#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

struct ResetControl : PortDevice {
  uint8_t port_read(uint16_t offset) override { return offset == 0 ? 0x24 : 0; }
  void port_write(uint16_t offset, uint8_t value) override {
    if (offset == 0) written.push_back(value);
  }
  std::vector<uint8_t> written;
};

class Pci : public ::testing::Test {
 protected:
  Pci() {
    for (size_t i = 0; i < 16; ++i) controllers.pic[i] = &pic[i];
    router.emplace(controllers);
    isa.emplace(*router);
    bus.add(HostBridge::kDevice, HostBridge::kFunction, host);
    bus.add(IsaBridge::kDevice, IsaBridge::kFunction, *isa);
    bus.add(PowerFunction::kDevice, PowerFunction::kFunction, power);
    ports.claim(PciBus::kPort, PciBus::kPorts, bus);
  }

  void select(int device, int function, uint8_t offset) {
    ports.out(0xcf8, 4,
              0x80000000u | static_cast<uint32_t>(device) << 11 |
                  static_cast<uint32_t>(function) << 8 | (offset & 0xfcu));
  }
  uint32_t in(int device, int function, uint8_t offset, uint32_t size = 4) {
    select(device, function, offset);
    return ports.in(static_cast<uint16_t>(0xcfc + offset % 4), size);
  }
  void out(int device, int function, uint8_t offset, uint32_t value, uint32_t size = 4) {
    select(device, function, offset);
    ports.out(static_cast<uint16_t>(0xcfc + offset % 4), size, value);
  }
  std::vector<Device*> devices() { return {&bus, &host, &*isa, &power}; }
  std::vector<uint8_t> saved() {
    SnapshotWriter out;
    for (Device* device : devices()) device->save(out);
    return {out.content().begin(), out.content().end()};
  }
  Result<void> load(const std::vector<uint8_t>& content) {
    SnapshotReader reader(content);
    for (Device* device : devices())
      if (auto loaded = device->load(reader); !loaded.ok()) return loaded;
    return {};
  }

  std::array<FakeLine, 16> pic;
  InterruptRouter::Controllers controllers;
  std::optional<InterruptRouter> router;
  ResetControl reset_control;
  PciBus bus{&reset_control};
  HostBridge host;
  std::optional<IsaBridge> isa;
  std::vector<std::optional<uint16_t>> decoded;
  PowerFunction power{[this](std::optional<uint16_t> base) { decoded.push_back(base); }};
  PortBus ports;
};

TEST_F(Pci, TheAddressRegisterTakesWholeAccessesOnly) {
  ports.out(0xcf8, 4, 0xffffffff);
  EXPECT_EQ(ports.in(0xcf8, 4), 0x80fffffcu);
  ports.out(0xcfb, 1, 0);
  ports.out(0xcf8, 2, 0);
  EXPECT_EQ(ports.in(0xcf8, 4), 0x80fffffcu);
  EXPECT_EQ(ports.in(0xcf8, 1), 0xffu);
  EXPECT_EQ(ports.in(0xcfa, 2), 0xffffu);
}

TEST_F(Pci, SingleBytesAtCf9AreTheResetControls) {
  reset_control.written.clear();
  ports.out(0xcf9, 1, 0x06);
  EXPECT_EQ(reset_control.written, std::vector<uint8_t>{0x06});
  EXPECT_EQ(ports.in(0xcf9, 1), 0x24u);
  ports.out(0xcf8, 4, 0x80000600);
  EXPECT_EQ(reset_control.written.size(), 1u);
  PciBus alone;
  EXPECT_EQ(alone.port_read(1), 0xff);
  alone.port_write(1, 6);
}

TEST_F(Pci, FindsTheChips) {
  std::vector<uint32_t> found;
  for (int device = 0; device < 32; ++device)
    for (int function = 0; function < 8; ++function)
      if (const uint32_t id = in(device, function, 0); id != 0xffffffff) found.push_back(id);
  EXPECT_EQ(found, (std::vector<uint32_t>{0x12378086, 0x70008086, 0x71138086}));
  EXPECT_EQ(in(0, 0, 0x08), 0x06000002u);
  EXPECT_EQ(in(1, 0, 0x08), 0x06010000u);
  EXPECT_EQ(in(1, 3, 0x08), 0x06800003u);
  EXPECT_EQ(in(1, 0, 0x0e, 1), 0x80u);
  EXPECT_EQ(in(1, 3, 0x3d, 1), 1u);
}

TEST_F(Pci, NothingAnswersWithoutTheEnableBitOrOnOtherBuses) {
  ports.out(0xcf8, 4, 0);
  EXPECT_EQ(ports.in(0xcfc, 4), 0xffffffffu);
  ports.out(0xcf8, 4, 0x80010000);
  EXPECT_EQ(ports.in(0xcfc, 4), 0xffffffffu);
  EXPECT_EQ(ports.in(0xcfd, 1), 0xffu);
  ports.out(0xcfc, 4, 0);
  EXPECT_EQ(in(0, 0, 0), 0x12378086u);
}

TEST_F(Pci, TheWindowTakesBytesAndWords) {
  EXPECT_EQ(in(0, 0, 0x00, 2), 0x8086u);
  EXPECT_EQ(in(0, 0, 0x02, 2), 0x1237u);
  EXPECT_EQ(in(0, 0, 0x03, 1), 0x12u);
  out(1, 3, 0x44, 0x11223344);
  out(1, 3, 0x45, 0xaa, 1);
  out(1, 3, 0x46, 0xbbcc, 2);
  EXPECT_EQ(in(1, 3, 0x44), 0xbbccaa44u);
  select(1, 3, 0x44);
  EXPECT_EQ(ports.in(0xcfd, 2), 0xccaau);
  EXPECT_EQ(ports.in(0xcff, 2), 0xffbbu) << "across the end";
  select(0, 0, 0xfc);
  EXPECT_EQ(ports.in(0xcff, 4), 0xffffff00u);
}

TEST_F(Pci, IdentitiesCannotBeWritten) {
  for (uint8_t offset = 0; offset < 0x40; offset += 4) out(0, 0, offset, 0xffffffff);
  EXPECT_EQ(in(0, 0, 0), 0x12378086u);
  EXPECT_EQ(in(0, 0, 4), 0x02800146u);
  EXPECT_EQ(in(0, 0, 0x10), 0u);
  EXPECT_EQ(in(0, 0, 0x3c), 0u);
}

TEST_F(Pci, PamRegistersSayWhoAnswers) {
  int changes = 0;
  host.on_change([&] { ++changes; });
  EXPECT_EQ(host.shadow(0xf0000), HostBridge::Shadow());
  out(0, 0, 0x59, 0x30, 1);
  EXPECT_EQ(host.shadow(0xfffff), (HostBridge::Shadow{true, true}));
  EXPECT_EQ(host.shadow(0xeffff), HostBridge::Shadow());
  out(0, 0, 0x5a, 0x21, 1);
  EXPECT_EQ(host.shadow(0xc0000), (HostBridge::Shadow{true, false}));
  EXPECT_EQ(host.shadow(0xc4000), (HostBridge::Shadow{false, true}));
  out(0, 0, 0x5f, 0x10, 1);
  EXPECT_EQ(host.shadow(0xec000), (HostBridge::Shadow{true, false}));
  EXPECT_EQ(changes, 3);
  out(0, 0, 0x5f, 0x10, 1);
  EXPECT_EQ(changes, 3);
  out(0, 0, 0x72, 0xff, 1);
  EXPECT_EQ(host.smram(), 0x7a);
  EXPECT_EQ(changes, 4);
}

TEST_F(Pci, PirqRegistersSteerTheRouter) {
  EXPECT_EQ(in(1, 0, 0x60), 0x80808080u);
  router->pci(1, 1).set(true);
  out(1, 0, 0x61, 0x0b, 1);
  EXPECT_TRUE(pic[11].level);
  isa->reset();
  EXPECT_FALSE(pic[11].level);
  isa->program_as_firmware();
  EXPECT_TRUE(pic[11].level);
  EXPECT_EQ(in(1, 0, 0x60), 0x0b0a0b0au);
}

TEST_F(Pci, ThePowerFunctionMovesItsPorts) {
  using Bases = std::vector<std::optional<uint16_t>>;
  EXPECT_EQ(in(1, 3, 0x40), 1u);
  power.program_as_firmware(0x600);
  EXPECT_EQ(decoded, Bases{0x600});
  EXPECT_EQ(in(1, 3, 0x40), 0x601u);
  EXPECT_EQ(in(1, 3, 0x3c, 1), 9u);
  out(1, 3, 0x40, 0xb000);
  out(1, 3, 0x80, 0, 1);
  EXPECT_EQ(decoded, (Bases{0x600, 0xb000, std::nullopt}));
  out(1, 3, 0x90, 0xffff);
  EXPECT_EQ(in(1, 3, 0x90), 0xfff1u);
  power.reset();
  EXPECT_EQ(in(1, 3, 0x40), 1u);
}

TEST_F(Pci, SnapshotsAreComplete) {
  power.program_as_firmware(0x600);
  isa->program_as_firmware();
  out(0, 0, 0x59, 0x30, 1);
  const auto content = saved();
  for (Device* device : devices()) device->reset();
  router->pci(1, 0).set(true);
  EXPECT_FALSE(pic[10].level);
  ASSERT_TRUE(load(content).ok());
  EXPECT_EQ(saved(), content);
  EXPECT_TRUE(pic[10].level);
  EXPECT_EQ(decoded.back(), 0x600);
}

TEST_F(Pci, RefusesSnapshotsOfOtherChips) {
  SnapshotWriter out;
  std::vector<uint8_t> config(256);
  out.begin("pci-host-bridge", 1);
  out.bytes(config);
  out.end();
  SnapshotReader reader(out.content());
  EXPECT_FALSE(host.load(reader).ok());
  EXPECT_EQ(in(0, 0, 0), 0x12378086u);
  SnapshotWriter brief;
  brief.begin("pci-host-bridge", 1);
  brief.bytes(std::span(config).first(10));
  brief.end();
  SnapshotReader brief_reader(brief.content());
  EXPECT_FALSE(host.load(brief_reader).ok());
}

TEST_F(Pci, SurvivesRandomUse) {
  std::mt19937 random(0xcf8);
  constexpr std::array<uint32_t, 3> kSizes = {1, 2, 4};
  for (int i = 0; i < 100'000; ++i) {
    const uint32_t size = kSizes[random() % 3];
    const auto port = static_cast<uint16_t>(0xcf5 + random() % 14);
    switch (random() % 5) {
      case 0:
        ports.in(port, size);
        break;
      case 1:
        ports.out(port, size, random());
        break;
      case 2:
        router->pci(static_cast<int>(random() % 32), static_cast<int>(random() % 4))
            .set(random() % 2);
        break;
      default:
        select(static_cast<int>(random() % 2), random() % 2 ? 3 : 0,
               static_cast<uint8_t>(random()));
        ports.out(static_cast<uint16_t>(0xcfc + random() % 4), size, random());
        break;
    }
    if (i % 1000 != 0) continue;
    const auto content = saved();
    ASSERT_TRUE(load(content).ok());
    ASSERT_EQ(saved(), content);
  }
  EXPECT_EQ(in(0, 0, 0), 0x12378086u);
}

}  // namespace
}  // namespace trapline
