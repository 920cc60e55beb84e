// What is at the other end of a PS/2 cable: bytes in both directions. A device has room for a few
// bytes that the controller has not taken yet; what does not fit is lost.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/devices/device.h"

namespace trapline {

class Ps2Device : public Device {
 public:
  /// A byte from the controller.
  virtual void receive(uint8_t byte) = 0;
  /// The next byte for the controller.
  std::optional<uint8_t> take();
  /// Called when the device has got something to say; the controller sets it.
  void on_output(std::function<void()> callback) { on_output_ = std::move(callback); }

 protected:
  /// All of the bytes or, when there is no room for them, none.
  bool send(std::span<const uint8_t> bytes);
  void send(std::initializer_list<uint8_t> bytes) { send(std::span(bytes.begin(), bytes.size())); }
  /// Answers to commands come before all else, which is forgotten.
  void answer(std::initializer_list<uint8_t> bytes);
  void clear();
  uint8_t last_taken() const { return last_taken_; }

  void save_output(SnapshotWriter& out) const;
  struct Output {
    uint8_t last_taken = 0;
    std::vector<uint8_t> waiting;
  };
  static Output load_output(SnapshotReader& in);
  /// Tells nobody: the controller's own state says when it takes them.
  void restore(const Output& output);

 private:
  static constexpr size_t kRoom = 32;

  std::function<void()> on_output_;
  std::array<uint8_t, kRoom> waiting_{};
  size_t count_ = 0;
  uint8_t last_taken_ = 0;
};

}  // namespace trapline
