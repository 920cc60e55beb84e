#include "cache/arena.h"

#include <gtest/gtest.h>

#include <numeric>

namespace trapline {
namespace {

TEST(Arena, KeepsWhatWasAddedInOnePiece) {
  Arena<uint64_t> arena;
  std::vector<std::span<const uint64_t>> added;
  std::vector<uint64_t> items;
  for (uint64_t size = 0; size < 300; ++size) {
    items.resize(size);
    std::iota(items.begin(), items.end(), size);
    added.push_back(arena.add(items));
  }
  items.resize(100'000);
  std::iota(items.begin(), items.end(), 300);  // More than a chunk.
  added.push_back(arena.add(items));
  for (uint64_t i = 0; i < added.size(); ++i)
    for (size_t at = 0; at < added[i].size(); ++at) ASSERT_EQ(added[i][at], i + at);
}

}  // namespace
}  // namespace trapline
