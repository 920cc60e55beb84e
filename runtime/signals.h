// Signals: faults of translated code, and kicks that bring the VCPU's thread back to the run loop.
#pragma once

#include <time.h>

#include <chrono>
#include <optional>

#include "vcpu/assert.h"
#include "vcpu/result.h"

namespace trapline {

class Engine;

/// Samples the engine that runs on this thread, by the thread's processor time.
class SamplingTimer {
 public:
  explicit SamplingTimer(std::chrono::nanoseconds interval);
  ~SamplingTimer();
  SamplingTimer(const SamplingTimer&) = delete;
  SamplingTimer& operator=(const SamplingTimer&) = delete;

 private:
  std::optional<timer_t> timer_;  ///< None where the host gives none.
};

/// Once per process; later calls do nothing.
Result<void> install_signal_handlers();

/// Moves the deadline of the engine that is running on this thread with one.
void change_deadline(std::chrono::nanoseconds after);
/// When that is, by the monotonic clock in nanoseconds; 0: it has none. A container's own timer is
/// what stops the engine then; the thread's comes some time later, until the deadline is taken
/// back.
uint64_t leave_deadline_to_container();
bool deadline_is_left_to_container();
void take_deadline_back();
/// The timer stays as it is when a run ends, as the next one may need it so. This is for when there
/// is none soon.
void forget_deadline();

/// While it lives, signals of this thread concern the engine.
class RunningEngine {
 public:
  RunningEngine(Engine& engine, std::optional<std::chrono::nanoseconds> deadline);
  ~RunningEngine();
  RunningEngine(const RunningEngine&) = delete;
  RunningEngine& operator=(const RunningEngine&) = delete;
  bool ok() const { return ok_; }

 private:
  Engine* previous_;
  InstalledHook previous_hook_;
  bool ok_ = true;
};

/// Makes the thread that runs the engine notice soon, again and again until it does. From any
/// thread or signal handler.
void kick_thread_of(const Engine& engine);
void forget_engine(const Engine& engine);

}  // namespace trapline
