#include "shadowmmu/shadow_mmu_impl.h"
#include "vcpu/assert.h"

namespace trapline {

void ShadowMmu::Impl::drop_page(ShadowView& view, uint32_t page, Notice notice) {
  PageNode& node = view.node(page);
  TRAPLINE_ASSERT(node.live());
  view.set_read(page, 0);
  view.set_write(page, 0);
  if (node.flags & derived::kListed) unlist(view, page);
  node.flags = 0;
  view.note_dead(page);
  ++removals_;
  ++counters_.entries_dropped;

  const uint32_t region = view.region_of(page);
  if (--view.use(region).live == 0) {
    view.note_region_dead(region);
    release_use(view, region);
  }
  const uint32_t directory = view.directory_use_of(page);
  if (--view.use(directory).live == 0) release_use(view, directory);
  if (notice == Notice::kNone) return;
  observer_.mapping_dropped(view, page);
  if (view.use(directory).live == 0 && !view.holds_any()) observer_.view_emptied(view);
}

void ShadowMmu::Impl::drop_write(ShadowView& view, uint32_t page) {
  PageNode& node = view.node(page);
  if (!(node.flags & derived::kWrite)) return;
  node.flags &= ~derived::kWrite;
  view.set_write(page, 0);
  ++removals_;
  ++counters_.entries_dropped;
  observer_.writing_dropped(view, page);
}

void ShadowMmu::Impl::drop_region(ShadowView& view, uint32_t region, Notice notice) {
  view.for_each_page(region, [&](uint32_t page) { drop_page(view, page, notice); });
}

void ShadowMmu::Impl::lose(ShadowView& view, uint32_t region, paging::Loss lost) {
  if (lost == paging::Loss::kEverything) drop_region(view, region, Notice::kPerPage);
  if (lost == paging::Loss::kWriting)
    view.for_each_page(region, [&](uint32_t page) { drop_write(view, page); });
}

void ShadowMmu::Impl::empty(ShadowView& view) {
  view.for_each_region([&](uint32_t region) { drop_region(view, region, Notice::kNone); });
  view.trim();
  observer_.view_dropped(view);
  std::erase(asleep_, view.slot());
  view.become(view.context(), view.user(), ++serials_);
}

void ShadowMmu::Impl::unlist(ShadowView& view, uint32_t page) {
  const PageNode& gone = view.node(page);
  if (gone.previous)
    node(gone.previous).next = gone.next;
  else
    heads(gone.frame).pages = gone.next;
  if (gone.next) node(gone.next).previous = gone.previous;
}

void ShadowMmu::Impl::release_use(ShadowView& view, uint32_t use_index) {
  TableUse& gone = view.use(use_index);
  if (!gone.linked) return;
  gone.linked = 0;
  if (gone.next) use(gone.next).previous = gone.previous;
  if (gone.previous) {
    use(gone.previous).next = gone.next;
    return;
  }
  heads(gone.frame).uses = gone.next;
  if (gone.next) return;
  memory_.clear_denial(gone.frame, denial::kPageTable);
  ++counters_.traces_cleared;
}

void ShadowMmu::Impl::deny_writes(uint64_t frame, uint8_t reason) {
  const bool in_write_tables = memory_.frame(frame).denials == 0;
  memory_.set_denial(frame, reason);
  if (!in_write_tables || !has_lists(frame)) return;
  for (PageLink link = heads(frame).pages; link; link = node(link).next) {
    ShadowView& holder = view(link.slot());
    if (holder.write_entry(link.page()) == 0) continue;
    holder.set_write(link.page(), 0);
    ++removals_;
    observer_.writing_dropped(holder, link.page());
  }
  observer_.writes_denied(frame);
}

void ShadowMmu::Impl::allow_writes(uint64_t frame, uint8_t reason) {
  memory_.clear_denial(frame, reason);
}

void ShadowMmu::Impl::for_each_mapping(uint64_t frame,
                                       const std::function<void(View&, uint32_t page)>& visit) {
  if (!has_lists(frame)) return;
  for (PageLink link = heads(frame).pages; link; link = node(link).next)
    visit(view(link.slot()), link.page());
}

void ShadowMmu::Impl::map_changed() {
  for (ViewSlot slot = 1; slot < views_.size(); ++slot) empty(view(slot));
}

}  // namespace trapline
