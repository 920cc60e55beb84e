// Keeps a thread where it is while it and containers run in turns.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <cstdint>

namespace trapline {

class HeldProcessor {
 public:
  HeldProcessor() = default;
  /// Releases, if this is the thread that holds. No other one can.
  ~HeldProcessor();
  HeldProcessor(const HeldProcessor&) = delete;
  HeldProcessor& operator=(const HeldProcessor&) = delete;

  /// Binds the calling thread to the processor that it runs on, which is returned. Every now and
  /// then it does not, so that the kernel can put the thread elsewhere the next time that it wakes
  /// up; then, and if it cannot be done, -1.
  int hold(uint64_t nanoseconds_now);
  /// The others that the thread might run on. Empty if none is held.
  cpu_set_t others() const;
  /// The thread may run again where it was allowed to before.
  void release();
  /// The same, if it has been in one place for long: for who may not hold again soon.
  void release_in_time(uint64_t nanoseconds_now);

 private:
  static constexpr uint64_t kStay = 200'000'000;  ///< In one place.

  cpu_set_t allowed_{};
  int processor_ = -1;  ///< That it is bound to.
  pthread_t holder_{};
  uint64_t since_ = 0;  ///< When the kernel could last choose.
};

/// Asks the kernel to let the calling thread run soon whenever it wakes up, for short times: it
/// interrupts a container that may be busy for as long as it likes. Kernels before Linux 6.12 have
/// nothing of that kind.
void ask_for_short_slices();

/// Asks the kernel to wake the calling thread up when it is time, not when it suits: whoever wants
/// to be awake just before something happens.
void ask_for_punctual_sleep();

}  // namespace trapline
