// The chipset's ways to reset the machine and to gate A20: port 0x92 (system control A) and port
// 0xCF9 (reset control).
//
// Port 0xCF9 lies inside PCI's configuration address register, which answers only accesses of 4
// bytes: who claims 0xCF8 to 0xCFB passes byte accesses of 0xCF9 on to reset_control().
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class SystemControl : public Device {
 public:
  static constexpr uint16_t kPortA = 0x92, kResetControl = 0xcf9;

  /// The callbacks come in the middle of a port write: `reset` may do no more than remember that
  /// one is wanted. On a PC, A20 is open when either this gate or the keyboard controller's is;
  /// this one is shut after a reset. `a20` is called when it changes, and after a load().
  SystemControl(std::function<void(bool)> a20, std::function<void()> reset);

  PortDevice& port_a() { return port_a_; }
  PortDevice& reset_control() { return reset_control_; }

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  class PortA : public PortDevice {
   public:
    explicit PortA(SystemControl& control) : control_(control) {}
    uint8_t port_read(uint16_t) override { return control_.port_a_value_; }
    void port_write(uint16_t, uint8_t value) override { control_.write_port_a(value); }

   private:
    SystemControl& control_;
  };
  class ResetControl : public PortDevice {
   public:
    explicit ResetControl(SystemControl& control) : control_(control) {}
    uint8_t port_read(uint16_t) override { return control_.reset_control_value_; }
    void port_write(uint16_t, uint8_t value) override { control_.write_reset_control(value); }

   private:
    SystemControl& control_;
  };

  void write_port_a(uint8_t value);
  void write_reset_control(uint8_t value);

  std::function<void(bool)> on_a20_;
  std::function<void()> on_reset_;
  uint8_t port_a_value_ = 0;
  uint8_t reset_control_value_ = 0;
  PortA port_a_{*this};
  ResetControl reset_control_{*this};
};

}  // namespace trapline
