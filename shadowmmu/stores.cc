#include <algorithm>
#include <cstring>

#include "shadowmmu/entry_loss.h"
#include "shadowmmu/paging_bits.h"
#include "shadowmmu/shadow_mmu_impl.h"
#include "vcpu/assert.h"
#include "vcpu/host_access.h"

namespace trapline {
namespace {

using namespace paging;

// Denials that something follows from when the frame is written.
constexpr uint8_t kWritesMatter = denial::kPageTable | denial::kCode | denial::kNative;

// So many writes to a table of an inactive view that drop nothing: it is no table any more.
constexpr uint32_t kIdleWrites = 16;

// Where the first 8-byte entry begins that a write touches, within its frame.
constexpr uint32_t entries_start(uint32_t offset) {
  return offset & ~7u;
}

}  // namespace

uint64_t ShadowMmu::Impl::load(Physical address, uint32_t size) {
  const Frame& frame = memory_.frame(address.frame());
  if (frame.host) return load_sized(frame.host + address.offset(), size);
  if (frame.mmio) {
    ++counters_.device_accesses;
    return frame.mmio->mmio_read(address, size);
  }
  return ~uint64_t{0} >> (64 - 8 * size);
}

void ShadowMmu::Impl::store(Physical address, uint32_t size, uint64_t value) {
  const Frame& frame = memory_.frame(address.frame());
  if (frame.kind == FrameKind::kMmio) {
    ++counters_.device_accesses;
    frame.mmio->mmio_write(address, size, value);
  } else if (frame.kind == FrameKind::kRam)
    ram_store(frame, address, size, value);
}

void ShadowMmu::Impl::ram_store(const Frame& frame, Physical address, uint32_t size,
                                uint64_t value) {
  const uint32_t offset = address.offset();
  TRAPLINE_ASSERT(offset + size <= kPageSize);
  if (!(frame.denials & kWritesMatter)) {
    store_sized(frame.host + offset, size, value);
    return;
  }
  const uint32_t first = entries_start(offset);
  uint64_t old[2] = {load_sized(frame.host + first, 8), 0};
  if (offset + size > first + 8) old[1] = load_sized(frame.host + first + 8, 8);
  store_sized(frame.host + offset, size, value);
  written(address, size,
          {address.frame(), offset, size, first, reinterpret_cast<const std::byte*>(old)});
}

// What follows from a write to RAM with denials that has been made.
void ShadowMmu::Impl::written(Physical address, uint32_t size, const Before& before) {
  const Frame& frame = memory_.frame(before.frame);
  const bool code = frame.denials & (denial::kCode | denial::kNative);
  if (frame.denials & denial::kPageTable) {
    ++counters_.traced_writes;
    follow_table_change(before, frame.host);
  }
  if (code) observer_.code_written(address, size);
}

bool ShadowMmu::Impl::is_active(const ShadowView& view) const {
  return &view == recent_[0].view || &view == recent_[1].view;
}

// A write to a table of an inactive view that changes nothing that was derived. Whether there have
// been so many that the frame must have been put to another use.
bool ShadowMmu::Impl::note_idle_write(ShadowView& view) {
  if (++view.idle_writes < kIdleWrites) return false;
  view.idle_writes = 0;
  return true;
}

// Uses may be released on the way, this one and others. They keep their link to the next one, and
// nothing is linked meanwhile, so the walk reaches every use that is left, and some that are not.
void ShadowMmu::Impl::follow_table_change(const Before& before, const std::byte* now) {
  for (UseLink link = heads(before.frame).uses; link; link = use(link).next) {
    ShadowView& user = view(link.slot());
    if (user.pae())
      follow_use<Pae>(user, link.index(), before, now);
    else
      follow_use<TwoLevel>(user, link.index(), before, now);
  }
}

template <typename Layout>
void ShadowMmu::Impl::follow_use(ShadowView& view, uint32_t use_index, const Before& before,
                                 const std::byte* now) {
  using Entry = typename Layout::Entry;
  if (!view.use(use_index).linked) return;  // Released on the way.
  const uint32_t first = before.offset / sizeof(Entry);
  const uint32_t last = (before.offset + before.size - 1) / sizeof(Entry);
  for (uint32_t i = first; i <= last; ++i) {
    Entry was, is;
    std::memcpy(&was, before.bytes + i * sizeof(Entry) - before.first, sizeof was);
    std::memcpy(&is, now + i * sizeof(Entry), sizeof is);
    if (was == is) continue;
    if (use_index < kMaxRegions) {
      const uint32_t page = view.page_under(use_index, i);
      if (!view.node(page).live()) {
        if (!view.asleep() || !note_idle_write(view)) continue;
        drop_region(view, use_index, Notice::kPerPage);
        return;
      }
      const Loss lost = table_loss<Layout>(was, is);
      if (lost == Loss::kEverything) drop_page(view, page, Notice::kPerPage);
      if (lost == Loss::kWriting) drop_write(view, page);
    } else {
      const uint32_t region = view.region_under(use_index, i);
      const bool live = view.use(region).live != 0;
      const Loss lost = live ? directory_loss(Layout(view.context()), was, is) : Loss::kNothing;
      if (is_active(view)) {
        lose(view, region, lost);
      } else if (lost != Loss::kNothing || (!live && note_idle_write(view))) {
        fall_asleep<Layout>(view, use_index, before);
        return;
      }
    }
  }
}

void ShadowMmu::Impl::dma_write(Physical address, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), kPageSize - address.offset());
    dma_write_frame(address, bytes.first(part));
    bytes = bytes.subspan(part);
    address = address + part;
  }
}

void ShadowMmu::Impl::dma_write_frame(Physical address, std::span<const std::byte> bytes) {
  const Frame& frame = memory_.frame(address.frame());
  if (frame.kind == FrameKind::kMmio)
    for (size_t i = 0; i < bytes.size(); ++i)
      frame.mmio->mmio_write(address + i, 1, static_cast<uint8_t>(bytes[i]));
  if (frame.kind != FrameKind::kRam) return;

  const uint32_t offset = address.offset();
  const auto size = static_cast<uint32_t>(bytes.size());
  const uint32_t first = entries_start(offset);
  std::byte old[kPageSize];
  const Before before{address.frame(), offset, size, first, old};
  if (frame.denials & denial::kPageTable)
    std::memcpy(old, frame.host + first, before.end() - first);
  std::memcpy(frame.host + offset, bytes.data(), size);
  if (frame.denials & kWritesMatter) written(address, size, before);
}

void ShadowMmu::Impl::dma_read(Physical address, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), kPageSize - address.offset());
    const Frame& frame = memory_.frame(address.frame());
    if (frame.mmio)
      for (size_t i = 0; i < part; ++i)
        bytes[i] = static_cast<std::byte>(frame.mmio->mmio_read(address + i, 1));
    else
      memory_.read(address, bytes.first(part));
    bytes = bytes.subspan(part);
    address = address + part;
  }
}

}  // namespace trapline
