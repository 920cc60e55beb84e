#include "cache/code_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace trapline {

Result<std::unique_ptr<CodeMemory>> CodeMemory::create(size_t bytes) {
  const auto failed = [](const char* what) {
    return Error{ExitStatus::kHost, std::string("the host gives no memory for the code cache (") +
                                        what + ": " + std::strerror(errno) +
                                        "); try a smaller --code-cache"};
  };
  const int file = memfd_create("trapline-code", MFD_CLOEXEC);
  if (file < 0) return failed("memfd_create");
  std::unique_ptr<CodeMemory> memory(new CodeMemory);
  memory->size_ = bytes;
  if (ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    close(file);
    return failed("ftruncate");
  }
  void* writable = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (writable != MAP_FAILED) memory->writable_ = static_cast<std::byte*>(writable);
  void* executable = mmap(nullptr, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, file, 0);
  if (executable != MAP_FAILED) memory->executable_ = static_cast<std::byte*>(executable);
  close(file);
  if (writable == MAP_FAILED || executable == MAP_FAILED) return failed("mmap");
  // Where the host's shmem_enabled asks for advice.
  for (std::byte* pages : {memory->writable_, memory->executable_})
    madvise(pages, bytes, MADV_HUGEPAGE);
  memory->prepare(memory->base());
  memory->prepare_down(memory->base() + static_cast<uint32_t>(bytes));
  return memory;
}

void CodeMemory::prepare(uint32_t end) {
  while (end - base() >= prepared_ && prepared_ < size_) {
    const size_t bytes = std::min(kStep, size_ - prepared_);
    populate(prepared_, bytes);
    prepared_ += bytes;
  }
}

void CodeMemory::prepare_down(uint32_t start) {
  while (size_ - (start - base()) >= prepared_down_ && prepared_down_ < size_) {
    const size_t bytes = std::min(kStep, size_ - prepared_down_);
    prepared_down_ += bytes;
    populate(size_ - prepared_down_, bytes);
  }
}

void CodeMemory::populate(size_t start, size_t bytes) {
  // Hosts that do not know it give the pages one by one.
  madvise(writable_ + start, bytes, MADV_POPULATE_WRITE);
}

CodeMemory::~CodeMemory() {
  if (writable_) munmap(writable_, size_);
  if (executable_) munmap(executable_, size_);
}

}  // namespace trapline
