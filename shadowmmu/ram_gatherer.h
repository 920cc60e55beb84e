// Gathers the guest's RAM into huge pages of the host's, as far as the guest uses it. Small pages
// cost translated code a walk of the host's tables for most of what it touches after guest code has
// run natively for a while.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace trapline {

class RamGatherer {
 public:
  RamGatherer() = default;
  /// The RAM is a multiple of a huge page into the address space, and all of the file.
  RamGatherer(std::byte* ram, size_t bytes, int file);

  /// To be called now and then: looks at a few pieces at most, and gathers one at most.
  void go_on(uint64_t nanoseconds_now);
  /// The RAM's pages have gone back to the host.
  void start_over();

  size_t gathered() const { return gathered_; }

 private:
  enum class Look : uint8_t { kSparse, kGathered, kRefused };
  Look look(size_t piece);
  uint64_t resident() const;

  std::byte* ram_ = nullptr;
  int file_ = -1;
  std::vector<bool> huge_;
  size_t next_ = 0;    ///< Piece to look at; their number: a round is over.
  uint64_t seen_ = 0;  ///< Resident bytes at the end of the last round.
  uint64_t due_ = 0;
  size_t gathered_ = 0;
  int refused_ = 0;  ///< In a row.
};

}  // namespace trapline
