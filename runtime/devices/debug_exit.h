// QEMU's isa-debug-exit: a guest ends its machine by a write to port 0xF4, with the status
// (value << 1) | 1, so that it can never be taken for success of the program itself.
#pragma once

#include <functional>
#include <optional>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class DebugExit : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0xf4;
  static constexpr uint16_t kPorts = 4;

  /// `on_exit` is called at the first write; it should make the machine stop.
  explicit DebugExit(std::function<void()> on_exit) : on_exit_(std::move(on_exit)) {}

  /// The low eight bits of (value << 1) | 1, since a process has no more; nothing before a write.
  std::optional<uint8_t> status() const { return status_; }

  uint8_t port_read(uint16_t) override { return 0; }
  void port_write(uint16_t offset, uint8_t value) override { port_write_wide(offset, 1, value); }
  uint32_t port_read_wide(uint16_t, uint32_t) override { return 0; }
  void port_write_wide(uint16_t offset, uint32_t size, uint32_t value) override;

  void reset() override { status_.reset(); }
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  std::function<void()> on_exit_;
  std::optional<uint8_t> status_;
};

}  // namespace trapline
