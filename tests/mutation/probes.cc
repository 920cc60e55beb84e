#include "tests/mutation/probes.h"

#include <chrono>
#include <memory>
#include <span>

#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint32_t kCode = 0x1000;
constexpr uint32_t kStackPage = 0x5000;
constexpr uint32_t kOtherFrame = 0x6000;
constexpr uint32_t kDirectory = 0x10000;
constexpr uint32_t kTable = 0x11000;

std::unique_ptr<Machine> machine_with(std::span<const uint8_t> code, Mutation mutation) {
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.code_cache_bytes = 1u << 20;
  options.mutation = mutation;
  auto machine = Machine::create(options);
  if (!machine.ok()) return nullptr;
  machine.value()->write_memory({kCode}, std::as_bytes(code));
  CpuState state = CpuState::flat32(0);
  state.eip = kCode;
  state.gpr[kEsp] = kStackPage + 0x800;
  machine.value()->set_state(state);
  return machine.take();
}

bool runs_to_halt(Machine& machine) {
  RunLimits limits;
  limits.time = std::chrono::seconds(2);
  return machine.run(limits).kind == Exit::Kind::kHalt;
}

void store32(Machine& machine, uint32_t address, uint32_t value) {
  machine.write_memory({address}, std::as_bytes(std::span(&value, 1)));
}

uint32_t load32(const Machine& machine, uint32_t address) {
  uint32_t value = 0;
  machine.read_memory({address}, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

}  // namespace

bool patched_function_passes(Mutation mutation) {
  static constexpr uint8_t kLoop[] = {
      0xb9, 10,   0,    0,    0,     // 00 mov ecx, 10
      0xe8, 14,   0,    0,    0,     // 05 again: call function
      0x01, 0xc3,                    // 0a add ebx, eax
      0xfe, 0x05, 0x19, 0x10, 0, 0,  // 0c inc byte [function + 1]
      0x49,                          // 12 dec ecx
      0x75, 0xf0,                    // 13 jnz again
      0xf4, 0x90, 0x90,              // 15 hlt
      0xb8, 1,    0,    0,    0,     // 18 function: mov eax, 1
      0xc3,                          // 1d ret
  };
  const auto machine = machine_with(kLoop, mutation);
  return machine && runs_to_halt(*machine) && machine->state().gpr[kEbx] == 55;
}

bool moved_stack_passes(Mutation mutation) {
  static constexpr uint8_t kPushes[] = {
      0xb9, 10,   0, 0, 0,  // mov ecx, 10
      0x50,                 // again: push eax
      0x58,                 // pop eax
      0x49,                 // dec ecx
      0x75, 0xfb,           // jnz again
      0xf4,                 // hlt
      0x50,                 // push eax
      0xf4,                 // hlt
  };
  constexpr uint32_t kValue = 0x12345678;
  const auto machine = machine_with(kPushes, mutation);
  if (!machine) return false;
  store32(*machine, kDirectory, kTable | 7);
  for (uint32_t page = 0; page < 32; ++page) store32(*machine, kTable + page * 4, page << 12 | 7);
  CpuState state = machine->state();
  state.gpr[kEax] = kValue;
  state.cr3 = kDirectory;
  state.cr0 |= cr0::kPg;
  machine->set_state(state);
  if (!runs_to_halt(*machine)) return false;
  store32(*machine, kTable + (kStackPage >> 12) * 4, kOtherFrame | 7);
  if (!runs_to_halt(*machine)) return false;
  return load32(*machine, kOtherFrame + 0x7fc) == kValue;
}

}  // namespace trapline
