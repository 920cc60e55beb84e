// One view with its bookkeeping: what each page was derived from, and through which guest tables.
//
// A derived page hangs in the list of the frame that it maps, and counts as live in two table uses:
// that of its region (what one directory entry covers: 4 MiB, or 2 MiB with PAE) and that of its
// directory. A use hangs in the list of the frame that holds the guest's table. Everything lies in
// arrays indexed by page, region and directory, so nothing is allocated on the way, and a list's
// links are (view, index) pairs.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include "shadowmmu/host_pages.h"
#include "shadowmmu/page_walk.h"
#include "shadowmmu/shadow_mmu.h"

namespace trapline {

/// Views have numbers from 1, so that a zero link is none.
using ViewSlot = uint32_t;
inline constexpr ViewSlot kMaxViews = (1u << 12) - 1;

/// A page of a view.
struct PageLink {
  uint32_t raw = 0;
  static PageLink to(ViewSlot slot, uint32_t page) { return {slot << 20 | page}; }
  explicit operator bool() const { return raw != 0; }
  ViewSlot slot() const { return raw >> 20; }
  uint32_t page() const { return raw & (kLinearPages - 1); }
  bool operator==(const PageLink&) const = default;
};

/// A table use of a view.
struct UseLink {
  uint32_t raw = 0;
  static UseLink to(ViewSlot slot, uint32_t index) { return {slot << 12 | index}; }
  explicit operator bool() const { return raw != 0; }
  ViewSlot slot() const { return raw >> 12; }
  uint32_t index() const { return raw & 0xfff; }
  bool operator==(const UseLink&) const = default;
};

/// What a page's node holds besides its links. A page with any of the first three is derived.
namespace derived {
inline constexpr uint32_t kRead = 1u << 0;
inline constexpr uint32_t kWrite = 1u << 1;  ///< The tables allow it; a denial may still forbid it.
inline constexpr uint32_t kExecute = 1u << 2;
inline constexpr uint32_t kAny = kRead | kWrite | kExecute;
inline constexpr uint32_t kListed = 1u << 3;  ///< In its frame's list. RAM only.
}  // namespace derived

struct PageNode {
  uint32_t frame = 0;
  uint32_t flags = 0;
  PageLink previous, next;

  bool live() const { return flags & derived::kAny; }
};

struct TableUse {
  uint32_t frame = 0;
  uint32_t live = 0;    ///< Derived pages of the region, or under the directory.
  uint32_t linked = 0;  ///< In the list of `frame`. Not so without paging and for tables in ROM.
  UseLink previous, next;
};

/// A region under a directory that is not followed, and the directory's entry as it was until then.
struct SleepingRegion {
  uint32_t region = 0;
  uint64_t entry = 0;
};

inline constexpr uint32_t kMaxRegions = 2048;
inline constexpr uint32_t kMaxDirectories = 4;
inline constexpr uint32_t kUsesPerView = kMaxRegions + kMaxDirectories;

class ShadowView final : public View {
 public:
  /// nullptr when the host refuses the memory.
  static std::unique_ptr<ShadowView> create(ViewSlot slot);

  /// An empty view takes on another identity.
  void become(const PagingContext& context, bool user, uint32_t serial);

  /// It becomes that of another address space, with what it holds.
  void move_to(const PagingContext& context) { context_ = context; }

  ViewSlot slot() const { return slot_; }
  const PagingContext& context() const { return context_; }
  bool pae() const { return context_.pae; }

  PageNode& node(uint32_t page) { return nodes_[page]; }
  TableUse& use(uint32_t index) { return uses_[index]; }
  const TableUse& use(uint32_t index) const { return uses_[index]; }
  void set_read(uint32_t page, uint64_t entry) { tables_[page] = entry; }
  void set_write(uint32_t page, uint64_t entry) { tables_[kLinearPages + page] = entry; }

