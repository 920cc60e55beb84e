// The messages by which interrupts reach a local APIC from the I/O APIC or from an interrupt
// command.
#pragma once

#include <cstdint>

namespace trapline {

enum class ApicDelivery : uint8_t {
  kFixed = 0,
  kLowestPriority = 1,
  kSmi = 2,
  kReserved = 3,
  kNmi = 4,
  kInit = 5,
  kStartUp = 6,
  kExternal = 7,  ///< ExtINT: the vector comes from the 8259.
};

struct ApicMessage {
  uint8_t destination = 0;  ///< An APIC ID, or a set of logical ones.
  bool logical = false;
  bool level = false;  ///< Its end must be told to the I/O APIC.
  ApicDelivery delivery = ApicDelivery::kFixed;
  uint8_t vector = 0;
};

class ApicBus {
 public:
  virtual ~ApicBus() = default;
  /// Whether a local APIC took it. What nobody takes is lost.
  virtual bool deliver(const ApicMessage& message) = 0;
};

}  // namespace trapline
