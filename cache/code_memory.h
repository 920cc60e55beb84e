// The memory that translated code lives in: one memfd mapped twice, writable here and executable
// there, so that no page is ever both and nothing needs mprotect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "vcpu/result.h"

namespace trapline {

class CodeMemory {
 public:
  /// The executable mapping lies below 2 GiB, so that code addresses fit in 32 bits.
  static Result<std::unique_ptr<CodeMemory>> create(size_t bytes, bool huge_pages = true);
  ~CodeMemory();
  CodeMemory(const CodeMemory&) = delete;
  CodeMemory& operator=(const CodeMemory&) = delete;

  size_t size() const { return size_; }
  uint32_t base() const { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(executable_)); }
  bool contains(uint64_t host) const { return host - base() < size_; }
  /// The writable alias of an executable address.
  std::byte* writable(uint32_t code) { return writable_ + (code - base()); }
  /// Asks the host for the pages up to an executable address and beyond, many at a time: code is
  /// written from the bottom up, and a page fault for each page of both mappings costs more. The
  /// first ones are there from the start.
  void prepare(uint32_t end);
  /// Likewise from an executable address to the end, for what is written from the top down.
  void prepare_down(uint32_t start);

 private:
  CodeMemory() = default;
  std::byte* writable_ = nullptr;
  std::byte* executable_ = nullptr;
  size_t size_ = 0;
  size_t prepared_ = 0;
  size_t prepared_down_ = 0;
  bool huge_pages_ = true;

  static constexpr size_t kStep = 64 << 10;
  static constexpr size_t kInUse = 256 << 10;  ///< Of a huge page, before it is asked for.
  void populate(size_t start, size_t bytes);
  bool become_huge(size_t start);
};

}  // namespace trapline
