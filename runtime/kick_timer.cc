#include "runtime/kick_timer.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/host_ticks.h"

namespace trapline {
namespace {
constexpr uint64_t kSecond = 1'000'000'000;
}  // namespace

KickTimer::~KickTimer() {
  if (made_) timer_delete(id_);
}

bool KickTimer::make(int signal) {
  if (made_) return true;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  made_ = timer_create(CLOCK_MONOTONIC, &event, &id_) == 0;
  return made_;
}

void KickTimer::arm(uint64_t due) {
  due_ = due;
  armed_ = true;  // Before the timer can go off.
  if (!lent_) keep_or_set(nanoseconds_now() + 1, due);
}

void KickTimer::lend() {
  lent_ = true;
  keep_or_set(due_ + kLeastGrace, due_ + 2 * kGrace);
}

void KickTimer::take_back() {
  if (lent_.exchange(false)) keep_or_set(nanoseconds_now() + 1, due_);
}

void KickTimer::disarm() {
  armed_ = false;
  lent_ = false;
  if (set_ == kNever) return;
  const itimerspec spec{};
  timer_settime(id_, 0, &spec, nullptr);
  set_ = kNever;
}

void KickTimer::go_off(timer_t id) {
  itimerspec spec{};
  spec.it_value.tv_nsec = 1;
  spec.it_interval.tv_nsec = kInterval;
  timer_settime(id, 0, &spec, nullptr);
}

void KickTimer::keep_or_set(uint64_t earliest, uint64_t latest) {
  if (set_ < earliest || set_ > latest) set(wanted());
}

bool KickTimer::too_early() {
  if (!armed_ || nanoseconds_now() >= due_) return false;
  set(wanted());
  return true;
}

void KickTimer::kicked(Kick kick) {
  if (kick == Kick::kTooSoon) set(nanoseconds_now() + kRetry);
  set_ = kick == Kick::kTooSoon ? kSoon : kSomeTime;
}

void KickTimer::set(uint64_t when) {
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(when / kSecond);
  spec.it_value.tv_nsec = static_cast<long>(when % kSecond);
  spec.it_interval.tv_nsec = kInterval;
  set_ = when;
  timer_settime(id_, TIMER_ABSTIME, &spec, nullptr);
}

uint64_t KickTimer::wanted() const {
  return lent_ ? due_ + kGrace : due_.load();
}

}  // namespace trapline
