// Notices when a guest does nothing but halt and count timer interrupts.
#pragma once

#include <cstdint>

namespace trapline {

class CalmWatch {
 public:
  /// What a guest does beside that shows in these, which only grow.
  struct Signs {
    uint64_t port_accesses = 0;  ///< Other than to interrupt controllers.
    uint64_t user_entries = 0;

    bool operator==(const Signs&) const = default;
  };

  /// The guest has halted.
  void halts(const Signs& signs) {
    wakes_ = signs == signs_ ? wakes_ + 1 : 0;
    signs_ = signs;
  }
  /// Something other than a timer has happened.
  void disturb() { wakes_ = 0; }
  bool calm() const { return wakes_ >= kWakes; }

 private:
  static constexpr uint64_t kWakes = 16;

  Signs signs_;
  uint64_t wakes_ = 0;  ///< In a row, that did nothing.
};

}  // namespace trapline
