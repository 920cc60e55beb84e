// One of the three counters of an 8254, as a function of time: it holds when it began to count
// and from what, and everything else is computed when somebody looks. Times are ticks of its clock.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/devices/snapshot.h"

namespace trapline {

class PitChannel {
 public:
  using Tick = int64_t;

  /// A control word with its channel bits cut off; its access bits are not those of a latch.
  void write_control(uint8_t control, Tick now);
  void latch_count(Tick now);
  void latch_status(Tick now);
  void write(uint8_t value, Tick now);
  uint8_t read(Tick now);
  void set_gate(bool gate, Tick now);
  bool gate() const { return state_.gate; }

  /// The OUT pin.
  bool out(Tick now);
  /// When OUT next rises after `now`, if it does by itself.
  std::optional<Tick> next_rise(Tick now);
  /// Whether OUT rises again and again.
  bool periodic() const { return mode() == 2 || mode() == 3; }
  /// How far its rises are apart; 0 when that is about to change, or when there are no more.
  Tick period() const { return periodic() && state_.pending == 0 ? state_.count : 0; }

  void reset(bool gate);
  void save(SnapshotWriter& out) const;
  /// Rejects what could not have been saved.
  static PitChannel load(SnapshotReader& in);

 private:
  enum class Phase : uint8_t {
    kNoCount,  ///< A control word came, and no whole count since.
    kArmed,    ///< Modes 1 and 5: a count came, and no trigger since.
    kCounting,
  };

  struct State {
    uint8_t control = 0x30;  ///< Access, mode and BCD bits, as the status shows them.
    Phase phase = Phase::kNoCount;
    bool gate = true;
    uint16_t held = 0;    ///< What the counter shows while it does not count.
    uint32_t count = 1;   ///< What it counts from; a written 0 is 65536 or 10000.
    Tick start = 0;       ///< When the count was, or will be, loaded.
    bool paused = false;  ///< By the gate, at `paused_at`.
    Tick paused_at = 0;
    uint32_t pending = 0;  ///< A count that waits for the cycle's end or a trigger; 0: none.
    Tick pending_since = 0;
    bool write_high = false;  ///< The flip-flops: the high byte comes next.
    bool read_high = false;
    uint8_t low_byte = 0;
    bool count_latched = false;
    bool status_latched = false;
    uint16_t latched_count = 0;
    uint8_t latched_status = 0;
  };

  uint8_t access() const { return state_.control >> 4 & 3; }
  uint8_t mode() const;
  bool bcd() const { return state_.control & 1; }
  uint32_t decode(uint16_t written) const;
  uint16_t encode(uint32_t count) const;

  void take_count(uint16_t written, Tick now);
  void load_count(uint32_t count, Tick now);
  void settle(Tick now);
  Tick take_over_tick() const;
  void take_over(Tick at);
  Tick elapsed(Tick now) const;
  uint16_t value(Tick now) const;

  State state_;
};

}  // namespace trapline
