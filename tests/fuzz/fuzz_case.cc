#include "tests/fuzz/fuzz_case.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>

#include "runtime/machine.h"
#include "tests/fuzz/guest_setup.h"
#include "vcpu/host_x87.h"

namespace trapline::fuzz {
namespace {

constexpr auto kTime = std::chrono::milliseconds(100);
/// A run that takes longer has not noticed its time limit; generous, for loaded machines.
constexpr auto kHang = std::chrono::seconds(5);
constexpr int kRuns = 32;  ///< How often a run is resumed after an exit.

/// Ports that answer, the same for every run.
class Ports final : public PortSpace {
 public:
  uint32_t in(uint16_t port, uint32_t) override { return port * 0x9e3779b9u + ++reads_; }
  void out(uint16_t, uint32_t, uint32_t) override {}

 private:
  uint32_t reads_ = 0;
};

struct Result {
  std::optional<std::string> problem;
  Exit::Kind last = Exit::Kind::kError;
  uint64_t instructions = 0;
  uint64_t hash = 0;
  bool timed_out = false;
  CpuState state;
  std::vector<std::byte> memory;
};

std::string number(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(value));
  return text;
}

/// Whether the run may go on after the exit; a problem when the exit makes no sense.
bool goes_on(Machine& machine, const Exit& exit, Result& result) {
  switch (exit.kind) {
    case Exit::Kind::kHalt:
    case Exit::Kind::kBreakpoint:
      return true;
    case Exit::Kind::kPortRead:
    case Exit::Kind::kPortWrite:
      if (exit.size != 1 && exit.size != 2 && exit.size != 4)
        result.problem = "a port exit has size " + number(exit.size);
      if (exit.kind == Exit::Kind::kPortRead) machine.complete_port_read(exit.port * 0x9e3779b9u);
      return true;
    case Exit::Kind::kException:
      if (static_cast<uint32_t>(exit.fault.vector) > 31)
        result.problem =
            "an exception exit has vector " + number(static_cast<uint32_t>(exit.fault.vector));
      return false;
    case Exit::Kind::kTripleFault:
    case Exit::Kind::kInstructions:
      return false;
    case Exit::Kind::kDeadline:
      result.timed_out = true;
      return false;
    case Exit::Kind::kError:
      result.problem = "the machine gave up: " + exit.message;
      return false;
    default:
      result.problem = "the exit kind is " + number(static_cast<uint32_t>(exit.kind));
      return false;
  }
}

Result run_once(const Guest& guest, const Switches& switches, uint64_t instructions) {
  Result result;
  Ports ports;
  MachineOptions options;
  options.memory_bytes = kMemoryBytes;
  options.code_cache_bytes = 1u << 20;
  options.switches = switches;
  options.clock = TimeSource::kInstructions;
  options.ports = guest.has_ports ? &ports : nullptr;
  options.exit_on_exceptions = guest.exits_on_exceptions ? ~0u : 0;
  auto made = Machine::create(options);
  if (!made.ok()) {
    result.problem = "no machine: " + made.error().message;
    return result;
  }
  const std::unique_ptr<Machine> machine = made.take();
  machine->write_memory({0}, std::as_bytes(std::span(guest.memory)));
  machine->set_state(guest.state);
  if (guest.interrupts) {
    machine->inject_interrupt(guest.vector);
    machine->inject_nmi();
  }
  if (guest.breakpoint) machine->add_breakpoint({guest.breakpoint_at});
  uint64_t left = instructions;
  for (int i = 0; i < kRuns; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Exit exit = machine->run({left, kTime});
    if (std::chrono::steady_clock::now() - start > kHang)
      result.problem = "a run did not notice its time limit";
    result.last = exit.kind;
    result.instructions = machine->statistics().instructions;
    if (result.instructions > instructions)
      result.problem = "the budget is overdrawn: " + number(result.instructions);
    if (result.problem || !goes_on(*machine, exit, result)) break;
    left = instructions - result.instructions;
  }
  result.hash = machine->state_hash();
  result.state = machine->state();
  result.memory.resize(kMemoryBytes);
  machine->read_memory({0}, result.memory);
  return result;
}

/// Switches that change as much as possible of how the same instructions are run. Exact flags stay
/// on: without them, flags that nothing can read differ.
Switches other_switches(uint32_t setup) {
  Switches switches;
  switches.exact_flags = true;
  switches.link_blocks = setup >> 27 & 1;
  switches.inline_indirect = setup >> 28 & 1;
  switches.stack_window = setup >> 29 & 1;
  switches.inline_memory = setup >> 30 & 1;
  switches.single_instruction = setup >> 31;
  switches.shrx = false;
  return switches;
}

std::string differing(const Result& first, const Result& second) {
  const CpuState& a = first.state;
  const CpuState& b = second.state;
  std::string out;
  const auto add = [&](const std::string& name, uint64_t left, uint64_t right) {
    if (left != right) out += " " + name + "=" + number(left) + "|" + number(right);
  };
  static constexpr std::array kNames = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
  for (size_t i = 0; i < 8; ++i) add(kNames[i], a.gpr[i], b.gpr[i]);
  add("eip", a.eip, b.eip);
  add("eflags", a.eflags, b.eflags);
  add("cpl", a.cpl, b.cpl);
  add("cr0", a.cr0, b.cr0);
  add("cr2", a.cr2, b.cr2);
  add("cr3", a.cr3, b.cr3);
  add("cr4", a.cr4, b.cr4);
  add("x87 control", a.fpu.control, b.fpu.control);
  add("x87 status", a.fpu.status, b.fpu.status);
  add("x87 tags", a.fpu.abridged_tag, b.fpu.abridged_tag);
  add("fip", a.fpu.ip, b.fpu.ip);
  add("fdp", a.fpu.dp, b.fpu.dp);
  add("fop", a.fpu.opcode, b.fpu.opcode);
  add("mxcsr", a.fpu.mxcsr, b.fpu.mxcsr);
  if (std::memcmp(&a.fpu.st, &b.fpu.st, sizeof a.fpu.st) != 0) out += " st";
  if (std::memcmp(&a.fpu.xmm, &b.fpu.xmm, sizeof a.fpu.xmm) != 0) out += " xmm";
  for (size_t i = 0; i < a.dr.size(); ++i) add("dr" + std::to_string(i), a.dr[i], b.dr[i]);
  for (size_t i = 0; i < first.memory.size(); ++i)
    if (first.memory[i] != second.memory[i]) {
      add("byte " + number(i), static_cast<uint64_t>(first.memory[i]),
          static_cast<uint64_t>(second.memory[i]));
      break;
    }
  return out.empty() ? " segments, tables or system registers only" : out;
}

bool same(const Result& a, const Result& b) {
  return a.last == b.last && a.instructions == b.instructions && a.hash == b.hash;
}

std::string switched_off(const Switches& switches) {
  std::string out;
  for (const SwitchName& name : switch_names())
    if (!(switches.*name.member)) out += " -" + std::string(name.name);
  if (switches.single_instruction) out += " +single";
  return out;
}

/// Memory at the next instruction as if paging were off, which it is or nearly is.
std::string code_at(const Result& result, const Guest& guest) {
  const uint32_t linear = result.state.eip + result.state.segment[kCs].base;
  std::string out;
  for (uint32_t i = 0; i < 8; ++i) {
    char text[8];
    std::snprintf(text, sizeof text, " %02x", guest.memory[(linear + i) % guest.memory.size()]);
    out += text;
  }
  return out;
}

/// Each after a space.
std::string registers(const CpuState& state) {
  std::string out;
  for (const uint32_t value : state.gpr) out.append(1, ' ').append(number(value));
  return out;
}

/// What the two runs differ in after the first instruction after which they do, and its place.
std::string explain(const Guest& guest, const Switches& switches, const Switches& others,
                    uint64_t bad) {
  uint64_t good = 0;
  while (bad - good > 1) {
    const uint64_t middle = (good + bad) / 2;
    if (same(run_once(guest, switches, middle), run_once(guest, others, middle)))
      good = middle;
    else
      bad = middle;
  }
  const Result before = run_once(guest, switches, good);
  const Result first = run_once(guest, switches, bad);
  const Result second = run_once(guest, others, bad);
  return "instruction " + number(bad) + " at cs base " + number(before.state.segment[kCs].base) +
         " + " + number(before.state.eip) + ":" + code_at(before, guest) + " (cpl " +
         number(before.state.cpl) + ", cr0 " + number(before.state.cr0) + ", eflags " +
         number(before.state.eflags) + ", registers" + registers(before.state) + ";" +
         switched_off(others) + ")" + ": exits " + number(static_cast<uint32_t>(first.last)) + "|" +
         number(static_cast<uint32_t>(second.last)) + ", instructions " +
         number(first.instructions) + "|" + number(second.instructions) + "," +
         differing(first, second);
}

}  // namespace

