// Ticks of a fixed frequency, counted from time 0 without drift: no error adds up, since both
// directions are exact divisions of the whole time.
#pragma once

#include <cstdint>

namespace trapline {

class TickRate {
 public:
  explicit constexpr TickRate(uint64_t hertz) : hertz_(hertz) {}

  /// How many ticks have passed at `nanoseconds`.
  constexpr uint64_t ticks_at(uint64_t nanoseconds) const {
    return nanoseconds / kSecond * hertz_ + nanoseconds % kSecond * hertz_ / kSecond;
  }
  /// The first nanosecond at which `ticks` have passed.
  constexpr uint64_t time_of(uint64_t ticks) const {
    return ticks / hertz_ * kSecond + (ticks % hertz_ * kSecond + hertz_ - 1) / hertz_;
  }

 private:
  static constexpr uint64_t kSecond = 1'000'000'000;
  uint64_t hertz_;  ///< Below 16 GHz, so that a product with kSecond fits.
};

}  // namespace trapline
