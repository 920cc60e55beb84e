// The two 8259As of a PC: the slave's output is the master's input 2. Their edge/level control
// registers (ELCR) are those of the PIIX: IRQ 0, 1, 2, 8 and 13 are always edge-triggered.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/devices/device.h"
#include "runtime/devices/pic8259.h"
#include "runtime/devices/port_bus.h"
#include "vcpu/interrupt_source.h"

namespace trapline {

class Pic8259Pair : public Device, public InterruptSource {
 public:
  static constexpr uint16_t kMaster = 0x20, kSlave = 0xa0, kElcr = 0x4d0;
  static constexpr uint16_t kPorts = 2;  ///< At each of them.
  static constexpr uint8_t kIrqs = 16, kCascade = 2;

  /// `intr` is the CPU's interrupt pin. It is set when it changes, and after each acknowledge()
  /// whether it changed or not.
  explicit Pic8259Pair(InterruptLine& intr);

  /// Good as long as the pair. That of IRQ 2 leads nowhere.
  InterruptLine& line(int irq);
  uint8_t acknowledge() override;

  PortDevice& master_ports() { return master_ports_; }
  PortDevice& slave_ports() { return slave_ports_; }
  PortDevice& elcr_ports() { return elcr_ports_; }
  /// Claims all of them.
  void connect(PortBus& bus);

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  class Input : public InterruptLine {
   public:
    void set(bool asserted) override { pair->set_irq(irq, asserted); }
    Pic8259Pair* pair = nullptr;
    uint8_t irq = 0;
  };
  class ChipPorts : public PortDevice {
   public:
    ChipPorts(Pic8259Pair& pair, Pic8259& chip) : pair_(pair), chip_(chip) {}
    uint8_t port_read(uint16_t offset) override;
    void port_write(uint16_t offset, uint8_t value) override;
    bool changes_by_events_only(uint16_t) const override { return !chip_.polling(); }
    bool is_interrupt_controller() const override { return true; }

   private:
    Pic8259Pair& pair_;
    Pic8259& chip_;
  };
  class ElcrPorts : public PortDevice {
   public:
    explicit ElcrPorts(Pic8259Pair& pair) : pair_(pair) {}
    uint8_t port_read(uint16_t offset) override;
    void port_write(uint16_t offset, uint8_t value) override;

   private:
    Pic8259Pair& pair_;
  };

  void set_irq(uint8_t irq, bool asserted);
  void update();

  InterruptLine& intr_;
  bool announced_ = false;
  Pic8259 master_{1u << kCascade};
  Pic8259 slave_{0};
  std::array<Input, kIrqs> inputs_;
  ChipPorts master_ports_{*this, master_};
  ChipPorts slave_ports_{*this, slave_};
  ElcrPorts elcr_ports_{*this};
};

}  // namespace trapline
