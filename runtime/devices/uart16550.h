// The 16550A UART, as a PC has it on COM1. Bytes take no time: what is written to the transmitter
// is on the backend at once, and input that waits in the backend is in the FIFO as soon as the
// guest looks. Where a real chip would wait four character times to report a FIFO that is not full
// enough to interrupt, this one reports at once.
//
// As on a PC, the interrupt reaches the controller only while MCR.OUT2 is set and loopback is off.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class Uart16550 : public Device, public PortDevice {
 public:
  static constexpr uint16_t kCom1 = 0x3f8;
  static constexpr uint16_t kPorts = 8;

  /// `line` may be nullptr: connected to nothing.
  Uart16550(CharacterBackend& backend, InterruptLine* line);

  uint8_t port_read(uint16_t offset) override;
  void port_write(uint16_t offset, uint8_t value) override;
  bool changes_by_events_only(uint16_t offset) const override;

  /// Takes input that has come to the backend, for guests that wait for an interrupt.
  void poll();
  /// Whether input that comes would interrupt the guest.
  bool may_interrupt() const;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  static constexpr uint8_t kFifoSize = 16;

  /// Everything that a snapshot holds.
  struct State {
    uint16_t divisor = 12;  ///< 9600 baud; kept for the guest, without effect.
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;  ///< Enable, DMA mode and trigger bits.
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t line_errors = 0;    ///< The sticky bits of LSR.
    uint8_t modem_changes = 0;  ///< The delta bits of MSR.
    uint8_t scratch = 0;
    uint8_t last_received = 0;           ///< What RBR gives when nothing is there.
    bool transmitter_interrupt = false;  ///< THR became empty and nobody has been told yet.
    uint8_t received = 0;                ///< How many bytes of fifo hold input.
    std::array<uint8_t, kFifoSize> fifo{};
  };

  bool fifo_enabled() const;
  bool loopback() const;
  bool divisor_latch() const;
  uint8_t capacity() const { return fifo_enabled() ? kFifoSize : 1; }

  void transmit(uint8_t value);
  void receive(uint8_t value);
  uint8_t read_received();
  uint8_t read_identification();
  uint8_t read_line_status();
  uint8_t read_modem_status();
  void write_interrupt_enable(uint8_t value);
  void write_fifo_control(uint8_t value);
  void write_modem_control(uint8_t value);

  void refill();
  uint8_t modem_inputs() const;
  uint8_t pending_interrupt() const;
  void update_line();

  CharacterBackend& backend_;
  InterruptLine* line_;
  bool line_level_ = false;
  State state_;
};

}  // namespace trapline
