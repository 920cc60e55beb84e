// The coprocessor's error line on a PC: IRQ 13 is held from an x87 error until the guest writes to
// port 0xF0 or 0xF1. From then on the CPU ignores the error (IGNNE#), until it is cleared.
#pragma once

#include <functional>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class CoprocessorError : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0xf0, kPorts = 2;

  /// `ignne` is told when IGNNE# changes and after a load().
  CoprocessorError(InterruptLine& irq13, std::function<void(bool)> ignne)
      : irq13_(irq13), ignne_(std::move(ignne)) {}

  void raise() { hold(true); }
  void clear();  ///< The CPU has no error any more.

  uint8_t port_read(uint16_t) override { return 0xff; }
  void port_write(uint16_t, uint8_t) override;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  void hold(bool held);
  void ignore(bool ignored);

  InterruptLine& irq13_;
  std::function<void(bool)> ignne_;
  bool held_ = false;
  bool ignored_ = false;
};

}  // namespace trapline
