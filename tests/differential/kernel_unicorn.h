// Kernel-mode sequences on Unicorn. One instance for all cases: registers come back by context,
// memory by copying, and both of its caches are emptied in between.
#pragma once

#include "tests/differential/kernel_case.h"

struct uc_struct;
struct uc_context;

namespace trapline::differential::kernel {

class UnicornKernelBackend : public KernelBackend {
 public:
  static Result<std::unique_ptr<UnicornKernelBackend>> create();
  ~UnicornKernelBackend() override;
  UnicornKernelBackend(const UnicornKernelBackend&) = delete;
  UnicornKernelBackend& operator=(const UnicornKernelBackend&) = delete;

  std::string name() const override { return "unicorn"; }
  void run(const KernelCase& test, KernelOutcome& outcome) override;

 private:
  UnicornKernelBackend();
  bool set_up();
  bool run_prologue(bool pae);
  void load(const KernelCase& test);
  void drop_translations();
  bool find_pending_fault();
  void forget_fault();
  std::vector<uint32_t> context_words();
  void run_steps(const KernelCase& test, KernelOutcome& outcome);
  void capture(KernelOutcome& outcome);
  uint32_t reg(int name) const;
  static void on_interrupt(uc_struct* uc, uint32_t number, void* self);
  static void on_code(uc_struct* uc, uint64_t address, uint32_t size, void* self);

  struct alignas(kPageSize) Frames {
    Memory bytes{};
  };
  uc_struct* uc_ = nullptr;
  std::unique_ptr<Frames> memory_;
  std::array<Memory, 2> start_memory_{};
  std::array<uc_context*, 2> start_{};
  uc_context* scratch_ = nullptr;
  size_t pending_fault_ = 0;  ///< Where the context holds it, in words.
  uint32_t interrupt_ = 0;
  uint32_t last_eip_ = 0;
  uint32_t retired_ = 0;
};

}  // namespace trapline::differential::kernel
