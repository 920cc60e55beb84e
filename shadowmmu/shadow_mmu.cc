#include "shadowmmu/shadow_mmu.h"

#include <algorithm>

#include "shadowmmu/shadow_mmu_impl.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr uint32_t kBuckets = 1024;
constexpr uint32_t kMinViews = 3;  // So that the two most recent ones are never recycled.

}  // namespace

ShadowMmu::Impl::Impl(PhysicalMemory& memory, MmuObserver& observer, Limits limits)
    : memory_(memory),
      observer_(observer),
      view_limit_(std::clamp(limits.views, kMinViews, kMaxViews)),
      listed_frames_(memory.ram_end().frame()),
      views_(1),
      activated_(1),
      buckets_(kBuckets) {
  heads_pages_ = HostPages::reserve(listed_frames_ * sizeof(FrameHeads));
  TRAPLINE_ASSERT(heads_pages_ && "the host gives no address space");
  heads_ = reinterpret_cast<FrameHeads*>(heads_pages_.data());
}

ShadowMmu::ShadowMmu(PhysicalMemory& memory, MmuObserver& observer, Limits limits)
    : impl_(std::make_unique<Impl>(memory, observer, limits)) {}
ShadowMmu::~ShadowMmu() = default;

View& ShadowMmu::activate(const PagingContext& context, bool user) {
  return impl_->activate(context, user);
}

OrFault<Resolution> ShadowMmu::resolve(View& view, Linear address, Access access) {
  return impl_->resolve(static_cast<ShadowView&>(view), address, access);
}

uint64_t ShadowMmu::load(Physical address, uint32_t size) {
  return impl_->load(address, size);
}

void ShadowMmu::store(Physical address, uint32_t size, uint64_t value) {
  impl_->store(address, size, value);
}

void ShadowMmu::dma_write(Physical address, std::span<const std::byte> bytes) {
  impl_->dma_write(address, bytes);
}

void ShadowMmu::dma_read(Physical address, std::span<std::byte> bytes) {
  impl_->dma_read(address, bytes);
}

void ShadowMmu::deny_writes(uint64_t frame, uint8_t reason) {
  TRAPLINE_ASSERT(!(reason & denial::kPageTable));
  impl_->deny_writes(frame, reason);
}

void ShadowMmu::allow_writes(uint64_t frame, uint8_t reason) {
  TRAPLINE_ASSERT(!(reason & denial::kPageTable));
  impl_->allow_writes(frame, reason);
}

void ShadowMmu::for_each_mapping(uint64_t frame,
                                 const std::function<void(View&, uint32_t page)>& visit) {
  impl_->for_each_mapping(frame, visit);
}

void ShadowMmu::map_changed() {
  impl_->map_changed();
}
uint64_t ShadowMmu::removals() const {
  return impl_->removals();
}
const MmuCounters& ShadowMmu::counters() const {
  return impl_->counters();
}
std::string ShadowMmu::check_invariants() {
  return impl_->check_invariants();
}

}  // namespace trapline
