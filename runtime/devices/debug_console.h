// The debug console of Bochs: bytes written to port 0xE9 appear on the host. Reading the port gives
// 0xE9, by which guests find out that it is there. Firmware made for virtual machines looks for it
// at port 0x402.
#pragma once

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class DebugConsole : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0xe9;
  static constexpr uint16_t kFirmwarePort = 0x402;
  static constexpr uint16_t kPorts = 1;

  explicit DebugConsole(CharacterBackend& backend) : backend_(backend) {}

  uint8_t port_read(uint16_t) override { return 0xe9; }
  bool changes_by_events_only(uint16_t) const override { return true; }
  void port_write(uint16_t, uint8_t value) override { backend_.write(value); }

  void reset() override {}
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  CharacterBackend& backend_;
};

}  // namespace trapline
