#include "runtime/native/patched_pages.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "vcpu/address.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr std::byte kInt3{0xcc};
constexpr size_t kBytes = PatchedPages::kSlots * kPageSize;
}  // namespace

std::unique_ptr<PatchedPages> PatchedPages::behind(int ram_file) {
  struct stat file {};
  if (fstat(ram_file, &file) != 0) return nullptr;
  const off_t first = (file.st_size + off_t{kPageMask}) & ~off_t{kPageMask};
  if (ftruncate(ram_file, first + static_cast<off_t>(kBytes)) != 0) return nullptr;
  void* pages = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_file, first);
  if (pages == MAP_FAILED) return nullptr;
  return std::unique_ptr<PatchedPages>(
      new PatchedPages(static_cast<std::byte*>(pages), static_cast<uint64_t>(first)));
}

PatchedPages::~PatchedPages() {
  munmap(pages_, kBytes);
}

std::optional<uint64_t> PatchedPages::add(std::span<const uint8_t> page,
                                          std::span<const uint16_t> offsets) {
  TRAPLINE_ASSERT(page.size() == kPageSize);
  const auto slot = static_cast<size_t>(std::ranges::find(used_, false) - used_.begin());
  if (slot == kSlots) return std::nullopt;
  used_[slot] = true;
  std::byte* copy = pages_ + slot * kPageSize;
  std::memcpy(copy, page.data(), kPageSize);
  for (const uint16_t offset : offsets) copy[offset] = kInt3;
  return first_ + slot * kPageSize;
}

void PatchedPages::remove(uint64_t place) {
  const auto slot = static_cast<size_t>((place - first_) / kPageSize);
  TRAPLINE_ASSERT(place >= first_ && slot < kSlots && used_[slot]);
  used_[slot] = false;
}

}  // namespace trapline
