// Where external interrupts come from: an interrupt controller.
#pragma once

#include <cstdint>

namespace trapline {

class InterruptSource {
 public:
  virtual ~InterruptSource() = default;
  /// Called when the CPU takes an interrupt that the source's line announces: the vector. The
  /// source takes its line back when nothing else is waiting.
  virtual uint8_t acknowledge() = 0;
};

}  // namespace trapline