std::optional<std::string> run_input(std::span<const uint8_t> input, uint64_t instructions) {
  std::array<uint8_t, kHeaderBytes> header{};
  std::copy_n(input.begin(), std::min(input.size(), kHeaderBytes), header.begin());
  uint32_t setup = 0;
  uint64_t seed = 0;
  std::memcpy(&setup, header.data(), kSetupBytes);
  std::memcpy(&seed, header.data() + kSetupBytes, kSeedBytes);
  const auto code =
      input.size() > kHeaderBytes
          ? input.subspan(kHeaderBytes, std::min(input.size() - kHeaderBytes, kMaxCode))
          : std::span<const uint8_t>{};
  const Guest guest = make_guest(setup, seed, code);
  Switches switches;
  switches.exact_flags = true;
  const Result first = run_once(guest, switches, instructions);
  if (first.problem) return first.problem;
  const Switches others = other_switches(setup);
  const Result second = run_once(guest, others, instructions);
  if (second.problem) return second.problem;
  if (first.timed_out || second.timed_out) return std::nullopt;
  if (same(first, second)) return std::nullopt;
  // Some hosts lose the x87's pointers between two instructions, now and then.
  constexpr int kTries = 4;
  for (int i = 0; i < kTries && !host_saves_x87_pointers(); ++i)
    if (same(run_once(guest, switches, instructions), run_once(guest, others, instructions)))
      return std::nullopt;
  return explain(guest, switches, others, instructions);
}

}  // namespace trapline::fuzz
