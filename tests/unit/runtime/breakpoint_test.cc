// Breakpoints of the embedder's.
#include <gtest/gtest.h>

#include <vector>

#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint32_t kCode = 0x1000;

std::unique_ptr<Machine> machine_with(const std::vector<uint8_t>& code, PortSpace* ports) {
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.code_cache_bytes = 1u << 20;
  options.ports = ports;
  auto machine = Machine::create(options).take();
  machine->write_memory({kCode}, std::as_bytes(std::span(code)));
  CpuState state = CpuState::flat32(0);
  state.eip = kCode;
  state.gpr[kEcx] = 100;
  state.gpr[kEsi] = 0x2000;
  state.gpr[kEdi] = 0x3000;
  machine->set_state(state);
  return machine;
}

class NoPorts final : public PortSpace {
 public:
  uint32_t in(uint16_t, uint32_t) override { return 0; }
  void out(uint16_t, uint32_t, uint32_t) override {}
};

TEST(Breakpoints, AreMetOnceByARepeatedInstruction) {
  for (const std::vector<uint8_t>& code : {std::vector<uint8_t>{0xf3, 0xac, 0xf4},   // rep lodsb
                                           std::vector<uint8_t>{0xf3, 0xa5, 0xf4},   // rep movsd
                                           std::vector<uint8_t>{0xf3, 0xa6, 0xf4},   // repe cmpsb
                                           std::vector<uint8_t>{0xf3, 0x6e, 0xf4}})  // rep outsb
  {
    NoPorts ports;
    const auto machine = machine_with(code, &ports);
    machine->add_breakpoint({kCode});
    EXPECT_EQ(machine->run().kind, Exit::Kind::kBreakpoint);
    EXPECT_EQ(machine->state().gpr[kEcx], 100u);
    EXPECT_EQ(machine->run().kind, Exit::Kind::kHalt) << std::hex << int{code[1]};
    EXPECT_EQ(machine->state().gpr[kEcx], 0u);
  }
}

TEST(Breakpoints, AreMetAgainByALoop) {
  const auto machine = machine_with({0x49, 0x75, 0xfd, 0xf4}, nullptr);  // dec ecx; jnz
  machine->add_breakpoint({kCode});
  for (uint32_t left = 100; left > 0; --left) {
    EXPECT_EQ(machine->run().kind, Exit::Kind::kBreakpoint);
    EXPECT_EQ(machine->state().gpr[kEcx], left);
  }
  EXPECT_EQ(machine->run().kind, Exit::Kind::kHalt);
}

}  // namespace
}  // namespace trapline
