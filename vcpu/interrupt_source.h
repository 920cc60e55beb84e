// Where external interrupts come from: an interrupt controller.
#pragma once

#include <cstdint>

namespace trapline {

class InterruptSource {
 public:
  virtual ~InterruptSource() = default;
  /// Called when the CPU takes an interrupt that was announced to it: the vector. What the source
  /// announces next, it announces again.
  virtual uint8_t acknowledge() = 0;
};

}  // namespace trapline
