#include "runtime/native/policy.h"

#include <algorithm>

namespace trapline {

namespace {
// Nanoseconds. docs/direct-execution.md tells where they come from.
constexpr uint64_t kMostCost = 50'000;  ///< More is because the host is busy.
constexpr int64_t kFirstCredit = 4'000'000;
constexpr int64_t kMostCredit = 20'000'000;
constexpr uint64_t kShortestLook = 500'000;
constexpr uint64_t kWorth = 200'000;
constexpr uint64_t kFirstPenalty = 20'000'000;
constexpr uint64_t kMostPenalty = 4'000'000'000;

constexpr uint32_t kGoodLooks = 2;
constexpr uint64_t kGain = 3;  ///< A third of a stay is taken for gained.
constexpr size_t kMostSpaces = 1024;
}  // namespace

const std::array<const char*, kNativeCauses> kNativeCauseNames = {
    "kick", "mapping", "code", "reflected", "access", "system_call", "instruction", "lost"};

void NativePolicy::recall(uint32_t view) {
  const auto found = spaces_.find(view);
  recent_view_ = view;
  recent_native_ = found != spaces_.end() && found->second.native;
}

void NativePolicy::look(uint32_t view, uint64_t now, uint64_t entries) {
  const bool again = view == looked_view_;
  const uint64_t span = now - looked_at_;
  if (again && span < kShortestLook) return;
  const uint64_t own = entries - looked_entries_ + 1;
  looked_view_ = view;
  looked_at_ = now;
  looked_entries_ = entries;
  if (!again) return;
  if (spaces_.size() >= kMostSpaces)
    std::erase_if(spaces_, [](const auto& s) { return !s.second.native; });
  Space& space = spaces_[view];
  space.good = span / own >= kWorth ? space.good + 1 : 0;
  if (space.native || space.good < kGoodLooks || now < space.not_before) return;
  space.native = true;
  space.good = 0;
  space.credit = kFirstCredit;
  space.events.fill(0);
  ++counters_.promotions;
  recall(view);
}

void NativePolicy::stayed(uint32_t view, uint64_t now, uint64_t time, uint64_t cost,
                          NativeCause cause) {
  Space& space = spaces_[view];
  ++space.events[static_cast<size_t>(cause)];
  space.credit +=
      static_cast<int64_t>(time / kGain) - static_cast<int64_t>(std::min(cost, kMostCost));
  if (space.credit >= kMostCredit) {
    space.credit = kMostCredit;
    space.penalty = 0;
  }
  if (space.credit >= 0 || !space.native) return;
  space.native = false;
  space.penalty = std::clamp(space.penalty * 2, kFirstPenalty, kMostPenalty);
  space.not_before = now + space.penalty;
  ++counters_.demotions;
  const auto most = std::ranges::max_element(space.events);
  ++counters_.demotions_by[static_cast<size_t>(most - space.events.begin())];
  recall(view);
}

void NativePolicy::forget(uint32_t view) {
  spaces_.erase(view);
  if (view == recent_view_) recall(0);
}

}  // namespace trapline
