// Sequences of 16-bit code on the engine.
#pragma once

#include "runtime/machine.h"
#include "tests/differential/kernel_case.h"

namespace trapline::differential::kernel {

class MachineRealBackend : public KernelBackend {
 public:
  static Result<std::unique_ptr<MachineRealBackend>> create(const Switches& switches);
  std::string name() const override { return "engine"; }
  void run(const KernelCase& test, KernelOutcome& outcome) override;

 private:
  /// One machine for cases whose exceptions end the step, one where they are delivered.
  using Machines = std::array<std::unique_ptr<Machine>, 2>;
  explicit MachineRealBackend(Machines machines) : machines_(std::move(machines)) {}
  void load(Machine& machine, const KernelCase& test);
  void run_steps(Machine& machine, const KernelCase& test, KernelOutcome& outcome);

  Machines machines_;
};

}  // namespace trapline::differential::kernel
