// The timer of a local APIC: a counter that runs down at the bus clock over a divisor.
//
// The count is computed from the clock when it is read, and an event is armed only while expiry
// interrupts somebody. A guest that was not scheduled for several periods gets one interrupt, and
// the following ones when they would have come anyway: the phase is kept, nothing is made up for.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/devices/clock.h"
#include "runtime/devices/snapshot.h"

namespace trapline {

class ApicTimer {
 public:
  /// One tick a nanosecond, before the divisor.
  static constexpr uint64_t kBusHz = 1'000'000'000;
  /// Periods that are shorter interrupt this often, so that the guest gets something done.
  static constexpr uint64_t kShortestPeriod = 10'000;

  // What it needs of its LVT entry.
  static constexpr uint32_t kMasked = 1u << 16;
  static constexpr uint32_t kPeriodic = 1u << 17;

  ApicTimer(EventQueue& queue, std::function<void()> on_expiry);

  uint32_t initial_count() const { return state_.initial; }
  uint32_t current_count() const;
  uint32_t divide_configuration() const { return state_.divide; }

  void write_initial_count(uint32_t value);  ///< Starts it; 0 stops it.
  void write_divide_configuration(uint32_t value);
  /// The LVT entry was written. What expired before comes first, with the entry as it was: callers
  /// call settle() before they change it.
  void write_entry(uint32_t entry);
  /// Calls on_expiry if the clock is past an expiry that nobody was told of.
  void settle();

  void reset();
  /// In the section that the APIC has open.
  void save(SnapshotWriter& out) const;

  struct State {
    uint64_t start = 0;  ///< When the count was `initial`.
    uint32_t initial = 0;
    uint8_t divide = 0;  ///< The register.
    bool running = false;
  };
  static State read_state(SnapshotReader& in);
  void load(const State& state, uint32_t entry);

 private:
  bool masked() const { return entry_ & kMasked; }
  bool periodic() const { return entry_ & kPeriodic; }
  uint32_t shift() const;
  uint64_t span() const { return uint64_t{state_.initial} << shift(); }
  uint64_t elapsed() const;
  void rearm();

  EventQueue& queue_;
  std::function<void()> on_expiry_;
  Timer timer_;
  uint32_t entry_ = kMasked;
  State state_;
};

}  // namespace trapline
