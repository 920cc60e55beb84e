// An enhanced PS/2 keyboard with scan code sets 1 and 2. It repeats no keys by itself: whoever
// feeds it decides that.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/devices/ps2_device.h"

namespace trapline {

class Ps2Keyboard : public Ps2Device {
 public:
  /// Keys of the host: the bytes of set 2 for one press or release. False when they were lost,
  /// because the guest has turned scanning off or has not read for long.
  bool key(std::span<const uint8_t> set2);

  void receive(uint8_t byte) override;
  uint8_t leds() const { return state_.leds; }

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  struct State {
    bool scanning = true;
    uint8_t command = 0;  ///< Whose parameter comes next; 0: none.
    uint8_t set = 2;
    uint8_t leds = 0;
    uint8_t typematic = 0x2b;
  };

  void parameter(uint8_t command, uint8_t value);
  void set_defaults(bool scanning);

  State state_;
};

}  // namespace trapline
