#include "runtime/native/held_processor.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trapline {

HeldProcessor::~HeldProcessor() {
  if (processor_ >= 0 && pthread_equal(holder_, pthread_self())) release();
}

int HeldProcessor::hold(uint64_t nanoseconds_now) {
  if (nanoseconds_now - since_ >= kStay) {
    release();
    since_ = nanoseconds_now;
    return -1;
  }
  if (processor_ >= 0) return processor_;
  if (sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) return -1;
  const int here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE) return -1;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(here), &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) return -1;
  processor_ = here;
  holder_ = pthread_self();
  return processor_;
}

cpu_set_t HeldProcessor::others() const {
  cpu_set_t others;
  CPU_ZERO(&others);
  if (processor_ < 0) return others;
  others = allowed_;
  CPU_CLR(static_cast<size_t>(processor_), &others);
  return others;
}

void HeldProcessor::release() {
  if (processor_ < 0) return;
  cpu_set_t now;
  // Somebody else may have decided meanwhile.
  const bool ours = sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 &&
                    CPU_ISSET(static_cast<size_t>(processor_), &now);
  if (ours) sched_setaffinity(0, sizeof allowed_, &allowed_);
  processor_ = -1;
}

void HeldProcessor::release_in_time(uint64_t nanoseconds_now) {
  if (nanoseconds_now - since_ >= kStay) release();
}

void ask_for_short_slices() {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attributes{};
  constexpr uint64_t kResetOnFork = 1;
  constexpr uint64_t kShortest = 100'000;  // Nanoseconds.
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.size = sizeof attributes;
  attributes.flags |= kResetOnFork;
  attributes.runtime = kShortest;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void ask_for_punctual_sleep() {
  constexpr unsigned long kSlack = 1'000;  // Nanoseconds; 50 times that without being asked.
  prctl(PR_SET_TIMERSLACK, kSlack, 0, 0, 0);
}

}  // namespace trapline
