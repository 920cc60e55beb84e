// Unicorn as a second opinion on user code: it checks the native runner and the generator, before
// and beside the engine. It is no oracle for x87, SSE or undefined flags, and has no page rights.
#pragma once

#include <memory>

#include "tests/differential/backend.h"

struct uc_struct;

namespace trapline::differential {

class UnicornUserBackend : public Backend {
 public:
  static Result<std::unique_ptr<UnicornUserBackend>> create(const WindowImage& common);
  ~UnicornUserBackend() override;
  UnicornUserBackend(const UnicornUserBackend&) = delete;
  UnicornUserBackend& operator=(const UnicornUserBackend&) = delete;

  std::string_view name() const override { return "unicorn"; }
  void run(std::span<const Case> cases, std::span<Outcome> outcomes) override;

 private:
  explicit UnicornUserBackend(const WindowImage& common);
  bool set_up();
  void run_case(const Case& test, Outcome& outcome);
  static void on_interrupt(uc_struct*, uint32_t number, void* self);

  const WindowImage& common_;
  uc_struct* uc_ = nullptr;
  std::unique_ptr<WindowImage> memory_;
  WindowPages window_{};
  uint32_t interrupt_ = 0;
};

/// The flags that an instruction of this mnemonic leaves undefined, by Zydis's table. What a shift
/// by more than one does to OF is counted as undefined too.
uint32_t undefined_flags(const uint8_t* code, size_t length);

}  // namespace trapline::differential
