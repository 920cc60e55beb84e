// Recognises guests that wait by polling: that jump on the spot, or read a port or a word of memory
// again and again, until an interrupt changes something.
//
// Nothing is guessed. A guest that has been in one place for a while is run instruction by
// instruction; when its complete state comes back, and all that it did on the way was to compute,
// to read memory, and to read ports whose values only an event can change, then it does the same
// for ever, until an event comes. To write is allowed, if memory is afterwards as it was. So loops
// that count, or that read a clock, are never held up.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "runtime/devices/port_bus.h"
#include "runtime/machine.h"

namespace trapline {

struct Instruction;

class PollingWatch {
 public:
  /// Both must outlive it.
  PollingWatch(Machine& machine, const PortBus& ports) : machine_(machine), ports_(ports) {}

  /// When the guest is to be interrupted for the next look() at the latest, in nanoseconds.
  uint64_t next_look() const { return next_look_; }
  /// Whether the guest, which has been running until now, does nothing but wait for an event. Steps
  /// it, and so may find an end of the run: see ended(). The time is that of any clock.
  bool look(uint64_t now);
  /// The guest halts, so it does not poll: there is no need to look at it for a while.
  void halts(uint64_t now);
  /// The guest goes on, after an event: it is soon looked at again.
  void goes_on(uint64_t now);
  /// Why the last look() ended, if it was not by itself.
  const std::optional<Exit>& ended() const { return ended_; }

 private:
  static constexpr int kMostSteps = 128;
  static constexpr size_t kMostWrites = 32;

  struct Place {
    uint32_t eip = 0, esp = 0, cr3 = 0;
    uint8_t cpl = 0xff;
    bool near(const Place& other) const;
  };
  /// Memory that the loop writes, as it was.
  struct Write {
    Linear address;
    uint32_t size = 0;
    uint32_t before = 0;
  };

  Place place() const;
  bool goes_round();
  bool same_as(const CpuState& start) const;
  bool memory_is_as_before() const;
  bool step_is_harmless();
  bool accesses_are_harmless(const Instruction& in);
  bool port_is_harmless(const Instruction& in) const;
  bool stack_write_is_harmless(uint32_t size);
  bool read_is_harmless(Linear address, uint32_t size) const;
  bool write_is_harmless(Linear address, uint32_t size);
  bool decode_here(Instruction& in) const;
  std::optional<uint32_t> read(Linear address, uint32_t size) const;

  Machine& machine_;
  const PortBus& ports_;
  Place last_;
  uint64_t next_look_ = 0;
  uint64_t patience_ = 0;  ///< Until the look after the next.
  std::array<Write, kMostWrites> writes_;
  size_t write_count_ = 0;
  std::optional<Exit> ended_;
};

}  // namespace trapline
