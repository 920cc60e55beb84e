// A container that mirrors one user view, and what is mapped in it.
//
// Invariants:
//  N1  A page is mapped no wider than `rights` say, but for removals that settle() has still to
//  carry
//      out; those are of pages that the guest's own tables took away.
//  N2  While guest code runs nothing is outstanding.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime/native/container.h"
#include "shadowmmu/host_pages.h"
#include "vcpu/address.h"

namespace trapline {

struct NativeMapCounters {
  uint64_t mappings_made = 0;
  uint64_t mappings_removed = 0;
  uint64_t mappings_evicted = 0;
  uint64_t pages_mapped = 0;
};

class NativeSpace {
 public:
  /// Kept with a page's rights, of which it is none: code there is not to run natively.
  static constexpr uint8_t kTranslated = 8;

  /// nullptr when the host gives no memory.
  static std::unique_ptr<NativeSpace> make(std::unique_ptr<Container> container,
                                           uint64_t most_mappings, NativeMapCounters& counters);

  Container& container() { return *container_; }
  const Container& container() const { return *container_; }
  uint32_t view() const { return view_; }
  uint64_t last_use = 0;

  uint8_t rights(uint32_t page) const { return rights_[page] & kAccess; }
  bool translated(uint32_t page) const { return rights_[page] & kTranslated; }
  void set_translated(uint32_t page, bool on);
  /// Of how many pages it is remembered that they may be mapped or marked.
  size_t touched() const { return touched_.size(); }

  /// Pages in a row, of consecutive frames. Wider rights than before only.
  void map(uint32_t page, uint32_t pages, uint8_t rights, uint64_t ram_offset);
  /// From settle() on they are gone.
  void remove(uint32_t page);
  void remove_writing(uint32_t page);
  /// Whether something is outstanding.
  bool unsettled() const { return !gone_.empty() || !read_only_.empty() || all_gone_; }
  /// Returns when the container has followed, or is lost.
  void settle();
  /// Everything goes, and the container mirrors another view.
  void become(uint32_t view);
  /// Code at the offsets of the page stops natively, as long as the page is executable. Another
  /// page may be gone for that, from settle() on. False: there are too many of them.
  bool watch(uint32_t page, std::span<const uint16_t> offsets);
  /// A selector for a data segment. It and the one asked for before it stay good: %fs and %gs.
  uint16_t selector_of(uint32_t base, uint32_t limit);

  // Pages that are mapped from patched copies, which data accesses must not see: what code and data
  // segments would be flat stops at them.

  /// False: not this one, since too much would stop there.
  bool may_patch(uint32_t page) const;
  /// Maps a copy, which is patched at the offsets, for execution.
  void map_patched(uint32_t page, uint64_t ram_offset, std::span<const uint16_t> offsets);
  bool any_patched() const { return !patched_.empty(); }
  bool patched(uint32_t page) const;
  /// Whether the instruction there is patched in what is mapped.
  bool patched_at(uint32_t address) const;
  struct FlatSelectors {
    uint16_t code = TRAPLINE_FLAT_CS;
    uint16_t data = TRAPLINE_FLAT_DATA;
  };
  /// For the guest's flat segments, until something is mapped or removed.
  FlatSelectors flat_selectors();
  static bool is_flat_code(uint16_t selector);
  /// Guest code has run so long.
  void add_time(uint64_t nanoseconds);
  /// It has stopped because of what is patched. False: it does so too often.
  bool afford_stop();
  /// The highest page that is patched is removed, and it and what lies above is left to translated
  /// code until the space becomes another view's: data that is used lies below it, or it stops by
  /// itself. From settle() on. Those below it have a new credit.
  void give_up_patches();

 private:
  static constexpr uint8_t kAccess =
      native_access::kRead | native_access::kWrite | native_access::kExecute;

  NativeSpace(std::unique_ptr<Container> container, HostPages rights, uint64_t most_mappings,
              NativeMapCounters& counters);
  using Watch = std::optional<uint32_t>;  ///< An address.
  using Watches = std::array<Watch, Container::kWatches>;

  void set(uint32_t page, uint8_t rights);
  void forget_all();
  Watches::iterator watch_of_another_page(uint32_t page);
  template <typename Visit>
  static void for_each_run(std::vector<uint32_t>& pages, Visit visit);

  struct PatchedPage {
    uint32_t page = 0;
    std::vector<uint16_t> offsets;
  };
  std::vector<PatchedPage>::const_iterator find_patched(uint32_t page) const;

  struct Descriptor {
    uint32_t base = 0;
    uint32_t limit = 0;
    bool operator==(const Descriptor&) const = default;
  };

  std::unique_ptr<Container> container_;
  HostPages rights_pages_;
  uint8_t* rights_ = nullptr;
  uint64_t most_mappings_;
  NativeMapCounters& counters_;
  uint32_t view_ = 0;
  uint64_t mappings_ = 0;  ///< The host's, at most.
  bool all_gone_ = false;
  std::vector<uint32_t> gone_;
  std::vector<uint32_t> read_only_;
  std::vector<uint32_t> touched_;  ///< Pages that are mapped or marked, and some that were.
  size_t still_touched_;           ///< So many were, when that was looked at.
  Watches watched_;
  size_t last_moved_ = 0;  ///< Of those.
  std::vector<Descriptor> descriptors_;
  size_t next_descriptor_ = 0;  ///< To be replaced, when there are no more.
  size_t last_descriptor_ = 0;
  std::vector<PatchedPage> patched_;
  std::optional<uint32_t> floor_;      ///< The page that the descriptor for it tells of.
  int64_t credit_;                     ///< Nanoseconds.
  uint32_t patch_end_ = kLinearPages;  ///< From there on nothing is patched any more.
};

}  // namespace trapline
