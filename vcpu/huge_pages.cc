#include "vcpu/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>

namespace trapline {
namespace {

constexpr int kCollapse = 25;  ///< MADV_COLLAPSE, which the C library's headers may lack.

}  // namespace

void* map_aligned(int file, size_t bytes, int protection, int flags) {
  const size_t reserved = bytes + kHugePage;
  void* room = mmap(nullptr, reserved, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  if (room == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<uintptr_t>(room);
  const uintptr_t start = (begin + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (start + bytes + 4095) & ~uintptr_t{4095};
  auto* wanted = reinterpret_cast<void*>(start);
  void* mapped = mmap(wanted, bytes, protection, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, file, 0);
  if (mapped == MAP_FAILED) {
    munmap(room, reserved);
    return nullptr;
  }
  if (start != begin) munmap(room, start - begin);
  if (end != begin + reserved) munmap(reinterpret_cast<void*>(end), begin + reserved - end);
  madvise(mapped, bytes, MADV_HUGEPAGE);  // Does what it says where shmem_enabled is `advise`.
  return mapped;
}

bool make_huge(void* start) {
  return madvise(start, kHugePage, kCollapse) == 0;
}

}  // namespace trapline
