#include "runtime/cli/replay.h"

#include <Zydis/Zydis.h>

#include <cstdio>
#include <memory>

#include "runtime/crash_bundle.h"

namespace trapline {
namespace {

constexpr uint64_t kInstructions = 1000;
constexpr std::chrono::seconds kTime{5};
constexpr int kListed = 12;

void print_state(const CpuState& state) {
  static constexpr const char* kNames[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
  for (size_t i = 0; i < 8; ++i)
    std::printf("%s %08x%s", kNames[i], state.gpr[i], i % 4 == 3 ? "\n" : "  ");
  std::printf("cs:eip %04x:%08x  eflags %08x  cpl %u\n", state.segment[kCs].selector, state.eip,
              state.eflags, state.cpl);
  std::printf("cr0 %08x  cr2 %08x  cr3 %08x  cr4 %08x\n", state.cr0, state.cr2, state.cr3,
              state.cr4);
}

void print_code(const CrashBundle& bundle) {
  const auto mode =
      bundle.state.segment[kCs].big() ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
  std::span<const std::byte> code = bundle.code();
  uint32_t eip = bundle.state.eip;
  for (int i = 0; i < kListed; ++i) {
    ZydisDisassembledInstruction decoded;
    if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, eip, code.data(), code.size(), &decoded))) return;
    std::printf("  %08x  %s\n", eip, decoded.text);
    code = code.subspan(decoded.info.length);
    eip += decoded.info.length;
  }
}

std::string ending(const Exit& exit) {
  switch (exit.kind) {
    case Exit::Kind::kHalt:
      return "it halted";
    case Exit::Kind::kTripleFault:
      return "it triple-faulted";
    case Exit::Kind::kPortRead:
    case Exit::Kind::kPortWrite:
      return "it accessed a port, which are not part of a bundle";
    case Exit::Kind::kException:
      return "it raised exception " + std::to_string(static_cast<int>(exit.fault.vector));
    case Exit::Kind::kInstructions:
      return "it was still running";
    case Exit::Kind::kDeadline:
      return "it was still running after " + std::to_string(kTime.count()) + " seconds";
    default:
      return "the engine stopped: " + exit.message;
  }
}

}  // namespace

Result<void> replay_bundle(const ReplayOptions& options) {
  auto read = read_bundle(options.bundle);
  if (!read.ok()) return read.error();
  CrashBundle& bundle = read.value();
  std::printf("what did not hold: %s\n", bundle.reason.c_str());
  print_state(bundle.state);
  print_code(bundle);
  std::fflush(stdout);
  // What memory lacks shows as an exception, which ends the run.
  bundle.options.exit_on_exceptions = ~0u;
  auto machine = machine_of(bundle);
  if (!machine.ok()) return machine.error();
  const Exit exit = machine.value()->run({kInstructions, kTime});
  std::printf("run again: %s after %llu instructions\n", ending(exit).c_str(),
              static_cast<unsigned long long>(machine.value()->statistics().instructions));
  print_state(machine.value()->state());
  return {};
}

}  // namespace trapline
