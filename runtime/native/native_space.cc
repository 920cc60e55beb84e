#include "runtime/native/native_space.h"

#include <algorithm>
#include <utility>

namespace trapline {

namespace {
constexpr size_t kManyRemovals = 4096;  ///< From so many on, everything is unmapped at once.
constexpr size_t kFewTouched = 1024;    ///< Up to twice as many, nobody looks which are left.
constexpr size_t kDescriptors = 64;
constexpr uint32_t kAboveFloor = kDescriptors;  ///< Slots behind those.
constexpr uint32_t kUnreadableCode = kDescriptors + 1;
/// A stop costs some microseconds, and would be paid by so much time without one.
constexpr int64_t kStop = 1'000'000;
constexpr int64_t kFirstCredit = 64 * kStop;
constexpr int64_t kMostCredit = 4 * kFirstCredit;

constexpr uint64_t address_of(uint32_t page) {
  return uint64_t{page} << kPageShift;
}
}  // namespace

std::unique_ptr<NativeSpace> NativeSpace::make(std::unique_ptr<Container> container,
                                               uint64_t most_mappings,
                                               NativeMapCounters& counters) {
  HostPages rights = HostPages::reserve(kLinearPages);
  if (!rights) return nullptr;
  return std::unique_ptr<NativeSpace>(
      new NativeSpace(std::move(container), std::move(rights), most_mappings, counters));
}

NativeSpace::NativeSpace(std::unique_ptr<Container> container, HostPages rights,
                         uint64_t most_mappings, NativeMapCounters& counters)
    : container_(std::move(container)),
      rights_pages_(std::move(rights)),
      rights_(reinterpret_cast<uint8_t*>(rights_pages_.data())),
      most_mappings_(most_mappings),
      counters_(counters),
      still_touched_(kFewTouched),
      credit_(kFirstCredit) {}

void NativeSpace::set(uint32_t page, uint8_t rights) {
  const bool touched = rights_[page] != 0;
  rights_[page] = rights;
  if (touched || rights == 0) return;
  touched_.push_back(page);
  if (touched_.size() <= 2 * still_touched_) return;
  std::ranges::sort(touched_);
  const auto twice = std::ranges::unique(touched_);
  touched_.erase(twice.begin(), twice.end());
  std::erase_if(touched_, [this](uint32_t other) { return rights_[other] == 0; });
  still_touched_ = std::max(touched_.size(), kFewTouched);
}

void NativeSpace::set_translated(uint32_t page, bool on) {
  if (translated(page) != on) set(page, static_cast<uint8_t>(rights_[page] ^ kTranslated));
}

void NativeSpace::map(uint32_t page, uint32_t pages, uint8_t rights, uint64_t ram_offset) {
  if (mappings_ + 2 > most_mappings_) {
    ++counters_.mappings_evicted;
    forget_all();
    settle();
  } else if (unsettled()) {
    settle();  // An older removal of the same page must not come after it.
  }
  container_->map(address_of(page), address_of(pages), rights, ram_offset);
  mappings_ += 2;  // It may split one.
  ++counters_.mappings_made;
  counters_.pages_mapped += pages;
  for (uint32_t i = page; i < page + pages; ++i)
    set(i, static_cast<uint8_t>((rights_[i] & ~kAccess) | rights));
}

void NativeSpace::remove(uint32_t page) {
  if (rights_[page] == 0) return;
  if (rights(page) != 0) gone_.push_back(page);
  rights_[page] = 0;
  if (any_patched()) std::erase_if(patched_, [&](const PatchedPage& p) { return p.page == page; });
  if (gone_.size() > kManyRemovals) forget_all();
}

void NativeSpace::remove_writing(uint32_t page) {
  if (!(rights_[page] & native_access::kWrite)) return;
  rights_[page] = static_cast<uint8_t>(rights_[page] & ~native_access::kWrite);
  read_only_.push_back(page);
}

template <typename Visit>
void NativeSpace::for_each_run(std::vector<uint32_t>& pages, Visit visit) {
  std::ranges::sort(pages);
  for (size_t i = 0; i < pages.size();) {
    size_t end = i + 1;
    while (end < pages.size() && pages[end] <= pages[end - 1] + 1) ++end;
    visit(pages[i], pages[end - 1] - pages[i] + 1);
    i = end;
  }
  pages.clear();
}

void NativeSpace::settle() {
  if (all_gone_) {
    gone_.clear();
    read_only_.clear();
    container_->unmap(0, Container::kLowMemory);
    all_gone_ = false;
    mappings_ = 0;
  }
  // Writing first: a page of both lists is gone in the end.
  for_each_run(read_only_, [&](uint32_t page, uint32_t pages) {
    for (uint32_t i = page; i < page + pages; ++i)
      if (rights(i)) container_->protect(address_of(i), kPageSize, rights(i));
    mappings_ += 2;
  });
  for_each_run(gone_, [&](uint32_t page, uint32_t pages) {
    container_->unmap(address_of(page), address_of(pages));
    ++mappings_;
    ++counters_.mappings_removed;
  });
  container_->flush();
}

void NativeSpace::forget_all() {
  for (const uint32_t page : touched_) rights_[page] = 0;
  touched_.clear();
  still_touched_ = kFewTouched;
  patched_.clear();
  gone_.clear();
  read_only_.clear();
  all_gone_ = true;
}

void NativeSpace::become(uint32_t view) {
  forget_all();
  settle();
  for (uint32_t slot = 0; slot < Container::kWatches; ++slot) {
    container_->unwatch(slot);
    watched_[slot].reset();
  }
  credit_ = kFirstCredit;
  patch_end_ = kLinearPages;
  view_ = view;
}

bool NativeSpace::watch(uint32_t page, std::span<const uint16_t> offsets) {
  for (const uint16_t offset : offsets) {
    const auto address = static_cast<uint32_t>(address_of(page) + offset);
    if (std::ranges::find(watched_, address) != watched_.end()) continue;
    // What is watched in a page that is not executable, or in this one for what it was, can go.
    auto unused = std::ranges::find_if(watched_, [&](const Watch& other) {
      if (!other) return true;
      const uint32_t its_page = *other >> kPageShift;
      if (its_page != page) return !(rights(its_page) & native_access::kExecute);
      return std::ranges::find(offsets, *other & kPageMask) == offsets.end();
    });
    if (unused == watched_.end()) unused = watch_of_another_page(page);
    if (unused == watched_.end()) return false;
    unused->reset();
    if (!container_->watch(static_cast<uint32_t>(unused - watched_.begin()), address)) return false;
    *unused = address;
  }
  return true;
}

/// One after the other, since much code with such instructions runs once. Where that happens often
/// the pages stay as they are.
NativeSpace::Watches::iterator NativeSpace::watch_of_another_page(uint32_t page) {
  if (credit_ < kStop) return watched_.end();
  for (size_t i = 0; i < watched_.size(); ++i) {
    last_moved_ = (last_moved_ + 1) % watched_.size();
    const uint32_t other = *watched_[last_moved_] >> kPageShift;
    if (other == page) continue;
    credit_ -= kStop;
    remove(other);
    return watched_.begin() + static_cast<ptrdiff_t>(last_moved_);
  }
  return watched_.end();
}

uint16_t NativeSpace::selector_of(uint32_t base, uint32_t limit) {
  const Descriptor wanted{base, limit};
  const auto found = std::ranges::find(descriptors_, wanted);
  auto slot = static_cast<size_t>(found - descriptors_.begin());
  if (found == descriptors_.end()) {
    if (slot < kDescriptors) {
      descriptors_.push_back(wanted);
    } else {
      do slot = next_descriptor_++ % kDescriptors;
      while (slot == last_descriptor_);
      descriptors_[slot] = wanted;
    }
    container_->describe(static_cast<uint32_t>(slot), base, limit);
  }
  last_descriptor_ = slot;
  return Container::selector(static_cast<uint32_t>(slot));
}

// --- patched pages -----------------------------------------------------------------------------

bool NativeSpace::may_patch(uint32_t page) const {
  // Where data lies below the code, each access to it would stop.
  return page < patch_end_ && std::ranges::none_of(touched_, [&](uint32_t other) {
           return other < page && (rights_[other] & native_access::kWrite);
         });
}

void NativeSpace::map_patched(uint32_t page, uint64_t ram_offset,
                              std::span<const uint16_t> offsets) {
  map(page, 1, native_access::kRead | native_access::kExecute, ram_offset);
  patched_.push_back({page, {offsets.begin(), offsets.end()}});
}

std::vector<NativeSpace::PatchedPage>::const_iterator NativeSpace::find_patched(
    uint32_t page) const {
  return std::ranges::find(patched_, page, &PatchedPage::page);
}

bool NativeSpace::patched(uint32_t page) const {
  return find_patched(page) != patched_.end();
}

bool NativeSpace::patched_at(uint32_t address) const {
  const auto found = find_patched(address >> kPageShift);
  return found != patched_.end() &&
         std::ranges::find(found->offsets, address & kPageMask) != found->offsets.end();
}

NativeSpace::FlatSelectors NativeSpace::flat_selectors() {
  if (patched_.empty()) return {};
  const uint32_t highest = std::ranges::max(patched_, {}, &PatchedPage::page).page;
  if (!floor_) container_->describe_unreadable_code(kUnreadableCode);
  if (floor_ != highest) container_->describe_above(kAboveFloor, highest);
  floor_ = highest;
  return {Container::selector(kUnreadableCode), Container::selector(kAboveFloor)};
}

bool NativeSpace::is_flat_code(uint16_t selector) {
  constexpr int kPrivilege = 3;
  return (selector | kPrivilege) == TRAPLINE_FLAT_CS ||
         (selector | kPrivilege) == Container::selector(kUnreadableCode);
}

void NativeSpace::add_time(uint64_t nanoseconds) {
  credit_ = std::min(credit_ + static_cast<int64_t>(std::min<uint64_t>(nanoseconds, kMostCredit)),
                     kMostCredit);
}

bool NativeSpace::afford_stop() {
  credit_ -= kStop;
  return credit_ > 0;
}

void NativeSpace::give_up_patches() {
  if (patched_.empty()) return;
  patch_end_ = std::ranges::max(patched_, {}, &PatchedPage::page).page;
  remove(patch_end_);
  set_translated(patch_end_, true);
  credit_ = kFirstCredit;
}

}  // namespace trapline
