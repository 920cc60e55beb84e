// Input on its way from a thread that waits for the host to the thread of the machine. Nothing that
// was put in is lost; who puts in must stop when there is no room.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>

namespace trapline {

class InputQueue {
 public:
  static constexpr size_t kRoom = 64 << 10;

  /// `wake` is called, on the thread that puts in, when input has come to an empty queue: the
  /// machine must look at it soon. `has_room` is called, on the thread that takes out, when there
  /// is room again after room() was 0.
  InputQueue(std::function<void()> wake, std::function<void()> has_room);

  size_t room();
  /// May be more than there is room for, from those who cannot wait.
  void put(std::span<const uint8_t> bytes);
  void put_break();

  // For the machine, as in CharacterBackend. A break holds up what was put in after it.
  std::optional<uint8_t> read();
  bool take_break();

 private:
  static constexpr uint16_t kBreak = 0x100;

  template <typename Put>
  void put_and_wake(Put put);
  std::optional<uint16_t> take(bool (*wanted)(uint16_t));

  const std::function<void()> wake_;
  const std::function<void()> has_room_;
  std::atomic<bool> empty_{true};
  std::mutex mutex_;
  std::deque<uint16_t> queue_;
  bool somebody_waits_ = false;
};

}  // namespace trapline
