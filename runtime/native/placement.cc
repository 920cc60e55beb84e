#include "runtime/native/placement.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace trapline {

bool Placement::goes_on(int container, uint64_t now) {
  const bool changes = std::exchange(container_, container) != container;
  turn(changes || now - stopped_at_ >= kContainerLooks, now);
  return changes;
}

void Placement::stopped(uint64_t now, uint64_t ran, bool due) {
  turn(!due && std::max(ran, ran_) >= kThreadLooks, now);
  stopped_at_ = now;
  ran_ = ran;
}

void Placement::turn(bool late, uint64_t now) {
  late_ += late;
  if (++turns_ < kTurns) return;
  const uint32_t costs = apart_ ? kLateCostsApart : kLateCosts;
  const bool pays = late_ * costs < turns_ - late_;
  turns_ = 0;
  late_ = 0;
  if (pays == apart_ || (pays && now < not_before_)) return;
  apart_ = pays;
  looked_container_ = 0;
  looked_at_ = now - kLookInterval;
}

void Placement::look(uint64_t now, std::optional<uint64_t> thread, int container,
                     std::optional<uint64_t> containers) {
  if (!thread) {
    apart_ = false;
    not_before_ = std::numeric_limits<uint64_t>::max();
    return;
  }
  if (!containers) {  // It has just been killed, or this is a host that never tells.
    be_together_for_a_while(now);
    return;
  }
  const auto passed = static_cast<int64_t>(now - looked_at_);
  auto in_vain = static_cast<int64_t>(*thread - thread_waited_);
  if (looked_container_ == container)
    in_vain += static_cast<int64_t>(*containers - container_waited_);
  const bool first = looked_container_ == 0;
  looked_container_ = container;
  looked_at_ = now;
  thread_waited_ = *thread;
  container_waited_ = *containers;
  if (first) return;
  if (in_vain > passed / kCrowdedPart)
    be_together_for_a_while(now);
  else if (++good_ >= kGoodLooks)
    wait_ = kFirstWait;
}

void Placement::be_together_for_a_while(uint64_t now) {
  good_ = 0;
  apart_ = false;
  not_before_ = now + wait_;
  wait_ = std::min(2 * wait_, kLongestWait);
}

}  // namespace trapline
