// Kernel-mode sequences on Unicorn. One instance for all cases: registers come back by context,
// memory by copying, and both of its caches are emptied in between.
//
// This Unicorn walks page tables for rights, faults, A and D bits, but then accesses memory at the
// linear address. So the frames are one file, and what lies at the play pages' linear addresses are
// host mappings of it that follow the guest: they are made anew at each INVLPG and load of CR3.
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

  uint8_t* map_frames(uint32_t pages);
  void map_play_page(uint32_t page);
  void map_play_pages();
  void before_instruction(uint32_t address);

  uc_struct* uc_ = nullptr;
  int file_ = -1;             ///< The frames.
  Memory* memory_ = nullptr;  ///< All of them, in order.
  uint8_t* play_ = nullptr;   ///< What the play pages show.
  uint8_t* large_ = nullptr;  ///< What the large page shows.
  std::array<uint32_t, kPlayPages> play_frames_{};
  uint32_t space_ = 0;
  bool pae_ = false;
  std::array<Memory, 2> start_memory_{};
  std::array<uc_context*, 2> start_{};
  uc_context* scratch_ = nullptr;
  size_t pending_fault_ = 0;  ///< Where the context holds it, in words.
  uint32_t interrupt_ = 0;
  uint32_t retired_ = 0;
};

}  // namespace trapline::differential::kernel
