#include "runtime/cli/input_queue.h"

#include <utility>

namespace trapline {

InputQueue::InputQueue(std::function<void()> wake, std::function<void()> has_room)
    : wake_(std::move(wake)), has_room_(std::move(has_room)) {}

size_t InputQueue::room() {
  const std::scoped_lock lock(mutex_);
  const size_t taken = queue_.size();
  somebody_waits_ = taken >= kRoom;
  return somebody_waits_ ? 0 : kRoom - taken;
}

template <typename Put>
void InputQueue::put_and_wake(Put put) {
  bool was_empty = false;
  {
    const std::scoped_lock lock(mutex_);
    was_empty = queue_.empty();
    put();
    empty_.store(queue_.empty());
  }
  if (was_empty && wake_) wake_();
}

void InputQueue::put(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  put_and_wake([&] { queue_.insert(queue_.end(), bytes.begin(), bytes.end()); });
}

void InputQueue::put_break() {
  put_and_wake([&] { queue_.push_back(kBreak); });
}

std::optional<uint16_t> InputQueue::take(bool (*wanted)(uint16_t)) {
  if (empty_.load(std::memory_order_relaxed)) return std::nullopt;
  bool tell = false;
  uint16_t first = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (queue_.empty() || !wanted(queue_.front())) return std::nullopt;
    first = queue_.front();
    queue_.pop_front();
    empty_.store(queue_.empty());
    tell = somebody_waits_ && queue_.size() <= kRoom / 2;
    if (tell) somebody_waits_ = false;
  }
  if (tell && has_room_) has_room_();
  return first;
}

std::optional<uint8_t> InputQueue::read() {
  const auto taken = take([](uint16_t what) { return what != kBreak; });
  return taken ? std::optional(static_cast<uint8_t>(*taken)) : std::nullopt;
}

bool InputQueue::take_break() {
  return take([](uint16_t what) { return what == kBreak; }).has_value();
}

}  // namespace trapline
