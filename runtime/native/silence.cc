#include "runtime/native/silence.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace trapline {

ProcessUse ProcessUse::of(pid_t pid) {
  ProcessUse use;
  if (pid <= 0) return use;
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0)
    use.processor_time = std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  const int file = open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return use;
  std::array<char, 256> text{};
  const ssize_t length = read(file, text.data(), text.size());
  close(file);
  use.held_up = length > 0 && held_up_in({text.data(), static_cast<size_t>(length)});
  return use;
}

bool ProcessUse::held_up_in(std::string_view stat) {
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string_view::npos || name_end + 2 >= stat.size()) return false;
  const char state = stat[name_end + 2];
  return state == 'R' || state == 'D';
}

void Silence::look(Time now, ProcessUse use) {
  const std::chrono::nanoseconds passed = now - at_;
  const std::chrono::nanoseconds ran = use.processor_time - processor_time_;
  length_ += use.held_up ? std::clamp(ran, std::chrono::nanoseconds{0}, passed) : passed;
  at_ = now;
  processor_time_ = use.processor_time;
}

}  // namespace trapline
