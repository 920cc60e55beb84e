// Runs single instructions through the interpreter.
#pragma once

#include <Zydis/Zydis.h>

#include "world.h"

namespace trapline {

inline constexpr int kGp = 13;

class Interpreter : public World {
 protected:
  Interpreter() = default;
  explicit Interpreter(const CpuModel& cpu_model) : World(cpu_model) {}

  StepResult step(const std::vector<uint8_t>& code) {
    memory.put(state.segment[kCs].base + state.eip, code);
    return interpret(cpu);
  }
  void done(const std::vector<uint8_t>& code) {
    const uint32_t eip = state.eip;
    const StepResult result = step(code);
    ASSERT_EQ(result.step, Step::kRetired) << "vector " << static_cast<int>(result.fault.vector)
                                           << " error " << result.fault.error_code;
    EXPECT_EQ(result.length, code.size());
    if (straight_) {
      EXPECT_EQ(state.eip, eip + code.size());
    }
    state.eip = eip;
  }
  /// For instructions that set EIP.
  void transfers(const std::vector<uint8_t>& code) {
    const StepResult result = step(code);
    ASSERT_EQ(result.step, Step::kRetired) << "vector " << static_cast<int>(result.fault.vector)
                                           << " error " << result.fault.error_code;
  }
  void faults(const std::vector<uint8_t>& code, int vector, uint32_t error = 0) {
    memory.put(state.segment[kCs].base + state.eip, code);
    const CpuState before = state;
    const std::vector<uint8_t> bytes = memory.bytes();
    const StepResult result = interpret(cpu);
    ASSERT_EQ(result.step, Step::kFault);
    EXPECT_EQ(static_cast<int>(result.fault.vector), vector);
    EXPECT_EQ(result.fault.error_code, error);
    EXPECT_TRUE(state_is(before));
    EXPECT_TRUE(memory.bytes() == bytes);
  }
  uint32_t& eax() { return state.gpr[kEax]; }
  uint32_t flags() const { return state.eflags & eflags::kArithmetic; }

  bool straight_ = true;
};

class InterpreterPentium : public Interpreter {
 protected:
  InterpreterPentium() : Interpreter(*CpuModel::find("pentium")) {}
};
class Interpreter486 : public Interpreter {
 protected:
  Interpreter486() : Interpreter(*CpuModel::find("486")) {}
};

}  // namespace trapline
