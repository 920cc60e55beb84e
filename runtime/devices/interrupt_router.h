// The wires of a PC board between what interrupts and the two kinds of interrupt controller.
//
// Each ISA IRQ goes to its pin of the 8259s and to the same pin of the I/O APIC, but for IRQ 0,
// which is on pin 2, and for IRQ 2, the 8259s' own. The four interrupt wires of the PCI slots go to
// pins 16 to 19 of the I/O APIC, and to the ISA IRQs of the 8259s that PIIX3's PIRQ registers name.
// A PCI wire that shares an IRQ with others asserts it as long as one of them does.
//
// It holds nothing that a snapshot needs: after a load, devices drive their wires again, and PIIX3
// its routes.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "runtime/devices/device.h"

namespace trapline {

class InterruptRouter {
 public:
  static constexpr int kIsaIrqs = 16;
  static constexpr int kIoApicPins = 24;
  static constexpr int kPirqs = 4;
  static constexpr int kFirstPirqPin = 16;  ///< Of the I/O APIC.
  static constexpr int kSlots = 32;
  /// A PIRQ register that leads nowhere.
  static constexpr uint8_t kRouteOff = 0x80;

  /// The controllers' pins; nullptr where there is none.
  struct Controllers {
    std::array<InterruptLine*, kIsaIrqs> pic{};
    std::array<InterruptLine*, kIoApicPins> io_apic{};
  };

  explicit InterruptRouter(const Controllers& controllers);
  InterruptRouter(const InterruptRouter&) = delete;
  InterruptRouter& operator=(const InterruptRouter&) = delete;

  /// For the one device of that IRQ.
  InterruptLine& isa(int irq);
  /// For a PCI function: its device number, and 0 to 3 for INTA# to INTD#.
  InterruptLine& pci(int device, int pin);

  /// What PIIX3's register for PIRQA (0) to PIRQD (3) says. Routes to the IRQs that the chip
  /// reserves lead nowhere.
  void route(int pirq, uint8_t value);

  /// Which PIRQ the pin of a device is wired to: one further for each device, from PIRQA for pin A
  /// of device 1.
  static constexpr int pirq_of(int device, int pin) { return (device + pin + kPirqs - 1) % kPirqs; }

 private:
  /// A wire with an index, of one of the two kinds.
  class Wire : public InterruptLine {
   public:
    using Changed = void (InterruptRouter::*)(int index, bool asserted);
    Wire(InterruptRouter& router, Changed changed, int index)
        : router_(router), changed_(changed), index_(index) {}
    void set(bool asserted) override {
      if (asserted == asserted_) return;
      asserted_ = asserted;
      (router_.*changed_)(index_, asserted);
    }

   private:
    InterruptRouter& router_;
    Changed changed_;
    int index_;
    bool asserted_ = false;
  };

  void isa_changed(int irq, bool asserted);
  void slot_changed(int index, bool asserted);
  void drive_irq(int irq, int by);

  Controllers controllers_;
  std::deque<Wire> isa_;
  std::deque<Wire> slots_;                    ///< By device * 4 + pin.
  std::array<int, kPirqs> slots_asserted_{};  ///< How many, by PIRQ.
  std::array<uint8_t, kPirqs> routes_;
  std::array<int, kIsaIrqs> asserted_{};  ///< How many wires assert each 8259 pin.
};

}  // namespace trapline
