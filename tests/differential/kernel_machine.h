// Kernel-mode sequences on the engine.
#pragma once

#include "runtime/machine.h"
#include "tests/differential/kernel_case.h"

namespace trapline::differential::kernel {

class MachineKernelBackend : public KernelBackend {
 public:
  static Result<std::unique_ptr<MachineKernelBackend>> create(const Switches& switches);
  std::string name() const override { return "engine"; }
  void run(const KernelCase& test, KernelOutcome& outcome) override;

 private:
  explicit MachineKernelBackend(std::unique_ptr<Machine> machine);
  /// Writes what differs from the given memory, through the API, so that the engine notices.
  void set_memory(const Memory& wanted);
  void capture(KernelOutcome& outcome) const;
  void run_steps(const KernelCase& test, KernelOutcome& outcome);

  std::unique_ptr<Machine> machine_;
  std::array<Memory, 2> start_memory_{};  ///< Without and with PAE.
  std::array<CpuState, 2> start_state_{};
};

}  // namespace trapline::differential::kernel
