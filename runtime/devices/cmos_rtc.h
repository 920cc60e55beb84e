// The MC146818 clock of a PC with its 128 bytes of CMOS memory, at ports 0x70 and 0x71.
//
// The time of day is the machine's clock plus an offset that the guest changes by setting the
// time. While the guest holds the time (register B's SET, or the divider in reset), the registers
// are what it wrote. Events are found when somebody looks; a timer is armed only while an interrupt
// is enabled and has not come yet. So a guest that was away, or does not answer, gets one interrupt
// for all that it missed.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "runtime/devices/clock.h"
#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class CmosRtc : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0x70, kPorts = 2;
  static constexpr size_t kBytes = 128;

  CmosRtc(EventQueue& queue, InterruptLine& irq8);

  /// What the firmware would leave in CMOS about the RAM below 4 GiB.
  void set_memory(uint64_t bytes);
  /// Bit 7 of what was last written to port 0x70.
  bool nmi_masked() const;

  uint8_t port_read(uint16_t offset) override;
  void port_write(uint16_t offset, uint8_t value) override;

  /// As the RESET pin does: no interrupts; the time and the CMOS stay.
  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  struct State {
    uint8_t index = 0;
    /// Registers A to D, alarm and CMOS; the time only while it is held.
    std::array<uint8_t, kBytes> bytes{};
    int64_t offset_seconds = 0;
    int64_t offset_nanoseconds = 0;  ///< Of the divider chain: below a second.
    uint8_t weekday_shift = 0;       ///< The day of the week is a counter of its own.
    int64_t settled = 0;             ///< The chain's time up to which events have been found.
  };

  int64_t chain() const;
  int64_t seconds() const;
  bool divider_reset() const;
  bool held() const;
  bool binary() const;
  uint8_t encode(int64_t value) const;
  int64_t decode(uint8_t value) const;
  uint8_t encode_hour(int64_t hour) const;
  int64_t decode_hour(uint8_t value) const;

  uint8_t read_register(uint8_t index);
  void write_register(uint8_t index, uint8_t value);
  uint8_t read_flags();
  bool update_in_progress() const;
  void write_control(uint8_t index, uint8_t value);
  void write_time(uint8_t index, uint8_t value);
  void store_time();
  void take_time();

  std::optional<int64_t> next_alarm(int64_t from) const;
  uint64_t period() const;
  void settle();
  void update();
  void arm();

  EventQueue& queue_;
  InterruptLine& irq8_;
  Timer timer_;
  bool irq_level_ = false;
  State state_;
};

}  // namespace trapline
