// The timer of a local APIC: a counter that runs down at the bus clock over a divisor.
//
// The count is computed from the clock when it is read, and an event is armed only while expiry
// interrupts somebody. A guest that was not scheduled for several periods gets the interrupts that
// it missed one after the other, each when it has taken the one before; the phase is kept. Many
// are not made up for, and none of a period so short that this would leave no time for anything
// else.
//
// Guests with precise timers have no periodic one: their ticks are single counts, each armed by the
// one before. Counts that end on such a grid are taken for ticks, which may be late (Timer::arm()):
// whoever arms them looks at another clock, and knows how many were missed.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/devices/clock.h"
#include "runtime/devices/snapshot.h"

namespace trapline {

/// Recognises times that lie on a grid, give or take what it takes to arm a timer.
class TickGrid {
 public:
  /// The next time, which is later than the one before.
  void add(uint64_t when);
  /// The distance of the grid's lines; 0 while there is no grid.
  uint64_t period() const { return on_grid_ >= kEnough ? period_ : 0; }

 private:
  static constexpr uint32_t kEnough = 32;    ///< Times in a row on a grid.
  static constexpr uint64_t kMostLines = 4;  ///< From one to the next.

  uint64_t last_ = 0;
  uint64_t period_ = 0;
  uint32_t on_grid_ = 0;
};

class ApicTimer {
 public:
  /// One tick a nanosecond, before the divisor.
  static constexpr uint64_t kBusHz = 1'000'000'000;
  /// Periods that are shorter interrupt this often, so that the guest gets something done.
  static constexpr uint64_t kShortestPeriod = 10'000;
  static constexpr uint64_t kShortestMadeUpFor = 200'000;
  static constexpr uint64_t kMostMissed = 64;

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
  /// The CPU has taken the interrupt.
  void interrupt_taken();

  void reset();
  /// In the section that the APIC has open.
  void save(SnapshotWriter& out) const;

  struct State {
    uint64_t start = 0;  ///< When the count was `initial`.
    uint32_t initial = 0;
    uint8_t divide = 0;  ///< The register.
    bool running = false;
    uint8_t missed = 0;  ///< Interrupts that are still to be made up for.
  };
  static State read_state(SnapshotReader& in);
  void load(const State& state, uint32_t entry);

 private:
  bool masked() const { return entry_ & kMasked; }
  bool periodic() const { return entry_ & kPeriodic; }
  uint32_t shift() const;
  uint64_t span() const { return uint64_t{state_.initial} << shift(); }
  uint64_t elapsed() const;
  void start(uint64_t when);
  void rearm();

  EventQueue& queue_;
  std::function<void()> on_expiry_;
  Timer timer_;
  uint32_t entry_ = kMasked;
  State state_;
  TickGrid grid_;
};

}  // namespace trapline
