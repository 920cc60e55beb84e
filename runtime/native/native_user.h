// Guest user code on the bare processor: the containers of a machine, which view each of them
// mirrors, and which code may run in them. The engine decides when, and emulates what comes back.
//
// Invariants:
//  U1  A container maps a page no wider than the view's tables say at the moment, but for removals
//      that the guest's own writes caused since the last settle().
//  U2  No container may write a frame that has a denial. The container has acknowledged that before
//      whoever denied goes on.
//  U3  A page is mapped for execution only while its frame has denial::kNative, and was found fine
//      after that was set. The same holds for a patched copy of it, which is mapped instead.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/code_cache.h"
#include "runtime/native/native_space.h"
#include "runtime/native/patched_pages.h"
#include "runtime/native/vetting.h"
#include "shadowmmu/shadow_mmu.h"
#include "vcpu/result.h"

namespace trapline {

struct NativeUserCounters {
  uint64_t pages_fine = 0;
  uint64_t pages_sensitive = 0;
  uint64_t pages_unexplored = 0;
  uint64_t pages_patched = 0;    ///< Copies that were made.
  uint64_t pages_rewritten = 0;  ///< Executed natively, then written.
  uint64_t looks = 0;            ///< At pages of code.
  uint64_t looks_ticks = 0;      ///< Host ticks that they took.
  uint64_t containers_started = 0;
  uint64_t containers_recycled = 0;
  uint64_t containers_lost = 0;
};

/// Frames of code that were not found fine because of one instruction.
struct RefusedPages {
  uint64_t sensitive = 0;
  uint64_t unexplored = 0;
};

/// What the engine knows of an address that is about to be executed.
struct CodeKnown {
  bool entry = false;              ///< An instruction begins there.
  bool sse = false;                ///< The guest's kernel allows SSE instructions.
  bool loads_are_noticed = false;  ///< See CodePage.
  std::span<const uint8_t> head;   ///< The page before, if it can be executed.
  std::span<const uint8_t> tail;   ///< The first bytes of the next page, if it can be executed.
  std::optional<uint64_t> before;  ///< The frame that the head is of.
};

class NativeUser {
 public:
  /// Starts a first container, to know that it can be done. The others must outlive it.
  static Result<std::unique_ptr<NativeUser>> create(PhysicalMemory& memory, ShadowMmu& mmu,
                                                    const CodeCache& cache, const CpuModel& model);
  /// See MachineOptions::native_at_once.
  void look_at_once() { most_patience_ = 0; }

  /// The space that mirrors the view: found, or started, or taken from another view. nullptr: the
  /// host gives none.
  NativeSpace* space_of(const View& view);
  /// Ends it; the view may get another one.
  void discard(NativeSpace& space);
  /// The other containers look no more whether they are to run: this one is.
  void stop_looking_but(const Container& container);

  /// Maps the page, which the view has resolved, as far as the view and U2 and U3 allow, and its
  /// neighbours. False: not to be had natively.
  bool map(NativeSpace& space, View& view, const PagingContext& paging, uint32_t page,
           Access access);
  /// Whether the code in the page that the view has resolved may run natively. May change what is
  /// denied, and with it the view's tables.
  bool may_execute(NativeSpace& space, uint64_t frame, Linear address, CodeKnown known);

  /// A page that may_execute() has said no for, and will again for some time.
  struct TurnedAway {
    uint32_t view = 0;
    uint32_t page = 0;
    uint32_t left = 0;  ///< So often, without a look.
    bool enters_kernel = false;
  };
  /// Quickly, since each system call asks for a page like that. nullptr: ask.
  const TurnedAway* turns_away(const NativeSpace& space, uint32_t page);

  /// Maps what lies around such a page and is known to be fine, as far as the guest has accessed
  /// it.
  void map_code_around(NativeSpace& space, View& view, const PagingContext& paging, uint32_t page,
                       const CodeKnown& known);

  /// Guest code has stopped because of what is patched in the space. Without credit that ends.
  void patch_stopped(NativeSpace& space);

