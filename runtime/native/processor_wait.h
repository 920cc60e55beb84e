// How long threads have waited for a processor although they had something to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace trapline {

/// For who asks again and again, of the same one as a rule: its file stays open, since opening it
/// takes several times as long as reading it.
class ProcessorWait {
 public:
  ProcessorWait() = default;
  ~ProcessorWait();
  ProcessorWait(const ProcessorWait&) = delete;
  ProcessorWait& operator=(const ProcessorWait&) = delete;

  /// Of a thread, or of a process's main thread, since ever, in nanoseconds. Not every host tells,
  /// nor of every process.
  std::optional<uint64_t> of(pid_t thread);

 private:
  bool open(pid_t thread);
  void close();
  std::optional<uint64_t> read() const;

  pid_t thread_ = 0;
  int file_ = -1;
};

}  // namespace trapline
