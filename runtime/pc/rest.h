// Notices when a guest has come to rest: has booted, say, and waits at its prompt.
#pragma once

#include <cstdint>
#include <optional>

namespace trapline {

class RestWatch {
 public:
  /// The guest was idle from one time to another, in nanoseconds. Called in order.
  void idle(uint64_t begin, uint64_t end) {
    if (since_) return;
    busy_ += begin - seen_;
    seen_ = end;
    if (busy_ > kMostBusy) {
      busy_ = 0;
      candidate_ = begin;
    }
    if (end - candidate_ >= kStretch) since_ = candidate_;
  }
  /// The begin of the first stretch of which the guest was idle for nine tenths.
  std::optional<uint64_t> since() const { return since_; }

 private:
  static constexpr uint64_t kStretch = 250'000'000, kMostBusy = kStretch / 10;

  uint64_t candidate_ = 0;
  uint64_t busy_ = 0;  ///< Of the time since the candidate.
  uint64_t seen_ = 0;
  std::optional<uint64_t> since_;
};

}  // namespace trapline
