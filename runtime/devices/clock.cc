#include "runtime/devices/clock.h"

#include <vector>

namespace trapline {

Timer::Timer(EventQueue& queue, std::function<void()> callback)
    : queue_(queue), callback_(std::move(callback)) {}

Timer::~Timer() {
  disarm();
}

void Timer::arm(uint64_t when) {
  disarm();
  due_ = when;
  armed_ = true;
  const auto place = queue_.armed_.emplace(when, this).first;
  if (place == queue_.armed_.begin() && queue_.on_earlier_) queue_.on_earlier_();
}

void Timer::disarm() {
  if (!armed_) return;
  armed_ = false;
  queue_.armed_.erase({due_, this});
}

std::optional<uint64_t> EventQueue::next_due() const {
  if (armed_.empty()) return std::nullopt;
  return armed_.begin()->first;
}

void EventQueue::run_due() {
  const uint64_t now = clock_.now();
  std::vector<Timer*> due;
  for (const auto& [when, timer] : armed_) {
    if (when > now) break;
    due.push_back(timer);
  }
  for (Timer* timer : due) {
    // An earlier callback may have disarmed it or put it off.
    if (!timer->armed_ || timer->due_ > now) continue;
    timer->disarm();
    timer->callback_();
  }
}

}  // namespace trapline
