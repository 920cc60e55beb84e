// A clock that a test moves by hand.
#pragma once

#include "runtime/devices/clock.h"

namespace trapline {

class FakeClock : public Clock {
 public:
  uint64_t now() const override { return time; }
  int64_t wall_at_start() const override { return wall; }

  uint64_t time = 0;
  /// Wednesday, 14 November 2001, 10:20:30 UTC.
  int64_t wall = 1'005'733'230ll * 1'000'000'000;
};

/// Moves the clock on to `time`, stopping at whatever is due on the way.
inline void advance_to(FakeClock& clock, EventQueue& queue, uint64_t time) {
  while (const auto due = queue.next_due()) {
    if (*due > time) break;
    if (*due > clock.time) clock.time = *due;
    queue.run_due();
  }
  clock.time = time;
}

}  // namespace trapline