  /// Whether the frame's code is left translated because of the instruction that enters the
  /// guest's kernel.
  bool enters_kernel(uint64_t frame) const;

  // What the engine, as the MMU's observer, passes on.
  void mapping_dropped(const View& view, uint32_t page);
  void view_dropped(const View& view);
  void writing_dropped(const View& view, uint32_t page);
  void code_written(uint64_t frame);
  /// RAM has changed as a whole, and no view is left.
  void forget_code();
  /// All removals are carried out when this returns.
  void settle();

  const NativeUserCounters& counters() const { return counters_; }
  /// By the instruction's name; frames are counted where the counters above count them.
  const std::map<std::string, RefusedPages>& refused() const { return refused_; }
  const NativeMapCounters& map_counters() const { return map_counters_; }

 private:
  using Tail = std::array<uint8_t, InstructionForm::kLongest>;

  struct Frame {
    Vetted vetted = Vetted::kUnexplored;
    bool looked = false;
    bool sse = false;  ///< CodeKnown's, when it was looked at.
    bool loads_are_noticed = false;
    std::vector<uint16_t> watched;  ///< Where it must not execute: PageVetter::watched(),
    std::vector<uint16_t> patched;  ///< and patched().
    std::optional<uint64_t> copy;   ///< Where the patched one lies, if there is one.
    uint32_t wanted = 0;            ///< How often it would have run from a copy.
    bool enters_kernel = false;     ///< It has SYSENTER, and is not fine because of that.
    uint32_t patience = 0;          ///< How often not to look again.
    uint32_t next_patience = 4;
    /// It may run as long as the next page does not: an instruction may begin in this one that only
    /// the next one tells.
    bool open_end = false;
    /// What follows, where an instruction that goes on there may be one or another by it.
    std::optional<Tail> tail;
  };
  struct Piece {
    uint64_t offset = 0;
    uint8_t rights = 0;
  };

  NativeUser(PhysicalMemory& memory, ShadowMmu& mmu, const CodeCache& cache, const CpuModel& model)
      : memory_(memory), mmu_(mmu), cache_(cache), vetter_(model) {}
  Result<std::unique_ptr<NativeSpace>> start();
  NativeSpace* find(uint32_t view);
  bool fits(const Frame& state, std::span<const uint8_t> next) const;
  bool fits_before(const PagingContext& paging, uint32_t page, uint64_t frame) const;
  std::span<const uint8_t> bytes_of(uint64_t frame) const;
  void stop_code(uint64_t frame, Frame& state);
  void look_again(uint64_t frame, Frame& state);
  std::optional<Piece> piece(const View& view, uint32_t page, uint8_t now) const;
  uint32_t around(const PagingContext& paging, uint32_t page) const;
  bool prefetch(View& view, const PagingContext& paging, uint32_t page);
  bool map_code(NativeSpace& space, uint64_t frame, uint32_t page);
  bool map_patched(NativeSpace& space, uint64_t frame, uint32_t page);
  void unmap_code(uint64_t frame);
  void drop_copy(Frame& state);
  void wait(Frame& state) const;
  void count(Vetted vetted);
  Vetted look(uint64_t frame, Linear address, CodeKnown known);

  PhysicalMemory& memory_;
  ShadowMmu& mmu_;
  const CodeCache& cache_;
  PageVetter vetter_;
  std::unique_ptr<PatchedPages> patched_pages_;
  std::unique_ptr<ContainerFiles> files_;
  std::vector<std::unique_ptr<NativeSpace>> spaces_;
  NativeSpace* recent_ = nullptr;  ///< The one that was found last.
  std::unordered_map<uint64_t, Frame> frames_;
  std::array<TurnedAway, 16> turned_away_{};  ///< By page.
  uint64_t clock_ = 0;
  uint64_t most_mappings_ = 0;
  uint32_t most_patience_ = 4096;
  uint32_t first_page_ = 0;  ///< Below it the host maps nothing.
  bool unsettled_ = false;
  std::vector<uint16_t> entries_;
  NativeUserCounters counters_;
  std::map<std::string, RefusedPages> refused_;
  NativeMapCounters map_counters_;
};

}  // namespace trapline
