// A kernel frees the directory of a dead process without clearing the half that all processes
// share. Either the frame is put to another use, or it becomes the directory of a new process: then
// it is cleared, the shared half is copied back, and of what the view holds of that half all is
// true again. So a view that is not active falls asleep when its directory is written: nobody
// follows that any more, and what was derived stays. When the view is wanted again, the directory's
// entries are compared with what they were.
#include <algorithm>
#include <cstring>

#include "shadowmmu/shadow_mmu_impl.h"

namespace trapline {
namespace {

/// What sleeps is in the lists of frames and tables, which others go through.
constexpr size_t kMostAsleep = 32;

}  // namespace

/// `before` has some of the directory's entries as they were before they were written.
template <typename Layout>
void ShadowMmu::Impl::fall_asleep(ShadowView& view, uint32_t use_index, const Before& before) {
  using Entry = typename Layout::Entry;
  const std::byte* now = memory_.frame(before.frame).host;
  if (!view.asleep()) asleep_.push_back(view.slot());
  view.for_each_region([&](uint32_t region) {
    if (view.directory_use_of(view.page_under(region, 0)) != use_index) return;
    const auto at = static_cast<uint32_t>(view.entry_of_region(region) * sizeof(Entry));
    Entry entry;
    std::memcpy(&entry, before.has(at) ? before.bytes + (at - before.first) : now + at,
                sizeof entry);
    view.sleeping.push_back({region, entry});
  });
  release_use(view, use_index);
  view.idle_writes = 0;
  ++counters_.sleeps;
  drop_sleepers_beyond_limit();
}

template void ShadowMmu::Impl::fall_asleep<paging::TwoLevel>(ShadowView&, uint32_t, const Before&);
template void ShadowMmu::Impl::fall_asleep<paging::Pae>(ShadowView&, uint32_t, const Before&);

void ShadowMmu::Impl::drop_sleepers_beyond_limit() {
  if (asleep_.size() <= kMostAsleep) return;
  ShadowView& longest = view(asleep_.front());
  asleep_.erase(asleep_.begin());
  for (const SleepingRegion& slept : std::exchange(longest.sleeping, {}))
    drop_region(longest, slept.region, Notice::kPerPage);
}

void ShadowMmu::Impl::wake(ShadowView& view) {
  std::erase(asleep_, view.slot());
  for (const SleepingRegion& slept : std::exchange(view.sleeping, {})) {
    if (view.use(slept.region).live == 0) continue;
    if (view.pae())
      compare_with_sleep<paging::Pae>(view, slept);
    else
      compare_with_sleep<paging::TwoLevel>(view, slept);
  }
}

/// The directory is followed again before its entry is read: until then a mirror may write it.
template <typename Layout>
void ShadowMmu::Impl::compare_with_sleep(ShadowView& view, const SleepingRegion& slept) {
  using Entry = typename Layout::Entry;
  const uint32_t directory = view.directory_use_of(view.page_under(slept.region, 0));
  const uint64_t frame = view.use(directory).frame;
  trace(view, directory, frame);
  Entry now;
  std::memcpy(&now, memory_.frame(frame).host + view.entry_of_region(slept.region) * sizeof now,
              sizeof now);
  const auto was = static_cast<Entry>(slept.entry);
  lose(view, slept.region, directory_loss(Layout(view.context()), was, now));
}

}  // namespace trapline
