// The inside of ShadowMmu. Private to this folder.
//
//   shadow_mmu.cc     the public face
//   view_index.cc     which view belongs to an address space; recycling
//   fill.cc           resolve(): from a walk to a derived page
//   drop.cc           the ways back: pages, regions, whole views
//   stores.cc         loads and stores, and what follows from a store to a traced frame
//   sleep.cc          inactive views whose directories are not followed until they are wanted again
//   invariants.cc     check_invariants()
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "shadowmmu/entry_loss.h"
#include "shadowmmu/host_pages.h"
#include "shadowmmu/physical_memory.h"
#include "shadowmmu/shadow_mmu.h"
#include "shadowmmu/shadow_view.h"

namespace trapline {

/// Heads of the lists that a frame of RAM has.
struct FrameHeads {
  PageLink pages;  ///< Derived pages that map the frame.
  UseLink uses;    ///< Table uses of the frame.
};

/// Whether the observer hears of each page that goes, or of the whole view afterwards.
enum class Notice : uint8_t { kPerPage, kNone };

class ShadowMmu::Impl {
 public:
  Impl(PhysicalMemory& memory, MmuObserver& observer, Limits limits);

  // view_index.cc
  ShadowView& activate(const PagingContext& context, bool user);

  // fill.cc
  OrFault<Resolution> resolve(ShadowView& view, Linear address, Access access);

  // drop.cc
  void deny_writes(uint64_t frame, uint8_t reason);
  void allow_writes(uint64_t frame, uint8_t reason);
  void for_each_mapping(uint64_t frame, const std::function<void(View&, uint32_t page)>& visit);
  void map_changed();

  // stores.cc
  uint64_t load(Physical address, uint32_t size);
  void store(Physical address, uint32_t size, uint64_t value);
  void dma_write(Physical address, std::span<const std::byte> bytes);
  void dma_read(Physical address, std::span<std::byte> bytes);

  // invariants.cc
  std::string check_invariants();

  uint64_t removals() const { return removals_; }
  const MmuCounters& counters() const { return counters_; }

 private:
  struct Recent {
    PagingContext context;
    ShadowView* view = nullptr;
  };
  /// Bytes of a traced frame from `first` on, as they were before a store.
  struct Before {
    uint64_t frame;
    uint32_t offset;  ///< Of what was written.
    uint32_t size;
    uint32_t first;  ///< Of `bytes`: the start of the 8-byte entry that holds `offset`.
    const std::byte* bytes;

    /// Of whole 8-byte entries.
    uint32_t end() const { return (offset + size + 7) & ~7u; }
    bool has(uint32_t at) const { return at >= first && at < end(); }
  };

  static uint32_t bucket_of(const PagingContext& key, bool user);
  ShadowView* find(const PagingContext& key, bool user);
  ShadowView& make(const PagingContext& key, bool user);
  ShadowView* fresh();
  ShadowView& recycled();
  void unhash(ShadowView& view);
  void keep_one_entry_width(const ShadowView& view);

  void attach(ShadowView& view, uint32_t page, const Walk& walk, const Frame& target);
  void trace(ShadowView& view, uint32_t use_index, uint64_t frame);
  Resolution reach(ShadowView& view, Linear address, Access access);

  void drop_page(ShadowView& view, uint32_t page, Notice notice);
  void drop_write(ShadowView& view, uint32_t page);
  void drop_region(ShadowView& view, uint32_t region, Notice notice);
  void lose(ShadowView& view, uint32_t region, paging::Loss lost);
  void empty(ShadowView& view);
  void release_use(ShadowView& view, uint32_t use_index);
  void unlist(ShadowView& view, uint32_t page);

  void ram_store(const Frame& frame, Physical address, uint32_t size, uint64_t value);
  void dma_write_frame(Physical address, std::span<const std::byte> bytes);
  void written(Physical address, uint32_t size, const Before& before);
  bool is_active(const ShadowView& view) const;
  static bool note_idle_write(ShadowView& view);
  void follow_table_change(const Before& before, const std::byte* now);
  template <typename Layout>
  void follow_use(ShadowView& view, uint32_t use_index, const Before& before, const std::byte* now);

  template <typename Layout>
  void fall_asleep(ShadowView& view, uint32_t use_index, const Before& before);
  void wake(ShadowView& view);
  template <typename Layout>
  void compare_with_sleep(ShadowView& view, const SleepingRegion& slept);
  void drop_sleepers_beyond_limit();
  bool can_become(const ShadowView& view, const PagingContext& key) const;
  ShadowView* adopted(const PagingContext& key);

  bool has_lists(uint64_t frame) const { return frame < listed_frames_; }
  FrameHeads& heads(uint64_t frame) { return heads_[frame]; }
  ShadowView& view(ViewSlot slot) { return *views_[slot]; }
  TableUse& use(UseLink link) { return view(link.slot()).use(link.index()); }
  PageNode& node(PageLink link) { return view(link.slot()).node(link.page()); }

  class Checker;

  PhysicalMemory& memory_;
  MmuObserver& observer_;
  uint32_t view_limit_;

  HostPages heads_pages_;
  FrameHeads* heads_ = nullptr;
  uint64_t listed_frames_ = 0;

  std::vector<std::unique_ptr<ShadowView>> views_;  ///< By slot; slot 0 is none.
  std::vector<uint64_t> activated_;                 ///< By slot: when.
  std::vector<ViewSlot> buckets_;
  std::vector<ViewSlot> asleep_;  ///< The one that fell asleep last comes last.
  Recent recent_[2];              ///< Of the supervisor's and of the user's views.
  ShadowView* current_ = nullptr;
  bool wide_entries_ = false;  ///< See keep_one_entry_width().
  uint64_t clock_ = 0;
  uint32_t serials_ = 0;

  uint64_t removals_ = 0;
  MmuCounters counters_;
};

}  // namespace trapline
