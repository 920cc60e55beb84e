// Pages of guest RAM that lie side by side in the host's memory although they do not in RAM: what
// lies across both can be reached by one distance from its linear address.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "shadowmmu/host_pages.h"

namespace trapline {

class AdjacentPages {
 public:
  enum class State : uint8_t {
    kThere,
    kNew,      ///< They are there from now on, and another pair may be no more.
    kNotYet,   ///< They have to be asked for more often first.
    kRefused,  ///< They are not to be had.
    kFailed,   ///< The same, and another pair may be no more.
  };
  struct Found {
    State state = State::kRefused;
    std::byte* host = nullptr;  ///< Where the first one begins.
  };

  /// The file with RAM must outlive it.
  explicit AdjacentPages(int ram_file);
  /// By where the pages lie in the file.
  Found find(uint64_t first, uint64_t second);

  static constexpr size_t kPairs = 32;
  static constexpr uint32_t kOften = 4;  ///< So often a pair is asked for before it is mapped.

 private:
  struct Pair {
    uint64_t first = ~uint64_t{0};
    uint64_t second = ~uint64_t{0};
    uint64_t last_use = 0;
    uint32_t asked = 0;
  };
  std::byte* place_of(size_t pair) const;
  bool map(size_t pair);

  int file_;
  HostPages places_;
  std::array<Pair, kPairs> pairs_;
  uint64_t uses_ = 0;
};

}  // namespace trapline
