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

using paging::Loss;

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
  const uint32_t first = view.page_under(slept.region, 0);
  const auto place = directory_entry(view.context(), {first << kPageShift});
  const Frame* frame = place ? &memory_.frame(place->frame()) : nullptr;
  if (!frame || frame->kind != FrameKind::kRam) return lose(view, slept.region, Loss::kEverything);
  trace(view, view.directory_use_of(first), place->frame());
  Entry now;
  std::memcpy(&now, frame->host + place->offset(), sizeof now);
  lose(view, slept.region,
       directory_loss(Layout(view.context()), static_cast<Entry>(slept.entry), now));
}

/// Whether all that a supervisor's view holds came from directories that the address space has,
/// too, or from such as are not followed, so that it can be found out what it lacks.
bool ShadowMmu::Impl::can_become(const ShadowView& view, const PagingContext& key) const {
  if (view.user() || is_active(view)) return false;
  PagingContext alike = view.context();
  alike.root = key.root;
  alike.pdpte = key.pdpte;
  if (alike != key) return false;
  for (uint32_t i = 0; i < kMaxDirectories; ++i) {
    const TableUse& directory = view.use(kMaxRegions + i);
    if (directory.live == 0) continue;
    const bool same = view.pae() && view.context().pdpte[i] == key.pdpte[i];
    if (directory.linked ? !same : !view.sleeps_under(kMaxRegions + i)) return false;
  }
  return view.holds_any();
}

/// The view of another address space, most likely a dead one, as the one of this address space, in
/// which it has yet to wake. nullptr when there is none.
ShadowView* ShadowMmu::Impl::adopted(const PagingContext& key) {
  ViewSlot latest = 0;
  for (ViewSlot slot = 1; slot < views_.size(); ++slot)
    if (can_become(view(slot), key) && (latest == 0 || activated_[slot] > activated_[latest]))
      latest = slot;
  if (latest == 0) return nullptr;
  ShadowView& found = view(latest);
  unhash(found);
  found.move_to(key);
  ++counters_.views_adopted;
  return &found;
}

}  // namespace trapline
