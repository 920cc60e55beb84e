#include <tuple>

#include "shadowmmu/shadow_mmu_impl.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr uint32_t right_for(Access access) {
  switch (access) {
    case Access::kRead:
      return derived::kRead;
    case Access::kWrite:
      return derived::kWrite;
    case Access::kExecute:
      return derived::kExecute;
  }
  return 0;
}

// What may be derived from a walk that was made for one kind of access. Reading gives writing too
// where nothing in the tables would change by it.
uint32_t rights_from(const Walk& walk, const ShadowView& view, const Frame& frame, Access access) {
  if (access == Access::kExecute) return derived::kExecute;
  if (access == Access::kWrite) return derived::kRead | derived::kWrite;
  const bool writable = walk.writable || (!view.user() && !view.context().write_protect);
  const bool write_too = writable && walk.dirty && frame.kind == FrameKind::kRam;
  return write_too ? derived::kRead | derived::kWrite : derived::kRead;
}

bool leads_alike(const Walk& one, const Walk& other) {
  const auto told = [](const Walk& walk) {
    return std::tuple(walk.address, walk.user, walk.writable, walk.executable, walk.large,
                      walk.dirty, walk.steps, walk.step[0].entry, walk.step[1].entry);
  };
  return told(one) == told(other);
}

}  // namespace

OrFault<Resolution> ShadowMmu::Impl::resolve(ShadowView& view, Linear address, Access access) {
  const uint32_t page = address.page();
  if (view.node(page).flags & right_for(access)) return reach(view, address, access);

  ++counters_.walks;
  const OrFault<Walk> walked =
      walk_page(view.context(), memory_, address, access, view.user(), WalkMode::kArchitectural);
  if (!walked.ok()) {
    ++counters_.faults;
    return walked.fault();
  }
  const Walk& walk = *walked;
  const Frame& frame = memory_.frame(walk.address.frame());
  if (frame.kind == FrameKind::kAbsent ||
      (frame.kind == FrameKind::kRom && access == Access::kWrite))
    return Resolution{Resolution::Kind::kAbsent, 0, nullptr, walk.address};
  ++counters_.fills;
  PageNode& node = view.node(page);
  const uint64_t traces = counters_.traces_set;
  if (!node.live()) attach(view, page, walk, frame);
  TRAPLINE_ASSERT(node.frame == walk.address.frame());
  node.flags |= rights_from(walk, view, frame, access);
  // By way of a mirror a table may have been written until it was traced just now.
  if (counters_.traces_set != traces) {
    const auto now =
        walk_page(view.context(), memory_, address, access, view.user(), WalkMode::kPeek);
    if (!now.ok() || !leads_alike(*now, walk)) {
      drop_page(view, page, Notice::kPerPage);
      return resolve(view, address, access);
    }
  }
  return reach(view, address, access);
}

// The answer for a page from which the access is derived. A device's has no entry: that it was
// walked to is all that is remembered of it. A denial may have come since the page
// was derived, or gone.
Resolution ShadowMmu::Impl::reach(ShadowView& view, Linear address, Access access) {
  const uint32_t page = address.page();
  const PageNode& node = view.node(page);
  const Frame& frame = memory_.frame(node.frame);
  Resolution resolution;
  resolution.address = {uint64_t{node.frame} << kPageShift | address.offset()};
  if (frame.kind == FrameKind::kMmio) {
    resolution.kind = Resolution::Kind::kMmio;
    return resolution;
  }
  resolution.host = frame.host + address.offset();
  resolution.kind = Resolution::Kind::kHost;
  if (access == Access::kExecute) return resolution;

  const uint64_t entry = reinterpret_cast<uint64_t>(frame.host) - (uint64_t{page} << kPageShift);
  view.set_read(page, entry);
  if (frame.denials == 0) {
    if (node.flags & derived::kWrite) view.set_write(page, entry);
  } else if (access == Access::kWrite) {
    resolution.kind = Resolution::Kind::kDenied;
    resolution.denials = frame.denials;
  }
  return resolution;
}

// The tables are traced first: the page may map one of them.
void ShadowMmu::Impl::attach(ShadowView& view, uint32_t page, const Walk& walk,
                             const Frame& target) {
  const uint32_t region = view.region_of(page);
  const uint32_t directory = view.directory_use_of(page);
  if (walk.steps > 0) trace(view, directory, walk.step[0].entry.frame());
  if (walk.steps > 1) trace(view, region, walk.step[1].entry.frame());
  ++view.use(directory).live;
  ++view.use(region).live;
  view.note_live(page);

  PageNode& node = view.node(page);
  const uint64_t frame = walk.address.frame();
  node.frame = static_cast<uint32_t>(frame);
  if (target.kind != FrameKind::kRam) return;
  PageLink& head = heads(frame).pages;
  const PageLink link = PageLink::to(view.slot(), page);
  node.flags = derived::kListed;
  node.previous = {};
  node.next = head;
  if (head) this->node(head).previous = link;
  head = link;
}

void ShadowMmu::Impl::trace(ShadowView& view, uint32_t use_index, uint64_t frame) {
  TableUse& use = view.use(use_index);
  if (use.linked) {
    TRAPLINE_ASSERT(use.frame == frame);
    return;
  }
  if (memory_.frame(frame).kind != FrameKind::kRam) return;
  UseLink& head = heads(frame).uses;
  if (!head) {
    deny_writes(frame, denial::kPageTable);
    ++counters_.traces_set;
  }
  const UseLink link = UseLink::to(view.slot(), use_index);
  use.frame = static_cast<uint32_t>(frame);
  use.linked = 1;
  use.previous = {};
  use.next = head;
  if (head) this->use(head).previous = link;
  head = link;
}

}  // namespace trapline
