// Shadow page tables. A view is what one address space looks like to one privilege class: a read
// and a write table that translated code walks inline, indexed by linear page.
//
// Invariants:
//  V1  An entry is 0 (take the slow path) or host address minus linear address of its page; an
//      access of any kind that the entry's table stands for is then allowed by the guest's tables
//      as they are now, A is set, and for writes D is set.
//  V2  A frame from which a present entry was derived has denial::kPageTable. A frame with any
//      denial is in no write table.
//  V3  A guest (or device) write to a page table drops, before the guest goes on, exactly the
//      entries that came from what was written. So views survive CR3 loads, and INVLPG has nothing
//      left to do but what the guest can see. Of a view that is not active it is enough that they
//      have gone when activate() gives it again; until then its directories need no denial.
//  V4  The VMM's own A and D updates change no mapping and fire nothing.
//  V5  Every removal of a present entry advances removals(). Whoever cached an entry (the stack
//      window, a pointer held across a call) compares.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "shadowmmu/page_walk.h"
#include "shadowmmu/physical_memory.h"
#include "vcpu/address.h"
#include "vcpu/fault.h"
#include "vcpu/state.h"

namespace trapline {

/// The write table follows the read table in one allocation, so one base register reaches both.
inline constexpr uint64_t kViewTableBytes = uint64_t{kLinearPages} * sizeof(uint64_t);

class View {
 public:
  virtual ~View() = default;
  /// Read table; the write table is kViewTableBytes further. Page-aligned, reserved lazily.
  uint64_t* tables() const { return tables_; }
  uint64_t read_entry(uint32_t page) const { return tables_[page]; }
  uint64_t write_entry(uint32_t page) const { return tables_[kLinearPages + page]; }
  bool user() const { return user_; }
  /// A number that no other view of this ShadowMmu has had, and a new one whenever the view was
  /// emptied as a whole: what caches keyed by view compare.
  uint32_t serial() const { return serial_; }

 protected:
  uint64_t* tables_ = nullptr;
  uint32_t serial_ = 0;
  bool user_ = false;
};

/// Who wants to know about changes. Called synchronously, possibly in the middle of a store: the
/// ShadowMmu may be asked for denials then, but for nothing that fills, stores or activates.
class MmuObserver {
 public:
  virtual ~MmuObserver() = default;
  /// The linear page's mapping in this view is gone (also when only execution was derived from it).
  virtual void mapping_dropped(View& view, uint32_t page) = 0;
  /// All mappings of the view are gone (mapping_dropped() does not come for each). It may be about
  /// to be recycled.
  virtual void view_dropped(View& view) = 0;
  /// mapping_dropped() has come for the last page of the view: its address space has died, or may
  /// as well have.
  virtual void view_emptied(View&) {}
  /// Only writing to the page has gone from this view: a mirror of it must follow before the guest
  /// can rely on that.
  virtual void writing_dropped(View&, uint32_t) {}
  /// The frame has been taken out of every write table, for the VMM's sake: mirrors must follow
  /// before this returns. writing_dropped() has come for each page.
  virtual void writes_denied(uint64_t) {}
  /// Bytes in a frame with denial::kCode or kNative were written: they hold their new values
  /// already.
  virtual void code_written(Physical address, uint32_t bytes) = 0;
};

/// What became of an access that had no entry in a table.
struct Resolution {
  enum class Kind : uint8_t {
    kHost,    ///< `host` is the byte's address; an entry was made (and stays until V5).
    kDenied,  ///< RAM, but writes must go through store(); `host` is set, `denials` say why.
    kMmio,    ///< load() and store() reach it.
    kAbsent,  ///< Nothing there, or a write to ROM: load() and store() do the right thing.
  };
  Kind kind = Kind::kAbsent;
  uint8_t denials = 0;
  std::byte* host = nullptr;
  Physical address;
};

struct MmuCounters {
  uint64_t fills = 0;
  uint64_t walks = 0;
  uint64_t faults = 0;
  uint64_t entries_dropped = 0;
  uint64_t traces_set = 0;
  uint64_t traces_cleared = 0;
  uint64_t traced_writes = 0;
  uint64_t views_created = 0;
  uint64_t views_recycled = 0;
  uint64_t views_adopted = 0;
  uint64_t sleeps = 0;  ///< Directories of inactive views that are followed no longer.
  uint64_t view_switches = 0;
  uint64_t device_accesses = 0;
};

class ShadowMmu {
 public:
  struct Limits {
    /// The least recently activated one is recycled beyond that. From 3 to 4095.
    uint32_t views = 256;
  };

  ShadowMmu(PhysicalMemory& memory, MmuObserver& observer, Limits limits);
  ~ShadowMmu();

  /// The view of an address space for a privilege class: found, or made, empty or from another
  /// one's of which what holds here is kept. The pointer stays valid until view_dropped() is called
  /// with it during a later activate() or map_changed().
  View& activate(const PagingContext& context, bool user);

  /// The slow path of an access at one byte's address: walks, sets A and D, fills the table.
  /// kExecute fills nothing but the derivation, so that mapping_dropped() comes for it later.
  OrFault<Resolution> resolve(View& view, Linear address, Access access);

  /// Reads of up to 8 bytes that cross no page, and writes with every consequence: traces fire,
  /// observers hear of code, MMIO handlers are called, ROM ignores. For the guest's slow path and
  /// for devices (DMA) alike. DMA may be of any length.
  uint64_t load(Physical address, uint32_t size);
  void store(Physical address, uint32_t size, uint64_t value);
  void dma_write(Physical address, std::span<const std::byte> bytes);
  void dma_read(Physical address, std::span<std::byte> bytes);

  /// Denials for others than page tables (V2): takes the frame out of every write table at once.
  void deny_writes(uint64_t frame, uint8_t reason);
  void allow_writes(uint64_t frame, uint8_t reason);

  /// Every page of every view that maps the frame. The visitor changes no mappings.
  void for_each_mapping(uint64_t frame, const std::function<void(View&, uint32_t page)>& visit);

  /// The physical map changed (a ROM was banked in, RAM went away): every view is emptied.
  void map_changed();

  uint64_t removals() const;
  const MmuCounters& counters() const;

  /// Checks V1 to V3 by walking everything; slow. Empty when all hold, else what does not.
  std::string check_invariants();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trapline
