// Random numbers that a seed and a case number reproduce anywhere.
#pragma once

#include <cstdint>

namespace trapline::differential {

class Random {
 public:
  Random(uint64_t seed, uint64_t stream)
      : state_(mix(seed * 0x9e3779b97f4a7c15u + 1) ^ mix(stream)) {}

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    return mix(state_);
  }
  uint32_t next32() { return static_cast<uint32_t>(next() >> 32); }
  /// Uniform enough below a small bound.
  uint32_t below(uint32_t bound) {
    return static_cast<uint32_t>((uint64_t{next32()} * bound) >> 32);
  }
  /// True once in n times.
  bool one_in(uint32_t n) { return below(n) == 0; }

 private:
  static constexpr uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  uint64_t state_;
};

}  // namespace trapline::differential
