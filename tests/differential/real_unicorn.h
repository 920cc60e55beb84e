// Sequences of 16-bit code on Unicorn.
//
// Unicorn delivers no interrupt, it only tells of them. So INT and, in cases that want it,
// exceptions are delivered by the runner, as the manual describes it for real mode.
#pragma once

#include "tests/differential/kernel_case.h"

struct uc_struct;
struct uc_context;

namespace trapline::differential::kernel {

class UnicornRealBackend : public KernelBackend {
 public:
  static Result<std::unique_ptr<UnicornRealBackend>> create();
  ~UnicornRealBackend() override;
  UnicornRealBackend(const UnicornRealBackend&) = delete;
  UnicornRealBackend& operator=(const UnicornRealBackend&) = delete;

  std::string name() const override { return "unicorn"; }
  void run(const KernelCase& test, KernelOutcome& outcome) override;

 private:
  UnicornRealBackend();
  bool set_up();
  bool enter_real_mode();
  bool find_pending_fault();
  std::vector<uint32_t> context_words();
  void forget_fault();
  void load(const KernelCase& test);
  void run_steps(const KernelCase& test, KernelOutcome& outcome);
  bool deliver(uint8_t vector, uint32_t ip);
  KernelEvent undo_delivery(uint32_t stub);
  uint32_t cs_base(const KernelCase& test) const;
  uint32_t reg(int name) const;
  void set_reg(int name, uint32_t value);
  uint16_t read16(uint32_t address) const;
  void write16(uint32_t address, uint16_t value);
  void push16(uint16_t value);
  static void on_interrupt(uc_struct* uc, uint32_t number, void* self);
  static void on_code(uc_struct* uc, uint64_t address, uint32_t size, void* self);

  uc_struct* uc_ = nullptr;
  std::unique_ptr<Memory> memory_;
  uc_context* start_ = nullptr;  ///< In real mode.
  uc_context* scratch_ = nullptr;
  size_t pending_fault_ = 0;  ///< Where the context holds it, in words.
  uint32_t interrupt_ = 0;
  uint32_t retired_ = 0;
  uint32_t last_ = 0;  ///< Linear address of the instruction that began last.
};

}  // namespace trapline::differential::kernel
