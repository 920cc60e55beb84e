// Durations by the host's time stamp counter: cheaper to take than those of a clock, and worth
// something once enough time has passed to know the counter's rate.
#pragma once

#include <x86intrin.h>

#include <chrono>
#include <cstdint>

namespace trapline {

/// By the monotonic clock.
inline uint64_t nanoseconds_now() {
  return static_cast<uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

class HostTicks {
 public:
  static uint64_t now() { return __rdtsc(); }

  /// Uses the rate from when this was made until now.
  uint64_t nanoseconds(uint64_t ticks) const {
    const std::chrono::duration<double, std::nano> passed = Clock::now() - made_;
    const uint64_t passed_ticks = now() - made_ticks_;
    if (passed_ticks == 0) return 0;
    const double rate = passed.count() / static_cast<double>(passed_ticks);
    return static_cast<uint64_t>(static_cast<double>(ticks) * rate);
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point made_ = Clock::now();
  uint64_t made_ticks_ = now();
};

}  // namespace trapline
