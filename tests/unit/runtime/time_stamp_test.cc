// The time stamp counter that counts instructions: exact at each reading, and the same in each run.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint32_t kCode = 0x1000;

struct Outcome {
  std::array<uint32_t, 8> gpr{};
  uint64_t hash = 0;
  uint64_t instructions = 0;
};

/// Tells the machine's time.
class TimePorts final : public PortSpace {
 public:
  uint32_t in(uint16_t, uint32_t) override { return static_cast<uint32_t>(machine->time_stamp()); }
  void out(uint16_t, uint32_t, uint32_t) override {}
  Machine* machine = nullptr;
};

MachineOptions counting() {
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.code_cache_bytes = 1u << 20;
  options.clock = TimeSource::kInstructions;
  return options;
}

Outcome run(std::vector<uint8_t> code, MachineOptions options, std::optional<uint64_t> slice = {}) {
  TimePorts ports;
  options.ports = &ports;
  const auto machine = Machine::create(options).take();
  ports.machine = machine.get();
  code.push_back(0xf4);
  machine->write_memory({kCode}, std::as_bytes(std::span(code)));
  CpuState state = CpuState::flat32(0);
  state.eip = kCode;
  state.gpr[kEsp] = 0x8000;
  machine->set_state(state);
  Exit exit;
  do {
    exit = machine->run({slice, {}});
  } while (exit.kind == Exit::Kind::kInstructions);
  EXPECT_EQ(exit.kind, Exit::Kind::kHalt);
  return {machine->state().gpr, machine->state_hash(), machine->statistics().instructions};
}

const std::vector<uint8_t> kTwoReadings = {
    0x90,              // nop
    0x90,              // nop
    0x0f, 0x31,        // rdtsc: 2 are through
    0x89, 0xc3,        // mov ebx, eax
    0x31, 0xc9,        // xor ecx, ecx
    0x41,              // inc ecx
    0x83, 0xf9, 0x64,  // cmp ecx, 100
    0x75, 0xfa,        // jne inc: 300 in all
    0x0f, 0x31,        // rdtsc: 2 + 1 + 2 + 300
    0x89, 0xc6,        // mov esi, eax
    0xe5, 0x10,        // in eax, 0x10
};

TEST(TimeStamp, CountsTheInstructionsBeforeIt) {
  const Outcome outcome = run(kTwoReadings, counting());
  EXPECT_EQ(outcome.gpr[kEbx], 2u);
  EXPECT_EQ(outcome.gpr[kEsi], 305u);
  EXPECT_EQ(outcome.gpr[kEax], 307u);
  EXPECT_EQ(outcome.instructions, 309u);
}

TEST(TimeStamp, IsTheSameHoweverTheCodeIsRun) {
  const Outcome expected = run(kTwoReadings, counting());
  for (const SwitchName& name : switch_names()) {
    MachineOptions options = counting();
    options.switches.*name.member = !(options.switches.*name.member);
    EXPECT_EQ(run(kTwoReadings, options).hash, expected.hash) << name.name;
  }
  for (const uint64_t slice : {1, 2, 3, 7, 100})
    EXPECT_EQ(run(kTwoReadings, counting(), slice).hash, expected.hash) << slice;
}

TEST(TimeStamp, CanBeSetByTheGuest) {
  const Outcome outcome = run(
      {
          0xb9, 0x10, 0, 0, 0,  // mov ecx, 0x10
          0xb8, 0, 0x10, 0, 0,  // mov eax, 0x1000
          0x31, 0xd2,           // xor edx, edx
          0x0f, 0x30,           // wrmsr
          0x90,                 // nop
          0x0f, 0x32,           // rdmsr
      },
      counting());
  EXPECT_EQ(outcome.gpr[kEax], 0x1002u);
  EXPECT_EQ(outcome.gpr[kEdx], 0u);
}

TEST(TimeStamp, OfTheHostGoesOnByItself) {
  MachineOptions options = counting();
  options.clock = TimeSource::kHost;
  const Outcome outcome = run(kTwoReadings, options);
  EXPECT_NE(outcome.gpr[kEsi], outcome.gpr[kEbx]);
  EXPECT_EQ(outcome.instructions, 0u);
}

}  // namespace
}  // namespace trapline
