// The machine's one clock, which every device and the processor's time stamp counter agree with,
// and the queue of what is to happen at which of its times.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace trapline {

/// Time as the machine sees it. It never runs backwards.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Nanoseconds since the machine was switched on.
  virtual uint64_t now() const = 0;
  /// The time of day when now() was 0: nanoseconds since 1970, UTC.
  virtual int64_t wall_at_start() const = 0;
};

class EventQueue;

/// Something that a device wants to be called for at a time. Callbacks run between two guest
/// instructions on the thread of the machine; they may arm and disarm any timer but
/// destroy none.
class Timer {
 public:
  Timer(EventQueue& queue, std::function<void()> callback);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Once, as soon as the clock has reached `when`; a time that has passed is due at once. Replaces
  /// what was armed before.
  /// `slack`: how much later will do as well for a machine that has nothing else to do.
  void arm(uint64_t when, uint64_t slack = 0);
  void disarm();
  bool armed() const { return armed_; }
  /// Good while it is armed.
  uint64_t due() const { return due_; }

 private:
  friend class EventQueue;
  EventQueue& queue_;
  std::function<void()> callback_;
  uint64_t due_ = 0;
  uint64_t slack_ = 0;
  bool armed_ = false;
  uint64_t armed_in_ = 0;  ///< The queue's round then.
};

/// Must outlive its timers.
class EventQueue {
 public:
  explicit EventQueue(const Clock& clock) : clock_(clock) { armed_.reserve(kUsualTimers); }

  const Clock& clock() const { return clock_; }
  uint64_t now() const { return clock_.now(); }
  /// When the first timer is due; nothing when none is armed.
  std::optional<uint64_t> next_due() const;
  /// When the first timer will have used up its slack; nothing when none is armed.
  std::optional<uint64_t> next_due_at_latest() const;
  /// Calls what is due, in the order of the times. A callback that arms a timer for a time that has
  /// passed already is called at the next run_due(), so that this always comes to an end.
  void run_due();
  /// Called when an armed timer becomes the first one: a run that is going on must end earlier.
  void on_earlier(std::function<void()> callback) { on_earlier_ = std::move(callback); }

 private:
  friend class Timer;
  static constexpr size_t kUsualTimers = 16;

  const Clock& clock_;
  std::vector<Timer*> armed_;  ///< By time, and those of one time in the order of arming.
  uint64_t round_ = 0;         ///< Counts run_due().
  std::function<void()> on_earlier_;
};

/// The slack of a timer that a periodic source arms, which makes up for what it missed: as
/// many whole periods as a guest that is at rest may be left asleep for.
constexpr uint64_t slack_of_period(uint64_t nanoseconds) {
  constexpr uint64_t kLongest = 5'000'000;
  return nanoseconds == 0 ? 0 : kLongest / nanoseconds * nanoseconds;
}

}  // namespace trapline
