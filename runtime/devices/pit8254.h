// The 8254 timer of a PC and the port 0x61 beside it. Channel 0 drives IRQ 0; channel 1 once
// refreshed memory and is free; channel 2 feeds the speaker (which is silent here) and is read and
// gated through port 0x61.
//
// The IRQ line carries the edges of channel 0's OUT, and stays high between them even where OUT
// is low for half of the time: a guest that keeps interrupts off for longer loses no edge. A
// guest that was not run for several periods gets one edge for all of them, and the next one in
// time. Counters always follow the clock.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/devices/clock.h"
#include "runtime/devices/device.h"
#include "runtime/devices/pit_channel.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class Pit8254 : public Device {
 public:
  static constexpr uint16_t kCounters = 0x40, kCounterPorts = 4, kSystemControl = 0x61;
  static constexpr uint64_t kHertz = 1'193'182;

  Pit8254(EventQueue& queue, InterruptLine& irq0);

  PortDevice& counter_ports() { return counter_ports_; }
  PortDevice& system_control_port() { return system_control_port_; }
  /// Claims both.
  void connect(PortBus& bus);

  /// Says that the CPU has taken an interrupt: if edges are overdue, the next one comes at once, so
  /// that the guest's handler runs for it before anything else does.
  void interrupt_taken();

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  using Tick = PitChannel::Tick;
  static constexpr size_t kChannels = 3;

  class CounterPorts : public PortDevice {
   public:
    explicit CounterPorts(Pit8254& pit) : pit_(pit) {}
    uint8_t port_read(uint16_t offset) override;
    void port_write(uint16_t offset, uint8_t value) override;

   private:
    Pit8254& pit_;
  };
  class SystemControlPort : public PortDevice {
   public:
    explicit SystemControlPort(Pit8254& pit) : pit_(pit) {}
    uint8_t port_read(uint16_t) override { return pit_.read_system_control(); }
    void port_write(uint16_t, uint8_t value) override { pit_.write_system_control(value); }

   private:
    Pit8254& pit_;
  };

  Tick now() const;
  void write_control(uint8_t value);
  void read_back(uint8_t value);
  uint8_t read_system_control();
  void write_system_control(uint8_t value);
  void set_irq(bool level);
  void follow_channel_0();
  void arm(Tick after);
  void on_rise();

  EventQueue& queue_;
  InterruptLine& irq0_;
  Timer timer_;
  std::array<PitChannel, kChannels> channels_;
  uint8_t system_control_ = 0;  ///< The bits that can be written.
  bool irq_level_ = false;
  Tick rise_ = 0;  ///< Of channel 0: the edge that the timer is armed for.
  CounterPorts counter_ports_{*this};
  SystemControlPort system_control_port_{*this};
};

}  // namespace trapline
