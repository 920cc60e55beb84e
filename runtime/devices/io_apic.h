// The 82093AA I/O APIC: 24 pins whose interrupts go to local APICs as a table says.
//
// A pin is asserted when its device asks for an interrupt, whatever the wire's voltage: the
// polarity bits are kept, and change nothing. Edges that come while a pin is masked are lost, as in
// the chip.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "runtime/devices/apic_bus.h"
#include "runtime/devices/device.h"
#include "shadowmmu/physical_memory.h"

namespace trapline {

class IoApic : public Device, public MmioHandler {
 public:
  static constexpr Physical kAddress{0xfec00000};
  static constexpr uint64_t kBytes = kPageSize;
  static constexpr int kPins = 24;

  explicit IoApic(ApicBus& bus);

  InterruptLine& line(int pin) { return pins_[static_cast<size_t>(pin)]; }
  /// The guest has finished with a level-triggered vector.
  void end_of(uint8_t vector);

  uint64_t mmio_read(Physical address, uint32_t size) override;
  void mmio_write(Physical address, uint32_t size, uint64_t value) override;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  class Pin : public InterruptLine {
   public:
    Pin(IoApic& chip, uint32_t number) : chip_(chip), number_(number) {}
    void set(bool asserted) override { chip_.pin_changed(number_, asserted); }

   private:
    IoApic& chip_;
    uint32_t number_;
  };

  struct State {
    uint8_t selected = 0;
    uint8_t id = 0;
    std::array<uint64_t, kPins> table{};
    uint32_t asserted = 0;  ///< A bit for each pin.
  };
  static State reset_state();

  template <uint32_t... Numbers>
  IoApic(ApicBus& bus, std::integer_sequence<uint32_t, Numbers...>)
      : bus_(bus), pins_{Pin(*this, Numbers)...}, state_(reset_state()) {}

  uint32_t read_selected() const;
  void write_selected(uint32_t value);
  void write_entry(uint32_t pin, uint64_t entry);
  void pin_changed(uint32_t pin, bool asserted);
  /// Sends a level-triggered pin's interrupt when it is asserted and none is on its way.
  void offer_level(uint32_t pin);
  bool send(uint64_t entry);

  ApicBus& bus_;
  std::array<Pin, kPins> pins_;
  State state_;
};

}  // namespace trapline