  uint32_t region_shift() const { return context_.pae ? 9 : 10; }
  uint32_t region_of(uint32_t page) const { return page >> region_shift(); }
  uint32_t directory_use_of(uint32_t page) const {
    return kMaxRegions + (context_.pae ? page >> 18 : 0);
  }
  /// The region that entry `entry` of the directory with this use covers.
  uint32_t region_under(uint32_t directory_use, uint32_t entry) const {
    return (directory_use - kMaxRegions) * 512 + entry;
  }
  /// And the other way round.
  uint32_t entry_of_region(uint32_t region) const { return context_.pae ? region % 512 : region; }
  uint32_t page_under(uint32_t region, uint32_t entry) const {
    return (region << region_shift()) + entry;
  }

  bool holds_any() const {
    return std::any_of(uses_ + kMaxRegions, uses_ + kUsesPerView,
                       [](const TableUse& directory) { return directory.live != 0; });
  }

  /// Called when a page becomes derived, and when it ceases to be.
  void note_live(uint32_t page) {
    live_pages_[page / 64] |= uint64_t{1} << page % 64;
    const uint32_t region = region_of(page);
    live_regions_[region / 64] |= uint64_t{1} << region % 64;
    touched_[page / kTouchedPages / 64] |= uint64_t{1} << page / kTouchedPages % 64;
  }
  void note_dead(uint32_t page) { live_pages_[page / 64] &= ~(uint64_t{1} << page % 64); }
  void note_region_dead(uint32_t region) {
    live_regions_[region / 64] &= ~(uint64_t{1} << region % 64);
  }
  bool noted_live(uint32_t page) const { return live_pages_[page / 64] >> page % 64 & 1; }
  bool region_noted_live(uint32_t region) const {
    return live_regions_[region / 64] >> region % 64 & 1;
  }

  /// Visits a region's derived pages; the visitor may end the one it is given.
  template <typename Visitor>
  void for_each_page(uint32_t region, Visitor visit) {
    const uint32_t first = page_under(region, 0);
    const uint32_t words = (1u << region_shift()) / 64;
    for (uint32_t word = first / 64; word < first / 64 + words; ++word)
      for (uint64_t bits = live_pages_[word]; bits; bits &= bits - 1)
        visit(word * 64 + static_cast<uint32_t>(std::countr_zero(bits)));
  }
  template <typename Visitor>
  void for_each_region(Visitor visit) {
    for (uint32_t word = 0; word < live_regions_.size(); ++word)
      for (uint64_t bits = live_regions_[word]; bits; bits &= bits - 1)
        visit(word * 64 + static_cast<uint32_t>(std::countr_zero(bits)));
  }

  /// Visits all pages that may ever have been derived since the last trim().
  template <typename Visitor>
  void for_each_touched_page(Visitor visit) const {
    for (uint32_t page = 0; page < kLinearPages; ++page) {
      if (touched_[page / kTouchedPages / 64] >> page / kTouchedPages % 64 & 1)
        visit(page);
      else
        page |= kTouchedPages - 1;
    }
  }
  /// Gives the host its memory back when the view, empty now, was used widely.
  void trim();

  ViewSlot next_in_bucket = 0;  ///< The next view with the same hash.
  /// To its tables since it was active or fell asleep, changing nothing that was derived.
  uint32_t idle_writes = 0;
  std::vector<SleepingRegion> sleeping;
  bool asleep() const { return !sleeping.empty(); }
  bool sleeps_under(uint32_t directory_use) const {
    return std::ranges::any_of(sleeping, [&](const SleepingRegion& slept) {
      return directory_use_of(page_under(slept.region, 0)) == directory_use;
    });
  }

 private:
  static constexpr uint32_t kTouchedPages = 1024;

  explicit ShadowView(ViewSlot slot) : slot_(slot) {}

  ViewSlot slot_;
  PagingContext context_;
  HostPages entries_;
  HostPages bookkeeping_;
  PageNode* nodes_ = nullptr;
  uint64_t* live_pages_ = nullptr;
  TableUse* uses_ = nullptr;
  std::array<uint64_t, kMaxRegions / 64> live_regions_{};
  std::array<uint64_t, kLinearPages / kTouchedPages / 64> touched_{};
};

}  // namespace trapline
