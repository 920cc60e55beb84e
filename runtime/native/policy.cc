#include "runtime/native/policy.h"

#include <algorithm>

namespace trapline {

namespace {
// Nanoseconds. docs/direct-execution.md tells where they come from.
constexpr uint64_t kMostCost = 50'000;  ///< More is because the host is busy.
constexpr int64_t kFirstCredit = 4'000'000;
constexpr int64_t kEarned = 16'000'000;  ///< On top of the first credit: it has done well.
constexpr uint64_t kShortestLook = 500'000;
constexpr uint64_t kWorth = 60'000;
constexpr uint64_t kFirstPenalty = 20'000'000;
constexpr uint64_t kMostPenalty = 4'000'000'000;

constexpr uint64_t kShortStay = 20'000;
constexpr uint32_t kBurst = 16;  ///< Short stays in a row that ended in the guest's page faults.

constexpr uint32_t kGoodLooks = 2;
/// What a stay is taken to have gained: this part of its own time.
constexpr uint64_t kGainShare = 2;
/// The shortest stay is taken to have been longer by this part of it with each that follows.
constexpr uint64_t kForgets = 64;
/// What is mapped stays mapped: later stays are to pay for it, too.
constexpr uint64_t kMappingShare = 4;
/// The first credit of a long demotion's end is this part of it.
constexpr uint64_t kCreditShare = 64;
constexpr size_t kMostSpaces = 1024;
}  // namespace

const std::array<const char*, kNativeCauses> kNativeCauseNames = {
    "kick",   "mapping",     "code",        "translated", "reflected",
    "access", "system_call", "instruction", "lost"};

void NativePolicy::recall(uint32_t view) {
  const auto found = spaces_.find(view);
  recent_view_ = view;
  recent_native_ = view != resting_view_ && found != spaces_.end() && found->second.native;
}

void NativePolicy::look(uint32_t view, uint64_t now, uint64_t entries) {
  const bool again = view == looked_view_;
  const uint64_t span = now - looked_at_;
  if (again && span < kShortestLook) return;
  const uint64_t own = entries - looked_entries_ + 1;
  looked_view_ = view;
  looked_at_ = now;
  looked_entries_ = entries;
  if (view == resting_view_) {
    resting_view_ = 0;
    recall(view);
  }
  if (!again) return;
  if (spaces_.size() >= kMostSpaces)
    std::erase_if(spaces_, [](const auto& s) { return !s.second.native; });
  Space& space = spaces_[view];
  space.good = span / own >= kWorth ? space.good + 1 : 0;
  if (space.native || space.good < kGoodLooks || now < space.not_before) return;
  space.native = true;
  space.good = 0;
  space.credit = std::max(kFirstCredit, static_cast<int64_t>(space.penalty / kCreditShare));
  space.most = space.credit + kEarned;
  space.events.fill(0);
  ++counters_.promotions;
  recall(view);
}

void NativePolicy::stayed(uint32_t view, uint64_t now, uint64_t time, uint64_t cost,
                          NativeCause cause) {
  Space& space = spaces_[view];
  ++space.events[static_cast<size_t>(cause)];
  const bool maps = cause == NativeCause::kMapping || cause == NativeCause::kCode;
  const uint64_t lasting = maps ? kMappingShare : 1;
  // A signal and the return from it are in the time; the shortest of the last stays has little
  // else.
  uint64_t& shortest = space.shortest[static_cast<size_t>(cause)];
  shortest = std::min({time, shortest + shortest / kForgets, kMostSignal});
  const auto gained = static_cast<int64_t>((time - shortest) / kGainShare);
  const uint64_t whole_cost = std::min(cost + shortest, kMostCost);
  space.credit += gained - static_cast<int64_t>(whole_cost / lasting);
  if (space.credit >= space.most) {
    space.most = kFirstCredit + kEarned;
    space.credit = std::min(space.credit, space.most);
    space.penalty = 0;
  }
  space.burst = cause == NativeCause::kReflected && time < kShortStay ? space.burst + 1 : 0;
  if (space.burst >= kBurst) {
    space.burst = 0;
    resting_view_ = view;
    ++counters_.rests;
    recall(view);
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
  if (view == resting_view_) resting_view_ = 0;
  if (view == recent_view_) recall(0);
}

}  // namespace trapline
