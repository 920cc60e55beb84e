// The machine's clock when it follows the host's.
#pragma once

#include "runtime/devices/clock.h"

namespace trapline {

class HostClock : public Clock {
 public:
  HostClock();
  uint64_t now() const override;
  int64_t wall_at_start() const override { return wall_at_start_; }

 private:
  uint64_t start_;
  int64_t wall_at_start_;
};

}  // namespace trapline
