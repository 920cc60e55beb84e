// How long another process has had the chance to answer and did not. A busy host may leave a
// process without a processor for seconds, which is no fault of the process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string_view>

namespace trapline {

/// What the host tells about a process.
struct ProcessUse {
  std::chrono::nanoseconds processor_time{0};
  bool held_up = false;  ///< It would go on, but waits for a processor or for a page.

  static ProcessUse of(pid_t pid);
  /// From the text of /proc/PID/stat; the state stands behind the name, which may hold anything.
  static bool held_up_in(std::string_view stat);
};

class Silence {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Silence(Time now, ProcessUse use) : at_(now), processor_time_(use.processor_time) {}
  /// A look at the process. While it is held up, only the time for which it ran counts.
  void look(Time now, ProcessUse use);
  std::chrono::nanoseconds length() const { return length_; }

 private:
  Time at_;
  std::chrono::nanoseconds processor_time_;
  std::chrono::nanoseconds length_{0};
};

}  // namespace trapline
