// The timer of a thread that brings it back to the run loop at a deadline.
//
// On a host that is a virtual machine, to set the timer that is due first costs microseconds, which
// a guest's every tick and system call would pay several times. So it is left alone where it goes
// off too early, and then set again, or so little too late that nobody minds.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

namespace trapline {

/// What was running when the thread was kicked.
enum class KickTarget : uint8_t {
  kThread,     ///< Itself, which may have been past its last look at what is due.
  kContainer,  ///< A container, which was told.
};

class KickTimer {
 public:
  KickTimer() = default;
  ~KickTimer();
  KickTimer(const KickTimer&) = delete;
  KickTimer& operator=(const KickTimer&) = delete;

  /// For the calling thread, with a signal that repeats until it is noticed: a single one can come
  /// too early. False: the host gives none.
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
  /// Somebody else sees to the deadline, and this timer comes after them, until it is taken back.
  void lend();
  void take_back();
  /// And the timer is off.
  void disarm();
  /// It goes off again and again, or may.
  bool repeats() const { return set_ == kRepeats; }
  /// Set from elsewhere.
  void lost() { set_ = kRepeats; }

  /// Makes one that may be another thread's go off now, and again until it is noticed. From any
  /// thread or signal handler; its owner is to call lost().
  static void go_off(timer_t id);

  // For the signal's handler.

  /// Whether there is a deadline that is still to come; the timer is set for it then.
  bool too_early();
  /// It goes on at the pace of whom the kick was for.
  void kicked(KickTarget whom);

  /// What somebody else has before this timer comes after them.
  static constexpr uint64_t kGrace = 250'000;
  /// Up to so long before the deadline it is set precisely.
  static constexpr uint64_t kNear = 1'000'000;

 private:
  static constexpr uint64_t kNever = 0;
  static constexpr uint64_t kRepeats = 1;

  void keep_or_set(uint64_t earliest, uint64_t latest);
  uint64_t wanted() const;
  void set(uint64_t when);
  uint64_t interval() const;

  timer_t id_{};
  bool made_ = false;
  KickTarget target_ = KickTarget::kThread;  ///< Who took the last one.
  // The handler may come between any two instructions of the others.
  std::atomic<uint64_t> due_{0};
  std::atomic<bool> armed_{false};
  std::atomic<bool> lent_{false};
  std::atomic<uint64_t> set_{kNever};  ///< When it goes off.
};

}  // namespace trapline
