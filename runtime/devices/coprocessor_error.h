// The coprocessor's error line on a PC: IRQ 13 is held from an x87 error until the guest writes to
// port 0xF0 or 0xF1.
#pragma once

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class CoprocessorError : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0xf0, kPorts = 2;

  explicit CoprocessorError(InterruptLine& irq13) : irq13_(irq13) {}

  void raise() { set(true); }

  uint8_t port_read(uint16_t) override { return 0xff; }
  void port_write(uint16_t, uint8_t) override { set(false); }

  void reset() override { set(false); }
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  void set(bool held);

  InterruptLine& irq13_;
  bool held_ = false;
};

}  // namespace trapline
