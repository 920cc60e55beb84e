// The engine's own accesses to guest memory, ports and time: what vcpu/ and careful blocks use.
#include <x86intrin.h>

#include <bit>
#include <cstring>

#include "runtime/engine.h"
#include "vcpu/host_access.h"

namespace trapline {

namespace {
bool inside_page(uint32_t linear, uint32_t size) {
  return (linear & kPageMask) + size <= kPageSize;
}
}  // namespace

OrFault<uint64_t> Engine::read_unreached(Linear address, uint32_t size, Privilege privilege) {
  if (meets_breakpoints(privilege) && watched()) note_access(address, size, false);
  View& view = view_for(privilege);
  if (const uint64_t delta = view.read_entry(address.page());
      delta && inside_page(address.value, size))
    return load_sized(reinterpret_cast<const std::byte*>(delta + address.value), size);
  return read_slow(view, address, size);
}

OrFault<uint64_t> Engine::read_slow(View& view, Linear address, uint32_t size) {
  const auto part = [&](Linear at, uint32_t bytes) -> OrFault<uint64_t> {
    TRAPLINE_TRY_LET(found, mmu_->resolve(view, at, Access::kRead));
    uint64_t value = 0;
    if (!found.host) {
      if (std::has_single_bit(bytes)) return mmu_->load(found.address, bytes);
      for (uint32_t i = 0; i < bytes; ++i)  // Part of an access that crosses.
        value |= mmu_->load(found.address + i, 1) << (8 * i);
      return value;
    }
    std::memcpy(&value, found.host, bytes);
    return value;
  };
  if (inside_page(address.value, size)) return part(address, size);
  // Both pages must be there before either is read: devices notice reads.
  const uint32_t first = kPageSize - address.offset();
  TRAPLINE_TRY(probe_crossing(view, address, Access::kRead));
  TRAPLINE_TRY_LET(low, part(address, first));
  TRAPLINE_TRY_LET(high, part(address + first, size - first));
  return low | high << (8 * first);
}

OrFault<void> Engine::write_unreached(Linear address, uint32_t size, uint64_t value,
                                      Privilege privilege) {
  if (meets_breakpoints(privilege) && watched()) note_access(address, size, true);
  View& view = view_for(privilege);
  if (const uint64_t delta = view.write_entry(address.page());
      delta && inside_page(address.value, size)) {
    store_sized(reinterpret_cast<std::byte*>(delta + address.value), size, value);
    return {};
  }
  return write_slow(view, address, size, value);
}

OrFault<void> Engine::write_slow(View& view, Linear address, uint32_t size, uint64_t value) {
  if (inside_page(address.value, size)) {
    TRAPLINE_TRY_LET(found, mmu_->resolve(view, address, Access::kWrite));
    mmu_->store(found.address, size, value);
    return {};
  }
  const uint32_t first = kPageSize - address.offset();
  TRAPLINE_TRY(probe_crossing(view, address, Access::kWrite));
  TRAPLINE_TRY_LET(low, mmu_->resolve(view, address, Access::kWrite));
  TRAPLINE_TRY_LET(high, mmu_->resolve(view, address + first, Access::kWrite));
  // Where nothing watches, whole parts; elsewhere byte by byte, as odd sizes have no store.
  const auto store = [&](const Resolution& to, uint32_t bytes, uint64_t part) {
    if (to.kind == Resolution::Kind::kHost) {
      std::memcpy(to.host, &part, bytes);
      return;
    }
    for (uint32_t i = 0; i < bytes; ++i) mmu_->store(to.address + i, 1, part >> (8 * i) & 0xff);
  };
  store(low, first, value);
  store(high, size - first, value >> (8 * first));
  return {};
}

/// Both pages of an access that crosses are looked at before A or D is set in either.
OrFault<void> Engine::probe_crossing(const View& view, Linear address, Access access) {
  const PagingContext paging = paging_context();
  for (const Linear page : {address, Linear{(address.value | kPageMask) + 1}})
    TRAPLINE_TRY(walk_page(paging, *memory_, page, access, view.user(), WalkMode::kPeek));
  return {};
}

OrFault<void> Engine::probe_write(Linear address, uint32_t size, Privilege privilege) {
  View& view = view_for(privilege);
  if (view.write_entry(address.page()) && inside_page(address.value, size)) return {};
  if (!inside_page(address.value, size)) {
    TRAPLINE_TRY(probe_crossing(view, address, Access::kWrite));
    TRAPLINE_TRY(mmu_->resolve(view, {(address.value | kPageMask) + 1}, Access::kWrite));
  }
  TRAPLINE_TRY(mmu_->resolve(view, address, Access::kWrite));
  return {};
}

OrFault<uint8_t> Engine::fetch(Linear address) {
  TRAPLINE_TRY_LET(found, resolve_code(address));
  if (found.host) return static_cast<uint8_t>(*found.host);
  return static_cast<uint8_t>(mmu_->load(found.address, 1));
}

std::optional<Physical> Engine::physical_address(Linear address) const {
  const auto walk = walk_page(paging_context(), *memory_, address, Access::kRead,
                              context_->cpu.cpl == 3, WalkMode::kPeek);
  if (!walk.ok()) return std::nullopt;
  return walk->address;
}

uint64_t Engine::read_physical(Physical address) {
  return mmu_->load({address.value & address_mask_}, 8);
}

uint64_t Engine::time_stamp() {
  return options_.clock == TimeSource::kInstructions ? retired() + instructions_skipped_
                                                     : __rdtsc();
}

bool Engine::has_local_apic() const {
  return options_.board && options_.board->has_local_apic();
}

void Engine::local_apic_base_written(uint64_t value) {
  if (options_.board) options_.board->local_apic_base_written(value);
}

uint32_t Engine::in(uint16_t port, uint32_t size) {
  if (options_.ports || port_read_completed_) {
    note_port(port, size);
    ++counters_.port_accesses;
    if (options_.ports) return options_.ports->in(port, size);
    port_read_completed_ = false;
    return port_read_value_;
  }
  port_exit_ = true;
  port_read_waits_ = true;
  exit_ = {};
  exit_.kind = Exit::Kind::kPortRead;
  exit_.port = port;
  exit_.size = static_cast<uint8_t>(size);
  return 0;
}

void Engine::out(uint16_t port, uint32_t size, uint32_t value) {
  note_port(port, size);
  ++counters_.port_accesses;
  if (options_.ports) {
    options_.ports->out(port, size, value);
    return;
  }
  port_exit_ = true;
  exit_ = {};
  exit_.kind = Exit::Kind::kPortWrite;
  exit_.port = port;
  exit_.size = static_cast<uint8_t>(size);
  exit_.value = value;
}

void Engine::complete_port_read(uint32_t value) {
  if (!port_read_waits_) return;
  port_read_completed_ = true;
  port_read_value_ = value;
}

void Engine::clear_memory() {
  flush_code();
  mmu_->map_changed();
  if (native_) native_->forget_code();
  memory_->clear();
}

void Engine::memory_map_changes() {
  flush_code();
  mmu_->map_changed();
  drop_window();
}

void Engine::write_memory(Physical address, std::span<const std::byte> in) {
  mmu_->dma_write(address, in);
}

}  // namespace trapline
