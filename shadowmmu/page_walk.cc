#include "shadowmmu/page_walk.h"

#include "shadowmmu/paging_bits.h"
#include "vcpu/host_access.h"

namespace trapline {
namespace {

using namespace paging;

// Where an entry lies. Only RAM takes A and D; a table in ROM is read, anything else is all ones,
// since a walk reaches no device.
template <typename Entry>
class EntryPlace {
 public:
  EntryPlace(PhysicalMemory& memory, Physical address) {
    const Frame& frame = memory.frame(address.frame());
    if (frame.host) host_ = reinterpret_cast<Entry*>(frame.host + address.offset());
    ram_ = frame.kind == FrameKind::kRam;
  }

  Entry load() const {
    return host_ ? __atomic_load_n(host_, __ATOMIC_RELAXED) : static_cast<Entry>(~Entry{0});
  }

  // False when the guest changed the entry since it was loaded.
  bool set(Entry& value, Entry bits) const {
    const Entry with = static_cast<Entry>(value | bits);
    if (with == value || !ram_) return true;
    if (!__atomic_compare_exchange_n(host_, &value, with, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
      return false;
    value = with;
    return true;
  }

 private:
  Entry* host_ = nullptr;
  bool ram_ = false;
};

struct Request {
  const PagingContext& context;
  PhysicalMemory& memory;
  Linear address;
  Access access;
  bool user;
  WalkMode mode;

  bool fetch_checked() const { return access == Access::kExecute && context.nxe; }

  Fault fault(uint32_t cause) const {
    uint32_t error = cause;
    if (access == Access::kWrite) error |= page_fault::kWrite;
    if (user) error |= page_fault::kUser;
    if (fetch_checked()) error |= page_fault::kFetch;
    return Fault::page(address.value, error);
  }

  bool allows(const Walk& walk) const {
    if (user && !walk.user) return false;
    if (fetch_checked() && !walk.executable) return false;
    return access != Access::kWrite || walk.writable || (!user && !context.write_protect);
  }
};

enum class Attempt : uint8_t { kDone, kFault, kAgain };

// One try; kAgain when another agent changed an entry under it.
template <typename Layout>
class Walker {
 public:
  using Entry = typename Layout::Entry;

  explicit Walker(const Request& request) : request_(request) {}

  Attempt run(Physical place) {
    const Layout layout(request_.context);
    const uint32_t linear = request_.address.value;
    const EntryPlace<Entry> at(request_.memory, place);
    Entry entry = at.load();
    if (!(entry & kPresent)) return stop(0);
    if (layout.large(entry)) {
      if (entry & layout.large_reserved())
        return stop(page_fault::kPresent | page_fault::kReserved);
      combine(entry);
      walk.large = true;
      return leaf(at, place, entry, layout.large_base(entry) | (linear & Layout::kLargeOffset));
    }
    if (entry & layout.reserved()) return stop(page_fault::kPresent | page_fault::kReserved);
    combine(entry);
    if (!mark(at, entry, kAccessed)) return Attempt::kAgain;
    walk.step[0] = {place, entry};
    walk.steps = 1;
    return table(layout, entry);
  }

  Walk walk;
  Fault fault;

 private:
  Attempt table(const Layout& layout, Entry directory_entry) {
    const uint32_t linear = request_.address.value;
    const Physical place =
        masked(Layout::base(directory_entry) + Layout::table_index(linear) * sizeof(Entry));
    const EntryPlace<Entry> at(request_.memory, place);
    const Entry entry = at.load();
    if (!(entry & kPresent)) return stop(0);
    if (entry & layout.reserved()) return stop(page_fault::kPresent | page_fault::kReserved);
    combine(entry);
    return leaf(at, place, entry, Layout::base(entry) | (linear & kPageMask));
  }

  Attempt leaf(const EntryPlace<Entry>& at, Physical place, Entry entry, uint64_t physical) {
    if (!request_.allows(walk)) return stop(page_fault::kPresent);
    const bool write = request_.access == Access::kWrite;
    if (!mark(at, entry, write ? kAccessed | kDirty : kAccessed)) return Attempt::kAgain;
    walk.dirty = entry & kDirty;
    walk.step[walk.steps++] = {place, entry};
    walk.address = masked(physical);
    return Attempt::kDone;
  }

  void combine(Entry entry) {
    walk.user = walk.user && (entry & kUser);
    walk.writable = walk.writable && (entry & kWritable);
    walk.executable = walk.executable && !Layout::no_execute(entry);
  }

  bool mark(const EntryPlace<Entry>& at, Entry& entry, uint32_t bits) const {
    return request_.mode == WalkMode::kPeek || at.set(entry, static_cast<Entry>(bits));
  }

  Attempt stop(uint32_t cause) {
    fault = request_.fault(cause);
    return Attempt::kFault;
  }

  Physical masked(uint64_t address) const { return {address & request_.context.address_mask}; }

  const Request& request_;
};

template <typename Layout>
OrFault<Walk> walk_tables(const Request& request, Physical directory_entry) {
  for (;;) {
    Walker<Layout> walker(request);
    walker.walk.user = walker.walk.writable = true;
    switch (walker.run(directory_entry)) {
      case Attempt::kDone:
        if (!request.context.nxe) walker.walk.executable = true;
        return walker.walk;
      case Attempt::kFault:
        return walker.fault;
      case Attempt::kAgain:
        break;
    }
  }
}

}  // namespace

PagingContext PagingContext::from(const CpuState& state, const CpuModel& model) {
  PagingContext context;
  if (!state.paging()) return context;
  context.paging = true;
  context.pae = state.pae();
  context.write_protect = state.cr0 & cr0::kWp;
  context.physical_bits = model.physical_bits;
  if (context.pae) {
    context.nxe = state.msr.efer & efer::kNxe;
    context.pdpte = state.pdpte;
  } else {
    context.pse = state.cr4 & cr4::kPse;
    context.pse36 = context.pse && model.has(Feature::kPse36);
    context.root = state.cr3 & ~kPageMask;
  }
  return context;
}

std::optional<Physical> directory_entry(const PagingContext& context, Linear address) {
  if (!context.paging) return std::nullopt;
  const auto in = [&](uint64_t directory, size_t offset) -> Physical {
    return {(directory + offset) & context.address_mask};
  };
  const uint32_t linear = address.value;
  if (!context.pae)
    return in(context.root & ~uint64_t{kPageMask},
              TwoLevel::directory_index(linear) * sizeof(TwoLevel::Entry));
  const uint64_t pdpte = context.pdpte[Pae::directory_number(linear)];
  if (!(pdpte & kPresent)) return std::nullopt;
  return in(Pae::base(pdpte), Pae::directory_index(linear) * sizeof(Pae::Entry));
}

OrFault<Walk> walk_page(const PagingContext& context, PhysicalMemory& memory, Linear address,
                        Access access, bool user, WalkMode mode) {
  if (!context.paging) {
    Walk walk;
    walk.address = {address.value & context.address_mask};
    walk.user = walk.writable = walk.dirty = true;
    return walk;
  }
  const Request request{context, memory, address, access, user, mode};
  const std::optional<Physical> entry = directory_entry(context, address);
  if (!entry) return request.fault(0);
  return context.pae ? walk_tables<Pae>(request, *entry) : walk_tables<TwoLevel>(request, *entry);
}

}  // namespace trapline
