// The machine's clock when it counts instructions, so that nothing of the host's time is in it.
#pragma once

#include "runtime/devices/clock.h"
#include "runtime/machine.h"

namespace trapline {

/// An instruction takes a nanosecond. What a halted guest sleeps through is skipped.
class InstructionClock : public Clock {
 public:
  void connect(Machine& machine) { machine_ = &machine; }
  uint64_t now() const override { return machine_ ? machine_->time_stamp() : 0; }
  /// Each run begins at the same time of day: 2024 in UTC.
  int64_t wall_at_start() const override { return int64_t{1'704'067'200} * 1'000'000'000; }

 private:
  Machine* machine_ = nullptr;
};

}  // namespace trapline
