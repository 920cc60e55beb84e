#include "shadowmmu/host_pages.h"

#include <sys/mman.h>

#include <cstdint>

#include "vcpu/assert.h"

namespace trapline {

HostPages HostPages::reserve(size_t bytes) {
  HostPages pages;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return pages;
  pages.data_ = static_cast<std::byte*>(data);
  pages.size_ = bytes;
  TRAPLINE_ASSERT(reinterpret_cast<uintptr_t>(data) >> 32 != 0);
  return pages;
}

HostPages::~HostPages() {
  if (data_) munmap(data_, size_);
}

void HostPages::release() {
  TRAPLINE_ASSERT(madvise(data_, size_, MADV_DONTNEED) == 0);
}

}  // namespace trapline
