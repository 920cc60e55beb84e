// What the parent and the child of the native runner share.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "tests/differential/case.h"

namespace trapline::differential {

inline constexpr uint32_t kNativeBatch = 256;

struct NativeShared {
  std::atomic<uint32_t> request = 0;   ///< Batches asked for. A futex.
  std::atomic<uint32_t> reply = 0;     ///< Batches done, or 1 once the child is set up. A futex.
  std::atomic<uint32_t> progress = 0;  ///< Cases of the batch that are done.
  uint32_t count = 0;
  bool low_page = false;  ///< Whether kLow could be mapped.
  bool segments = false;  ///< Whether FS and GS are based segments, else flat.
  bool code16 = false;    ///< Whether there are 16-bit segments.
  bool failed = false;    ///< The child could not set itself up.
  WindowImage common;
  std::array<Case, kNativeBatch> cases;
  std::array<Outcome, kNativeBatch> outcomes;
};

/// The child's life. Never returns.
[[noreturn]] void native_child_main(NativeShared& shared);

/// Futex wait and wake on a shared word; wait returns on any wake-up or after the milliseconds.
void futex_wait(std::atomic<uint32_t>& word, uint32_t while_value, int milliseconds);
void futex_wake(std::atomic<uint32_t>& word);

}  // namespace trapline::differential
