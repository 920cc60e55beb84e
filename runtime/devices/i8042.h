// The keyboard controller of a PS/2: two cables (keyboard and mouse), the A20 gate and the reset
// line. Answers of its own are in the output buffer at once; bytes from a cable need the time
// between them that a slow cable gives, so that a guest that reads a byte twice gets it twice.
//
// There may be no firmware, so it comes out of reset as one leaves it: keyboard on, translation on.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/devices/clock.h"
#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"
#include "runtime/devices/ps2_device.h"
#include "runtime/devices/scan_codes.h"

namespace trapline {

class I8042 : public Device {
 public:
  static constexpr uint16_t kData = 0x60, kCommand = 0x64;

  /// Where it leads. The callbacks come in the middle of a port write: they may do no more than
  /// remember that a reset is wanted, or change what addresses mean from the next instruction on.
  struct Wires {
    InterruptLine& irq1;
    InterruptLine& irq12;
    std::function<void(bool)> a20;  ///< The gate's new state, when it changes and after a load().
    std::function<void()> reset;
  };

  /// The two devices are saved and reset by their owner, not by the controller. No key may be
  /// pressed on them when it is gone.
  I8042(EventQueue& queue, Ps2Device& keyboard, Ps2Device& mouse, Wires wires);

  PortDevice& data_port() { return data_port_; }
  PortDevice& command_port() { return command_port_; }
  /// Claims both.
  void connect(PortBus& bus);

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  enum class From : uint8_t { kController, kKeyboard, kMouse };
  struct Byte {
    uint8_t value = 0;
    From from = From::kController;
  };
  struct State {
    std::array<uint8_t, 32> memory;  ///< The first is the command byte.
    uint8_t output_port;
    uint8_t waiting_command = 0;  ///< Whose parameter the next data write is; 0: none.
    bool last_was_command = false;
    bool full = false;  ///< The output buffer, which shows its byte also when it was read.
    Byte output;
    std::vector<Byte> answers;  ///< Waiting for the output buffer.
    bool release = false;       ///< The translation has seen an F0.
    State();
  };

  class DataPort : public PortDevice {
   public:
    explicit DataPort(I8042& controller) : controller_(controller) {}
    uint8_t port_read(uint16_t) override { return controller_.read_data(); }
    bool changes_by_events_only(uint16_t) const override { return !controller_.state_.full; }
    void port_write(uint16_t, uint8_t value) override { controller_.write_data(value); }

   private:
    I8042& controller_;
  };
  class CommandPort : public PortDevice {
   public:
    explicit CommandPort(I8042& controller) : controller_(controller) {}
    uint8_t port_read(uint16_t) override { return controller_.status(); }
    bool changes_by_events_only(uint16_t) const override { return true; }
    void port_write(uint16_t, uint8_t value) override { controller_.command(value); }

   private:
    I8042& controller_;
  };

  uint8_t& command_byte() { return state_.memory[0]; }
  uint8_t command_byte() const { return state_.memory[0]; }

  uint8_t status() const;
  uint8_t read_data();
  void write_data(uint8_t value);
  void command(uint8_t value);
  void simple_command(uint8_t value);
  void parameter(uint8_t command, uint8_t value);
  void answer(uint8_t value, From from = From::kController);
  void write_output_port(uint8_t value);
  uint8_t read_output_port() const;

  void fill_output();
  std::optional<Byte> next_byte();
  std::optional<Byte> next_key();
  void update_lines();

  Ps2Device& keyboard_;
  Ps2Device& mouse_;
  Wires wires_;
  EventQueue& queue_;
  Timer next_from_cable_;  ///< Armed: nothing is taken from a cable before.
  bool irq1_level_ = false;
  bool irq12_level_ = false;
  State state_;
  DataPort data_port_{*this};
  CommandPort command_port_{*this};
};

}  // namespace trapline
