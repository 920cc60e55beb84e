// ACPI power management as PIIX4 has it: the PM1a event and control registers, the power management
// timer, general-purpose events and the ports by which a guest takes it all over from firmware.
//
// The timer counts 3.579545 MHz in 24 bits, exactly from the clock. Its carry status is computed
// when somebody looks, and an event is armed only while the carry may interrupt.
//
// The only sleep that works is soft-off (S5, type 0). A guest that asks for another one wakes up at
// once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/devices/clock.h"
#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class AcpiPm : public Device, public PortDevice {
 public:
  // Where the registers are when there is no firmware: what our ACPI tables tell guests.
  static constexpr uint16_t kPort = 0x600, kPorts = 64;
  static constexpr uint16_t kEvents = 0x00, kControl = 0x04, kTimer = 0x08, kGeneral = 0x0c;
  static constexpr uint16_t kSmiPort = 0xb2, kSmiPorts = 2;
  static constexpr uint8_t kAcpiEnable = 0xf1, kAcpiDisable = 0xf0;
  static constexpr uint8_t kSoftOff = 0;  ///< SLP_TYP of S5.
  static constexpr uint32_t kTimerHz = 3'579'545;

  /// `sci` is ISA IRQ 9, a level. `on_power_off` should make the machine stop.
  AcpiPm(EventQueue& queue, InterruptLine& sci, std::function<void()> on_power_off);

  /// The ports at kSmiPort.
  PortDevice& smi_command() { return smi_command_; }

  void press_power_button();
  /// General-purpose event 0 to 15.
  void raise_general_event(int number);

  uint8_t port_read(uint16_t offset) override;
  void port_write(uint16_t offset, uint8_t value) override;
  uint32_t port_read_wide(uint16_t offset, uint32_t size) override;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  /// A command byte that would raise a system management interrupt, and a byte that is only kept.
  /// There is no such mode here: the two commands of ACPI take effect at once.
  class SmiCommand : public PortDevice {
   public:
    explicit SmiCommand(AcpiPm& pm) : pm_(pm) {}
    uint8_t port_read(uint16_t offset) override;
    void port_write(uint16_t offset, uint8_t value) override;

   private:
    AcpiPm& pm_;
  };

  struct State {
    uint16_t status = 0;  ///< Without the timer's carry.
    uint16_t enable = 0;
    uint16_t control = 0;
    uint16_t general_status = 0;
    uint16_t general_enable = 0;
    uint64_t carries_seen = 0;  ///< Changes of the timer's top bit up to which status is cleared.
    uint8_t command = 0;
    uint8_t command_status = 0;
  };

  uint64_t ticks() const;
  uint64_t carries() const;
  uint16_t status() const;
  void command(uint8_t value);
  void write_status(uint16_t value);
  void write_control(uint16_t value);
  uint16_t register_value(uint16_t offset) const;
  void update();

  EventQueue& queue_;
  InterruptLine& sci_;
  std::function<void()> on_power_off_;
  SmiCommand smi_command_{*this};
  Timer carry_timer_;
  State state_;
  bool sci_level_ = false;
};

}  // namespace trapline
