// The host CPU in 32-bit compatibility mode, in a child process: a crash or a loop there is an
// outcome, not the end of the test.
//
// The child is a fork with the code and window pages mapped at their fixed addresses. A case starts
// by an IRETQ into the 32-bit code segment and ends by a far jump that stands at each exit, so that
// only faulting cases cost a signal. Cases and outcomes cross in batches through shared memory.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "tests/differential/backend.h"

namespace trapline::differential {

struct NativeShared;

class NativeBackend : public Backend {
 public:
  /// Fails with a sentence when this host cannot run 32-bit code.
  static Result<std::unique_ptr<NativeBackend>> create(const WindowImage& common);
  ~NativeBackend() override;
  NativeBackend(const NativeBackend&) = delete;
  NativeBackend& operator=(const NativeBackend&) = delete;

  std::string_view name() const override { return "host"; }
  bool on_processor() const override { return true; }
  void run(std::span<const Case> cases, std::span<Outcome> outcomes) override;
  /// What this host lacks, and which cases therefore always fault on it. Empty when nothing.
  std::string limitations() const;
  bool has_low_page() const;
  bool has_segments() const;
  bool has_code16() const;

 private:
  NativeBackend(NativeShared* shared, int file) : shared_(shared), file_(file) {}
  void start_child();
  void stop_child();
  void run_batch(std::span<const Case> cases, std::span<Outcome> outcomes);
  /// False when the child is gone.
  bool wait_for_batch();

  NativeShared* shared_;
  int file_;  ///< Where the child finds it.
  pid_t child_ = -1;
};

}  // namespace trapline::differential
