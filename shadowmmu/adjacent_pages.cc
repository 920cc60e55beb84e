#include "shadowmmu/adjacent_pages.h"

#include <sys/mman.h>

#include <algorithm>

#include "vcpu/address.h"

namespace trapline {

AdjacentPages::AdjacentPages(int ram_file)
    : file_(ram_file), places_(HostPages::reserve(kPairs * 2 * kPageSize)) {}

std::byte* AdjacentPages::place_of(size_t pair) const {
  return places_.data() + pair * 2 * kPageSize;
}

bool AdjacentPages::map(size_t pair) {
  std::byte* place = place_of(pair);
  for (const uint64_t offset : {pairs_[pair].first, pairs_[pair].second}) {
    if (mmap(place, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_,
             static_cast<off_t>(offset)) == MAP_FAILED)
      return false;
    place += kPageSize;
  }
  return true;
}

AdjacentPages::Found AdjacentPages::find(uint64_t first, uint64_t second) {
  if (!places_) return {};
  const auto same = [&](const Pair& pair) { return pair.first == first && pair.second == second; };
  auto found = std::ranges::find_if(pairs_, same);
  if (found == pairs_.end()) {
    found = std::ranges::min_element(pairs_, {}, &Pair::last_use);
    *found = {.first = first, .second = second};
  }
  found->last_use = ++uses_;
  const auto pair = static_cast<size_t>(found - pairs_.begin());
  if (found->asked >= kOften) return {State::kThere, place_of(pair)};
  if (++found->asked < kOften) return {State::kNotYet, nullptr};
  if (map(pair)) return {State::kNew, place_of(pair)};
  *found = {};
  return {State::kFailed, nullptr};
}

}  // namespace trapline
