#include "runtime/devices/clock.h"

#include <algorithm>
#include <utility>

namespace trapline {

Timer::Timer(EventQueue& queue, std::function<void()> callback)
    : queue_(queue), callback_(std::move(callback)) {}

Timer::~Timer() {
  disarm();
}

void Timer::arm(uint64_t when, uint64_t slack) {
  disarm();
  due_ = when;
  slack_ = slack;
  armed_ = true;
  armed_in_ = queue_.round_;
  std::vector<Timer*>& all = queue_.armed_;
  const auto later = [when](const Timer* other) { return other->due_ > when; };
  const auto place = all.insert(std::find_if(all.begin(), all.end(), later), this);
  if (place == all.begin() && queue_.on_earlier_) queue_.on_earlier_();
}

void Timer::disarm() {
  if (!armed_) return;
  armed_ = false;
  std::erase(queue_.armed_, this);
}

std::optional<uint64_t> EventQueue::next_due() const {
  if (armed_.empty()) return std::nullopt;
  return armed_.front()->due_;
}

std::optional<uint64_t> EventQueue::next_due_at_latest() const {
  if (armed_.empty()) return std::nullopt;
  uint64_t latest = UINT64_MAX;
  for (const Timer* timer : armed_) latest = std::min(latest, timer->due_ + timer->slack_);
  return latest;
}

void EventQueue::run_due() {
  if (armed_.empty()) return;
  const uint64_t now = clock_.now();
  const uint64_t round = ++round_;
  // What a callback arms is for the next time.
  const auto is_due = [&](const Timer* timer) {
    return timer->due_ <= now && timer->armed_in_ != round;
  };
  for (;;) {
    const auto first = std::find_if(armed_.begin(), armed_.end(), is_due);
    if (first == armed_.end()) return;
    Timer& timer = **first;
    timer.disarm();
    timer.callback_();
  }
}

}  // namespace trapline
