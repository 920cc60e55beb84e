#include <algorithm>

#include "shadowmmu/shadow_mmu_impl.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

// Two contexts that translate alike have one key.
PagingContext normalised(const PagingContext& context, bool user) {
  PagingContext key;
  key.address_mask = context.address_mask;
  if (!context.paging) return key;
  key = context;
  if (user) key.write_protect = false;
  if (key.pae) {
    key.root = 0;
    key.pse = key.pse36 = false;
  } else {
    key.root &= ~kPageMask;
    key.pse36 = key.pse && key.pse36;
    key.pdpte = {};
    key.nxe = false;
  }
  return key;
}

constexpr uint64_t mixed(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 32;
}

}  // namespace

uint32_t ShadowMmu::Impl::bucket_of(const PagingContext& key, bool user) {
  uint64_t hash = key.root | (key.write_protect ? 1u : 0u) | (user ? 2u : 0u);
  if (key.pae)
    for (const uint64_t pdpte : key.pdpte) hash = mixed(hash, pdpte);
  return static_cast<uint32_t>(mixed(hash, key.address_mask));
}

ShadowView& ShadowMmu::Impl::activate(const PagingContext& context, bool user) {
  Recent& recent = recent_[user ? 1 : 0];
  if (!recent.view || recent.context != context) {
    const PagingContext key = normalised(context, user);
    ShadowView* found = find(key, user);
    if (!found) found = &make(key, user);
    if (found->asleep()) wake(*found);
    recent = {context, found};
  }
  ShadowView& chosen = *recent.view;
  activated_[chosen.slot()] = ++clock_;
  if (&chosen != current_) {
    ++counters_.view_switches;
    current_ = &chosen;
    chosen.idle_writes = 0;
    keep_one_entry_width(chosen);
  }
  return chosen;
}

ShadowView* ShadowMmu::Impl::find(const PagingContext& key, bool user) {
  ViewSlot slot = buckets_[bucket_of(key, user) % buckets_.size()];
  while (slot && (view(slot).user() != user || view(slot).context() != key))
    slot = view(slot).next_in_bucket;
  return slot ? &view(slot) : nullptr;
}

ShadowView& ShadowMmu::Impl::make(const PagingContext& key, bool user) {
  ShadowView* made = user ? nullptr : adopted(key);
  if (!made) {
    made = views_.size() <= view_limit_ ? fresh() : nullptr;
    if (!made) made = &recycled();
    made->become(key, user, ++serials_);
  }
  ViewSlot& bucket = buckets_[bucket_of(key, user) % buckets_.size()];
  made->next_in_bucket = bucket;
  bucket = made->slot();
  return *made;
}

ShadowView* ShadowMmu::Impl::fresh() {
  std::unique_ptr<ShadowView> made = ShadowView::create(static_cast<ViewSlot>(views_.size()));
  if (!made) return nullptr;
  views_.push_back(std::move(made));
  activated_.push_back(0);
  ++counters_.views_created;
  return views_.back().get();
}

ShadowView& ShadowMmu::Impl::recycled() {
  TRAPLINE_ASSERT(views_.size() > 3 && "the host gives no memory for shadow page tables");
  const auto oldest = std::min_element(activated_.begin() + 1, activated_.end());
  ShadowView& victim = view(static_cast<ViewSlot>(oldest - activated_.begin()));
  unhash(victim);
  for (Recent& recent : recent_)
    if (recent.view == &victim) recent.view = nullptr;
  empty(victim);
  ++counters_.views_recycled;
  return victim;
}

void ShadowMmu::Impl::unhash(ShadowView& gone) {
  ViewSlot* place = &buckets_[bucket_of(gone.context(), gone.user()) % buckets_.size()];
  while (*place != gone.slot()) place = &view(*place).next_in_bucket;
  *place = gone.next_in_bucket;
}

// Setting A or D takes nothing from an entry, unless somebody reads the same bytes as entries of
// the other width, where those bits are part of an address. So views of two widths never both hold
// derived pages: a guest that turns PAE on or off starts anew.
void ShadowMmu::Impl::keep_one_entry_width(const ShadowView& chosen) {
  if (!chosen.context().paging || chosen.pae() == wide_entries_) return;
  wide_entries_ = chosen.pae();
  for (ViewSlot slot = 1; slot < views_.size(); ++slot) {
    ShadowView& other = view(slot);
    if (other.context().paging && other.pae() != wide_entries_) empty(other);
  }
}

}  // namespace trapline
