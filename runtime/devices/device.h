// What every device can do, and the few things of the outside that devices know.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/devices/snapshot.h"
#include "vcpu/result.h"

namespace trapline {

class Device {
 public:
  virtual ~Device() = default;
  virtual void reset() = 0;
  /// One section, whose tag is the device's name.
  virtual void save(SnapshotWriter& out) const = 0;
  /// After an error the device is as it was before.
  virtual Result<void> load(SnapshotReader& in) = 0;
};

/// An input pin of an interrupt controller.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  /// The level; devices call it when their output changes.
  virtual void set(bool asserted) = 0;
};

/// The host's side of a character device. Neither function may wait for a guest.
class CharacterBackend {
 public:
  virtual ~CharacterBackend() = default;
  virtual void write(uint8_t byte) = 0;
  /// The next byte of input, if one has come. Called often: it must be cheap when there is none.
  virtual std::optional<uint8_t> read() { return std::nullopt; }
  /// Takes a break, if one is next in the input; as cheap. read() gives nothing while one is.
  virtual bool take_break() { return false; }
};

/// Swallows output and has no input.
class NullBackend : public CharacterBackend {
 public:
  void write(uint8_t) override {}
};

}  // namespace trapline
