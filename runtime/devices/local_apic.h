// The local APIC of a Pentium 4 (an xAPIC, version 0x14 with six LVT entries), of a machine with
// one processor.
//
// Its timer runs at a bus clock of 1 GHz (ApicTimer::kBusHz) over the divisor, and has no
// TSC-deadline mode. Reset leaves it as firmware would, in virtual wire mode: software-disabled,
// with the 8259's interrupts coming in through LINT0 (ExtINT) and NMIs through LINT1. While
// IA32_APIC_BASE disables it, its registers are gone, LINT0 is the processor's INTR and LINT1 its
// NMI. The registers stay at 0xFEE00000 whatever base is written.
//
// Registers are 32 bits wide at multiples of 16. Narrower writes to a register's first byte (an
// 8-bit TPR write, say) count as zero-extended ones; other odd accesses read 0 and write nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/devices/apic_bus.h"
#include "runtime/devices/apic_timer.h"
#include "runtime/devices/device.h"
#include "shadowmmu/physical_memory.h"
#include "vcpu/interrupt_source.h"

namespace trapline {

/// A set of the 256 vectors, as IRR, ISR and TMR hold one.
class VectorSet {
 public:
  void insert(uint8_t vector) { words_[vector / 32] |= 1u << vector % 32; }
  void erase(uint8_t vector) { words_[vector / 32] &= ~(1u << vector % 32); }
  bool contains(uint8_t vector) const { return words_[vector / 32] >> vector % 32 & 1; }
  std::optional<uint8_t> highest() const;
  uint32_t word(uint32_t index) const { return words_[index]; }
  void set_word(uint32_t index, uint32_t value) { words_[index] = value; }

 private:
  std::array<uint32_t, 8> words_{};
};

class LocalApic : public Device, public MmioHandler, public InterruptSource, public ApicBus {
 public:
  static constexpr Physical kAddress{0xfee00000};
  static constexpr uint64_t kBytes = kPageSize;
  static constexpr uint64_t kBaseEnable = 1u << 11;

  /// `intr` is the CPU's INTR; `pic` is asked for the vectors of ExtINT interrupts; `on_nmi` is
  /// called for each NMI.
  LocalApic(EventQueue& queue, InterruptLine& intr, InterruptSource& pic,
            std::function<void()> on_nmi);

  /// The 8259's output, and the board's NMI.
  InterruptLine& lint0() { return lint0_; }
  InterruptLine& lint1() { return lint1_; }

  /// Called with each level-triggered vector that the guest has finished with: IoApic::end_of().
  void on_end_of_level(std::function<void(uint8_t vector)> callback);
  /// Called for an INIT that the guest sends to itself. Without it, those are lost, as start-up
  /// messages are.
  void on_init(std::function<void()> callback) { on_init_ = std::move(callback); }

  /// A fixed interrupt; lost while the APIC is disabled. Returns whether it was taken.
  bool accept(uint8_t vector, bool level);
  bool deliver(const ApicMessage& message) override;

  /// IA32_APIC_BASE. The boot processor bit always reads as set.
  uint64_t base_msr() const { return state_.base; }
  void set_base_msr(uint64_t value);

  uint64_t mmio_read(Physical address, uint32_t size) override;
  void mmio_write(Physical address, uint32_t size, uint64_t value) override;

  /// The spurious vector when what was announced is not deliverable any more.
  uint8_t acknowledge() override;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  enum Entry : uint32_t { kTimer, kThermal, kPerformance, kLint0, kLint1, kError, kEntries };

  /// An input pin that the APIC reacts to.
  class Pin : public InterruptLine {
   public:
    Pin(LocalApic& apic, Entry entry) : apic_(apic), entry_(entry) {}
    void set(bool asserted) override { apic_.pin_changed(entry_, asserted); }

   private:
    LocalApic& apic_;
    Entry entry_;
  };

  /// Everything that a snapshot holds, but for the timer.
  struct State {
    uint64_t base = 0;
    uint32_t id = 0;  ///< As the register: bits 24 to 31.
    uint32_t logical_destination = 0;
    uint32_t destination_format = 0;
    uint32_t spurious = 0;
    uint32_t command_low = 0;
    uint32_t command_high = 0;
    std::array<uint32_t, kEntries> entries{};
    VectorSet requested;   ///< IRR
    VectorSet in_service;  ///< ISR
    VectorSet level;       ///< TMR
    uint8_t task_priority = 0;
    uint8_t errors = 0;           ///< ESR as it reads.
    uint8_t errors_gathered = 0;  ///< Since it was last written.
    bool external = false;        ///< An ExtINT message waits.
    std::array<bool, 2> pins{};   ///< LINT0 and LINT1.
  };
  static State reset_state();
  static bool has_only_real_bits(const State& state);

  bool enabled() const { return state_.base & kBaseEnable; }
  bool software_enabled() const;

  uint32_t read_register(uint32_t offset);
  void write_register(uint32_t offset, uint32_t value);
  void write_entry(Entry entry, uint32_t value);
  void write_spurious(uint32_t value);
  void write_command(uint32_t value);
  void end_of_interrupt();
  void latch_errors();
  void raise_error(uint8_t bit);

  bool is_destination(const ApicMessage& message) const;
  void fire(Entry entry);
  void pin_changed(Entry entry, bool asserted);
  void offer_level_pin(Entry entry);

  uint8_t processor_priority() const;
  uint8_t arbitration_priority() const;
  bool external_waiting() const;
  std::optional<uint8_t> deliverable() const;
  void update_intr();

  InterruptLine& intr_;
  InterruptSource& pic_;
  std::function<void()> on_nmi_;
  std::function<void()> on_init_;
  std::function<void(uint8_t)> on_end_of_level_;
  Pin lint0_{*this, kLint0};
  Pin lint1_{*this, kLint1};
  ApicTimer timer_;
  State state_;
  bool intr_level_ = false;
};

}  // namespace trapline
