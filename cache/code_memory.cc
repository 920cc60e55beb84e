#include "cache/code_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "vcpu/huge_pages.h"

namespace trapline {

Result<std::unique_ptr<CodeMemory>> CodeMemory::create(size_t bytes, bool huge_pages) {
  const auto failed = [](const char* what) {
    return Error{ExitStatus::kHost, std::string("the host gives no memory for the code cache (") +
                                        what + ": " + std::strerror(errno) +
                                        "); try a smaller --code-cache"};
  };
  const int file = memfd_create("trapline-code", MFD_CLOEXEC);
  if (file < 0) return failed("memfd_create");
  std::unique_ptr<CodeMemory> memory(new CodeMemory);
  memory->size_ = bytes;
  memory->huge_pages_ = huge_pages;
  if (ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    close(file);
    return failed("ftruncate");
  }
  memory->writable_ = static_cast<std::byte*>(map_aligned(file, bytes, PROT_READ | PROT_WRITE));
  if (memory->writable_)
    memory->executable_ =
        static_cast<std::byte*>(map_aligned(file, bytes, PROT_READ | PROT_EXEC, MAP_32BIT));
  close(file);
  if (!memory->executable_) return failed("mmap");
  memory->prepare(memory->base());
  memory->prepare_down(memory->base() + static_cast<uint32_t>(bytes));
  return memory;
}

void CodeMemory::prepare(uint32_t end) {
  while (end - base() >= prepared_ && prepared_ < size_) {
    const size_t in_use = prepared_ % kHugePage;
    if (in_use >= kInUse && become_huge(prepared_ - in_use)) {
      prepared_ += kHugePage - in_use;
      continue;
    }
    const size_t bytes = std::min(kStep, size_ - prepared_);
    populate(prepared_, bytes);
    prepared_ += bytes;
  }
}

void CodeMemory::prepare_down(uint32_t start) {
  while (size_ - (start - base()) >= prepared_down_ && prepared_down_ < size_) {
    const size_t end = size_ - prepared_down_;
    const size_t page = (end - 1) / kHugePage * kHugePage;
    if (page + kHugePage - end >= kInUse && become_huge(page)) {
      prepared_down_ = size_ - page;
      continue;
    }
    const size_t bytes = std::min(kStep, end);
    prepared_down_ += bytes;
    populate(size_ - prepared_down_, bytes);
  }
}

void CodeMemory::populate(size_t start, size_t bytes) {
  // Hosts that do not know it give the pages one by one.
  madvise(writable_ + start, bytes, MADV_POPULATE_WRITE);
}

/// The page of both mappings that begins there.
bool CodeMemory::become_huge(size_t start) {
  if (!huge_pages_ || start + kHugePage > size_) return false;
  huge_pages_ = make_huge(writable_ + start) && make_huge(executable_ + start);
  return huge_pages_;
}

CodeMemory::~CodeMemory() {
  if (writable_) munmap(writable_, size_);
  if (executable_) munmap(executable_, size_);
}

}  // namespace trapline
