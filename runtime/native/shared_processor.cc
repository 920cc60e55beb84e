#include "runtime/native/shared_processor.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace trapline {

int SharedProcessor::hold(uint64_t nanoseconds_now) {
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
  return processor_;
}

void SharedProcessor::release() {
  if (processor_ < 0) return;
  cpu_set_t now;
  // Somebody else may have decided meanwhile.
  const bool ours = sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 &&
                    CPU_ISSET(static_cast<size_t>(processor_), &now);
  if (ours) sched_setaffinity(0, sizeof allowed_, &allowed_);
  processor_ = -1;
}

void SharedProcessor::release_in_time(uint64_t nanoseconds_now) {
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

}  // namespace trapline
