// The engine, through the embedding API: the same linear addresses as natively, mapped by PAE page
// tables with NX, at privilege 3, with every exception an exit.
#pragma once

#include <array>
#include <memory>

#include "runtime/machine.h"
#include "tests/differential/backend.h"

namespace trapline::differential {

/// What the native side could not set up, so that the engine's side must not have it either.
struct Environment {
  bool low_page = true;
  bool segments = true;
};

class MachineBackend : public Backend {
 public:
  static Result<std::unique_ptr<MachineBackend>> create(
      const WindowImage& common, const Environment& environment, const Switches& switches,
      Mutation mutation = Mutation::kNone,
      DirectExecution direct_execution = DirectExecution::kNever);
  std::string_view name() const override { return native_ ? "container" : "engine"; }
  bool on_processor() const override { return native_; }
  void run(std::span<const Case> cases, std::span<Outcome> outcomes) override;
  Machine& machine() { return *machine_; }

 private:
  MachineBackend(const WindowImage& common, const Environment& environment,
                 std::unique_ptr<Machine> machine, bool native);
  void map_pages(const Environment& environment);
  void map_page(uint32_t linear, uint64_t physical, uint64_t bits);
  void run_case(const Case& test, Outcome& outcome);
  void capture(const Case& test, const Exit& exit, Outcome& outcome);

  const WindowImage& common_;
  std::unique_ptr<Machine> machine_;
  CpuState start_;
  bool native_;
  WindowPages window_{};
};

}  // namespace trapline::differential
