#include <cstdio>
#include <unordered_map>
#include <unordered_set>

#include "shadowmmu/paging_bits.h"
#include "shadowmmu/shadow_mmu_impl.h"

namespace trapline {

// Walks everything once, and keeps the first thing found wrong.
class ShadowMmu::Impl::Checker {
 public:
  explicit Checker(Impl& mmu) : mmu_(mmu) {}

  std::string run() {
    for (ViewSlot slot = 1; slot < mmu_.views_.size() && complaint_.empty(); ++slot)
      check_view(mmu_.view(slot));
    for (uint64_t frame = 0; frame < mmu_.listed_frames_ && complaint_.empty(); ++frame)
      check_frame(frame);
    if (complaint_.empty() && listed_seen_ != listed_expected_)
      complain("pages in frames' lists", listed_seen_, listed_expected_);
    if (complaint_.empty() && uses_seen_ != uses_expected_)
      complain("table uses in frames' lists", uses_seen_, uses_expected_);
    return complaint_;
  }

 private:
  void complain(const char* what, uint64_t where, uint64_t detail = 0) {
    if (!complaint_.empty()) return;
    char text[200];
    std::snprintf(text, sizeof text, "%s (0x%llx, 0x%llx)", what,
                  static_cast<unsigned long long>(where), static_cast<unsigned long long>(detail));
    complaint_ = text;
  }

  void check_view(ShadowView& view) {
    std::unordered_map<uint32_t, uint32_t> live;
    sleeping_.clear();
    for (const SleepingRegion& slept : view.sleeping) sleeping_.insert(slept.region);
    view.for_each_touched_page([&](uint32_t page) {
      const PageNode& node = view.node(page);
      if (view.noted_live(page) != node.live()) complain("a page's live mark is wrong", page);
      if (node.live()) {
        ++live[view.region_of(page)];
        ++live[view.directory_use_of(page)];
        check_page(view, page);
      } else if (view.read_entry(page) || view.write_entry(page)) {
        complain("an entry that is derived from nothing", page);
      }
    });
    for (uint32_t index = 0; index < kUsesPerView; ++index) {
      const TableUse& use = view.use(index);
      const auto counted = live.find(index);
      if (use.live != (counted == live.end() ? 0 : counted->second))
        complain("a live count is wrong", index, use.live);
      if (index < kMaxRegions && view.region_noted_live(index) != (use.live != 0))
        complain("a region's live mark is wrong", index);
      if (use.linked && use.live == 0) complain("a use of nothing", index);
      if (use.linked) ++uses_expected_;
    }
  }

  void check_page(ShadowView& view, uint32_t page) {
    const PageNode& node = view.node(page);
    const Frame& frame = mmu_.memory_.frame(node.frame);
    const uint64_t entry = reinterpret_cast<uint64_t>(frame.host) - (uint64_t{page} << kPageShift);
    const bool device = frame.kind == FrameKind::kMmio;
    if (!frame.host && !device) return complain("V1: a page of nothing is derived", page);
    if (node.flags & derived::kListed) ++listed_expected_;
    if (node.flags & derived::kRead) check_right(view, page, Access::kRead);
    if (node.flags & derived::kWrite) check_right(view, page, Access::kWrite);
    if (node.flags & derived::kExecute) check_right(view, page, Access::kExecute);
    check_entry(page, view.read_entry(page), entry, !device && node.flags & derived::kRead);
    check_entry(page, view.write_entry(page), entry, !device && node.flags & derived::kWrite);
    if (view.write_entry(page) && (frame.denials || frame.kind != FrameKind::kRam))
      complain("V2: a denied frame is in a write table", page, node.frame);
  }

  void check_entry(uint32_t page, uint64_t entry, uint64_t expected, bool right) {
    if (entry != 0 && (!right || entry != expected))
      complain("V1: an entry leads elsewhere", page, entry);
  }

  void check_right(ShadowView& view, uint32_t page, Access access) {
    if (sleeping_.contains(view.region_of(page))) {
      if (view.use(view.directory_use_of(page)).linked) complain("V2: traced in its sleep", page);
      return;
    }
    const OrFault<Walk> walk = walk_page(view.context(), mmu_.memory_, {page << kPageShift}, access,
                                         view.user(), WalkMode::kPeek);
    if (!walk.ok()) return complain("V1: the tables no longer allow it", page, view.slot());
    if (walk->address.frame() != view.node(page).frame)
      complain("V1: the tables lead to another frame", page, walk->address.frame());
    if (access == Access::kWrite && in_ram(*walk, walk->steps) && !walk->dirty)
      complain("V1: written without D", page);
    for (uint32_t i = 0; i < walk->steps; ++i) check_step(view, page, *walk, i);
  }

  bool in_ram(const Walk& walk, uint32_t steps) {
    return steps == 0 ||
           mmu_.memory_.frame(walk.step[steps - 1].entry.frame()).kind == FrameKind::kRam;
  }

  void check_step(ShadowView& view, uint32_t page, const Walk& walk, uint32_t i) {
    if (!in_ram(walk, i + 1)) return;
    if (!(walk.step[i].value & paging::kAccessed)) complain("V1: used without A", page);
    const uint32_t index = i == 0 ? view.directory_use_of(page) : view.region_of(page);
    const TableUse& use = view.use(index);
    const uint64_t table = walk.step[i].entry.frame();
    if (!use.linked || use.frame != table) complain("V2: a table without its use", page, table);
    if (!(mmu_.memory_.frame(table).denials & denial::kPageTable))
      complain("V2: an untraced table", page, table);
  }

  void check_frame(uint64_t frame) {
    const FrameHeads& heads = mmu_.heads(frame);
    PageLink page_before;
    for (PageLink link = heads.pages; link; link = mmu_.node(link).next, ++listed_seen_) {
      const PageNode& node = mmu_.node(link);
      if (node.frame != frame || !(node.flags & derived::kListed) || node.previous != page_before)
        return complain("a frame's list of pages is broken", frame, link.raw);
      page_before = link;
    }
    UseLink use_before;
    for (UseLink link = heads.uses; link; link = mmu_.use(link).next, ++uses_seen_) {
      const TableUse& use = mmu_.use(link);
      if (use.frame != frame || !use.linked || use.previous != use_before)
        return complain("a frame's list of uses is broken", frame, link.raw);
      use_before = link;
    }
    if (!heads.uses && (mmu_.memory_.frame(frame).denials & denial::kPageTable))
      complain("V2: traced for nothing", frame);
  }

  Impl& mmu_;
  std::string complaint_;
  std::unordered_set<uint32_t> sleeping_;  ///< Regions of the view.
  uint64_t listed_seen_ = 0, listed_expected_ = 0;
  uint64_t uses_seen_ = 0, uses_expected_ = 0;
};

std::string ShadowMmu::Impl::check_invariants() {
  return Checker(*this).run();
}

}  // namespace trapline
