// Zeroed host memory that costs nothing until it is touched.
#pragma once

#include <cstddef>
#include <utility>

namespace trapline {

class HostPages {
 public:
  HostPages() = default;
  /// Page-aligned, all zero, above 4 GiB. Empty when the host refuses.
  static HostPages reserve(size_t bytes);
  ~HostPages();
  HostPages(HostPages&& other) noexcept { swap(other); }
  HostPages& operator=(HostPages&& other) noexcept {
    swap(other);
    return *this;
  }

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  /// Everything is zero again, and costs nothing again.
  void release();

 private:
  void swap(HostPages& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace trapline
