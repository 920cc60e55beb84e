#include "runtime/native/processor_wait.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string>
#include <utility>

namespace trapline {

ProcessorWait::~ProcessorWait() {
  close();
}

std::optional<uint64_t> ProcessorWait::of(pid_t thread) {
  if (file_ >= 0 && thread == thread_)
    if (const auto waited = read(); waited) return waited;
  // Another one, which may have the number of one that has ended.
  return open(thread) ? read() : std::nullopt;
}

bool ProcessorWait::open(pid_t thread) {
  close();
  const std::string name = "/proc/" + std::to_string(thread) + "/schedstat";
  file_ = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
  thread_ = thread;
  return file_ >= 0;
}

void ProcessorWait::close() {
  if (const int file = std::exchange(file_, -1); file >= 0) ::close(file);
}

/// What the kernel counts: how long it ran, how long it waited, and how often.
std::optional<uint64_t> ProcessorWait::read() const {
  std::array<char, 64> text;
  const ssize_t length = pread(file_, text.data(), text.size(), 0);
  if (length <= 0) return std::nullopt;
  const char* end = text.data() + length;
  uint64_t ran = 0;
  uint64_t waited = 0;
  const auto first = std::from_chars(text.data(), end, ran);
  if (first.ec != std::errc() || first.ptr == end || ran == 0)
    return std::nullopt;  // A kernel that does not count has 0.
  const auto second = std::from_chars(first.ptr + 1, end, waited);
  if (second.ec != std::errc()) return std::nullopt;
  return waited;
}

}  // namespace trapline
