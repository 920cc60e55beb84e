// What translation, the run loop's edges and the state digest cost, through the embedding API.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/code_corpus.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint32_t kCodeAddress = 48u << 20;
constexpr uint32_t kStackAddress = 32u << 20;
constexpr uint64_t kMemoryBytes = 64u << 20;

// The targets of docs/benchmarks.md.
constexpr double kBasicBlockTarget = 2000;  // nanoseconds
constexpr double kInstructionTarget = 400;  // nanoseconds

/// Ends the program with a sentence when the host does not give the memory.
std::unique_ptr<Machine> make_empty_machine(uint64_t memory_bytes, const Switches& switches = {}) {
  MachineOptions options;
  options.switches = switches;
  options.memory_bytes = memory_bytes;
  auto made = Machine::create(options);
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    std::exit(1);
  }
  return made.take();
}

/// About to run `code` in ring 0, with paging off.
std::unique_ptr<Machine> make_machine(std::span<const std::byte> code,
                                      const Switches& switches = {}) {
  auto machine = make_empty_machine(kMemoryBytes, switches);
  machine->write_memory({kCodeAddress}, code);
  CpuState state = CpuState::flat32(0);
  state.cr0 |= cr0::kMp | cr0::kNe;
  state.cr4 |= cr4::kOsfxsr;
  state.eip = kCodeAddress;
  state.gpr[kEsp] = kStackAddress;
  machine->set_state(state);
  return machine;
}

std::span<const std::byte> bytes_of(const std::vector<uint8_t>& code) {
  return std::as_bytes(std::span(code));
}

/// Runs until a halt; anything else makes the benchmark fail with the reason.
bool run_to_halt(Machine& machine, benchmark::State& bench) {
  const Exit exit = machine.run();
  if (exit.kind == Exit::Kind::kHalt) return true;
  bench.SkipWithError(("the guest did not halt but ended with kind " +
                       std::to_string(static_cast<int>(exit.kind)) + ": " + exit.message)
                          .c_str());
  return false;
}

void add_counters(benchmark::State& bench, const Statistics& fastest) {
  const auto blocks = static_cast<double>(fastest.blocks_translated);
  const auto basic_blocks = static_cast<double>(fastest.basic_blocks_translated);
  const auto instructions = static_cast<double>(fastest.instructions_translated);
  const auto nanoseconds = static_cast<double>(fastest.translation_nanoseconds);
  const auto host_bytes = static_cast<double>(fastest.host_bytes_emitted);
  bench.counters["ns/block"] = nanoseconds / blocks;
  bench.counters["ns/basic block"] = nanoseconds / basic_blocks;
  bench.counters["ns/instruction"] = nanoseconds / instructions;
  bench.counters["bytes/block"] = host_bytes / blocks;
  bench.counters["bytes/basic block"] = host_bytes / basic_blocks;
  bench.counters["bytes/instruction"] = host_bytes / instructions;
  bench.counters["growth"] = host_bytes / static_cast<double>(fastest.guest_bytes_translated);
  bench.counters["instructions/block"] = instructions / blocks;
  bench.counters["blocks"] = blocks;
  const bool met = nanoseconds <= kBasicBlockTarget * basic_blocks &&
                   nanoseconds <= kInstructionTarget * instructions;
  bench.SetLabel(met ? "targets met" : "targets MISSED");
}

/// The time of an iteration is what the engine counted as translation; the counters are of the
/// fastest one. The argument is how often the kernels' text is laid out.
void translate_with(benchmark::State& bench, const Switches& switches) {
  const auto text = read_file(TRAPLINE_KERNELS_TEXT);
  const auto code = make_code_corpus(text, static_cast<uint32_t>(bench.range(0)), kCodeAddress);
  Statistics fastest;
  for (auto iteration : bench) {
    const auto machine = make_machine(code, switches);
    if (!run_to_halt(*machine, bench)) return;
    const Statistics one = machine->statistics();
    bench.SetIterationTime(static_cast<double>(one.translation_nanoseconds) * 1e-9);
    if (one.translation_nanoseconds < fastest.translation_nanoseconds ||
        fastest.translation_nanoseconds == 0)
      fastest = one;
  }
  add_counters(bench, fastest);
}

void translate(benchmark::State& bench) {
  translate_with(bench, {});
}
BENCHMARK(translate)->Arg(1)->Arg(40)->UseManualTime()->Unit(benchmark::kMicrosecond);

/// Blocks that end at conditional branches.
void translate_basic_blocks(benchmark::State& bench) {
  Switches switches;
  switches.extended_blocks = false;
  translate_with(bench, switches);
}
BENCHMARK(translate_basic_blocks)->Arg(40)->UseManualTime()->Unit(benchmark::kMicrosecond);

/// The whole of a first execution: misses, dispatches and translation, by the clock on the wall.
void execute_first_time(benchmark::State& bench) {
  const auto text = read_file(TRAPLINE_KERNELS_TEXT);
  const auto code = make_code_corpus(text, 40, kCodeAddress);
  double blocks = 0;
  for (auto iteration : bench) {
    bench.PauseTiming();
    auto machine = make_machine(code);
    bench.ResumeTiming();
    if (!run_to_halt(*machine, bench)) return;
    bench.PauseTiming();
    blocks += static_cast<double>(machine->statistics().blocks_translated);
    machine.reset();
    bench.ResumeTiming();
  }
  bench.counters["s/block"] =
      benchmark::Counter(blocks, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(execute_first_time)->UseRealTime()->Unit(benchmark::kMicrosecond);

/// Into run(), one HLT, and out again.
void enter_and_leave(benchmark::State& bench) {
  const std::vector<uint8_t> code = {0xf4, 0xeb, 0xfd};  // again: hlt; jmp again
  const auto machine = make_machine(bytes_of(code));
  for (auto iteration : bench)
    if (!run_to_halt(*machine, bench)) return;
}
BENCHMARK(enter_and_leave);

/// A port read that leaves run(), completed by the caller.
void leave_for_port(benchmark::State& bench) {
  const std::vector<uint8_t> code = {0xe4, 0x80, 0xeb, 0xfc};  // again: in al, 0x80; jmp again
  const auto machine = make_machine(bytes_of(code));
  for (auto iteration : bench) {
    if (machine->run().kind != Exit::Kind::kPortRead) {
      bench.SkipWithError("the guest did not read its port");
      return;
    }
    machine->complete_port_read(0);
  }
}
BENCHMARK(leave_for_port);

/// The argument is the RAM's size in MiB, every page of it written.
void state_hash(benchmark::State& bench) {
  const uint64_t bytes = static_cast<uint64_t>(bench.range(0)) << 20;
  const std::vector<std::byte> content(bytes, std::byte{0xa5});
  const auto machine = make_empty_machine(bytes);
  machine->write_memory({0}, content);
  for (auto iteration : bench) benchmark::DoNotOptimize(machine->state_hash());
  bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations()) * static_cast<int64_t>(bytes));
}
BENCHMARK(state_hash)->Arg(1)->Arg(64)->Unit(benchmark::kMicrosecond);

void create_and_destroy(benchmark::State& bench) {
  for (auto iteration : bench) benchmark::DoNotOptimize(make_empty_machine(kMemoryBytes));
}
BENCHMARK(create_and_destroy)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace trapline

BENCHMARK_MAIN();
