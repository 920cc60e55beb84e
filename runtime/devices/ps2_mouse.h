// A PS/2 mouse with three buttons that lies still: it answers all commands of its kind and never
// moves.
#pragma once

#include <cstdint>

#include "runtime/devices/ps2_device.h"

namespace trapline {

class Ps2Mouse : public Ps2Device {
 public:
  void receive(uint8_t byte) override;

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  struct State {
    bool enabled = false;
    bool remote = false;  ///< Reports only when asked.
    bool wrap = false;    ///< Sends back what it receives.
    bool doubled = false;
    uint8_t resolution = 2;
    uint8_t rate = 100;
    uint8_t command = 0;  ///< Whose parameter comes next; 0: none.
  };

  void execute(uint8_t command);

  State state_;
};

}  // namespace trapline
