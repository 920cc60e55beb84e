// Memory for many small arrays that all go away together. What was added stays where it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace trapline {

template <typename T>
class Arena {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  /// Copies the items into one piece of memory.
  std::span<const T> add(std::span<const T> items) {
    if (items.size() > left_.size()) {
      const size_t size = std::max(kChunkItems, items.size());
      // Not of T, whose initializers would go over the whole chunk.
      chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(size * sizeof(T)));
      left_ = {reinterpret_cast<T*>(chunks_.back().get()), size};
    }
    const std::span<T> added = left_.first(items.size());
    left_ = left_.subspan(items.size());
    std::ranges::uninitialized_copy(items, added);
    return added;
  }

  void clear() {
    chunks_.clear();
    left_ = {};
  }

 private:
  static constexpr size_t kChunkItems = 0x10000 / sizeof(T);
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  std::span<T> left_;  ///< Of the last chunk.
};

}  // namespace trapline
