// The timer of a thread that brings it back to the run loop at a deadline.
//
// On a host that is a virtual machine, to set the timer that is due first costs microseconds, which
// a guest's every tick and system call would pay several times. So it is left alone where it goes
// off too early, and then set again, or where somebody else sees to the deadline and it comes after
// them.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

namespace trapline {

/// What becomes of a kick.
enum class Kick : uint8_t {
  kNoticed,  ///< Whatever was running ends soon.
  kTooSoon,  ///< The thread may have been past its last look at what is due.
};

class KickTimer {
 public:
  KickTimer() = default;
  ~KickTimer();
  KickTimer(const KickTimer&) = delete;
  KickTimer& operator=(const KickTimer&) = delete;

  /// For the calling thread. False: the host gives none.
  bool make(int signal);
  bool made() const { return made_; }
  timer_t id() const { return id_; }

  /// By the monotonic clock in nanoseconds.
  uint64_t due() const { return due_; }
  /// There is a deadline.
  bool armed() const { return armed_; }
  void arm(uint64_t due);
  /// There is none any more. The timer stays as it is: the next one may need it so.
  void leave() { armed_ = false; }
  /// Somebody else sees to the deadline and to those that follow, and this timer comes long after
  /// them, until it is taken back.
  void lend();
  bool lent() const { return lent_; }
  void take_back();
  /// And the timer is off.
  void disarm();
  /// It has gone off, or was set from elsewhere, and will go off again some time.
  void lost() { set_ = kSomeTime; }
  /// A kick came too soon, and the next one will come in a moment.
  bool retries() const { return set_ == kSoon; }

  /// Makes one that may be another thread's go off now. From any thread or signal handler; its
  /// owner is to call lost().
  static void go_off(timer_t id);

  // For the signal's handler.

  /// Whether there is a deadline that is still to come; the timer is set for it then.
  bool too_early();
  /// There is a deadline, and it has passed.
  void kicked(Kick kick);

  /// By so much this timer comes after somebody else: more than a period of most guests' timers and
  /// of most hosts', so that it need not be set each time, and is seldom the first one when it is.
  static constexpr uint64_t kGrace = 8'000'000;
  static constexpr uint64_t kLeastGrace = 1'000'000;
  /// A kick that came too soon is made again after so long,
  static constexpr uint64_t kRetry = 50'000;
  /// and any other as well, in case nobody has noticed.
  static constexpr uint64_t kInterval = 5'000'000;

 private:
  static constexpr uint64_t kNever = 0;
  static constexpr uint64_t kSomeTime = 1;
  static constexpr uint64_t kSoon = 2;

  void keep_or_set(uint64_t earliest, uint64_t latest);
  uint64_t wanted() const;
  void set(uint64_t when);

  timer_t id_{};
  bool made_ = false;
  // The handler may come between any two instructions of the others.
  std::atomic<uint64_t> due_{0};
  std::atomic<bool> armed_{false};
  std::atomic<bool> lent_{false};
  std::atomic<uint64_t> set_{kNever};  ///< When it goes off.
};

}  // namespace trapline
