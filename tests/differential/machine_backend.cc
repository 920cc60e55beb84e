#include "tests/differential/machine_backend.h"

#include <chrono>
#include <cstdio>

#include "tests/differential/text.h"
#include "vcpu/assert.h"

namespace trapline::differential {
namespace {

// Physical memory: page tables, code, window.
constexpr uint64_t kTables = 0x100000;  ///< PDPT, then a directory, then page tables.
constexpr uint64_t kDirectory = 0x101000;
constexpr uint64_t kFirstTable = 0x102000;
constexpr uint64_t kCodeFrames = 0x200000;
constexpr uint64_t kWindowFrames = 0x300000;

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;

void store64(Machine& machine, uint64_t address, uint64_t value) {
  machine.write_memory({address}, std::as_bytes(std::span(&value, 1)));
}

uint64_t load64(const Machine& machine, uint64_t address) {
  uint64_t value = 0;
  machine.read_memory({address}, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

Segment limited_segment(uint16_t selector, uint32_t base, uint32_t limit) {
  Segment out = Segment::flat(selector, false, 3);
  out.base = base;
  out.limit = limit;
  if (limit != ~0u) out.attributes &= ~segment::kGranularity;
  out.derive();
  return out;
}

Segment segment16(uint16_t selector, uint32_t base, bool code) {
  Segment out = Segment::flat(selector, code, 3);
  out.base = base;
  out.limit = 0xffff;
  out.attributes &= ~(segment::kGranularity | segment::kBig);
  out.derive();
  return out;
}

void enter_code16(CpuState& state) {
  state.segment[kCs] = segment16(kCode16Selector, kCode16Base, true);
  state.segment[kSs] = segment16(kStack16Selector, kStack16Base, false);
  for (SegmentName name : {kDs, kEs})
    state.segment[name] = segment16(kData16Selector, kData16Base, false);
  state.eip -= kCode16Base;
}

CpuState start_state(const Environment& environment) {
  CpuState state = CpuState::flat32(3);
  for (int name = 0; name < kSegmentCount; ++name) {
    const bool code = name == kCs;
    state.segment[size_t(name)] = Segment::flat(code ? kCodeSelector : kDataSelector, code, 3);
  }
  if (environment.segments) {
    state.segment[kFs] = limited_segment(kFsSelector, kFsBase, ~0u);
    state.segment[kGs] = limited_segment(kGsSelector, kGsBase, kGsLimit);
  }
  // No room for an I/O permission bitmap: every port is #GP, as for a process.
  state.tr.limit = 0x10;
  state.idtr.limit = 0;
  state.cr0 |= cr0::kPg | cr0::kWp | cr0::kMp;
  state.cr4 |= cr4::kPae | cr4::kOsfxsr | cr4::kOsxmmexcpt;
  state.cr3 = kTables;
  state.pdpte[0] = kDirectory | kPresent;
  state.msr.efer |= efer::kNxe;
  return state;
}

}  // namespace

Result<std::unique_ptr<MachineBackend>> MachineBackend::create(const WindowImage& common,
                                                               const Environment& environment,
                                                               const Switches& switches,
                                                               Mutation mutation,
                                                               DirectExecution direct_execution) {
  MachineOptions options;
  options.memory_bytes = 16u << 20;
  options.code_cache_bytes = 16u << 20;
  options.switches = switches;
  options.mutation = mutation;
  options.exit_on_exceptions = ~0u;
  options.direct_execution = direct_execution;
  options.native_at_once = true;
  auto machine = Machine::create(options);
  if (!machine.ok()) return machine.error();
  if (const std::string& refusal = machine.value()->native_refusal(); !refusal.empty())
    return Error{ExitStatus::kHost, refusal};
  return std::unique_ptr<MachineBackend>(new MachineBackend(
      common, environment, machine.take(), direct_execution != DirectExecution::kNever));
}

MachineBackend::MachineBackend(const WindowImage& common, const Environment& environment,
                               std::unique_ptr<Machine> machine, bool native)
    : common_(common),
      machine_(std::move(machine)),
      start_(start_state(environment)),
      native_(native) {
  map_pages(environment);
  machine_->write_memory({kWindowFrames}, std::as_bytes(std::span(common.bytes)));
  for (uint32_t page = 0; page < kWindowPages; ++page) {
    const Frame& frame = machine_->memory().frame((kWindowFrames >> kPageShift) + page);
    window_[page] = reinterpret_cast<uint8_t*>(frame.host);
  }
}

void MachineBackend::map_pages(const Environment& environment) {
  store64(*machine_, kTables, kDirectory | kPresent);
  for (uint32_t page = 0; page < kCodePages; ++page)
    map_page(kCodeBase + page * kPageSize, kCodeFrames + page * kPageSize, kPresent | kUser);
  for (const Region& region : kRegions) {
    if (region.base == kLow.base && !environment.low_page) continue;
    for (uint32_t page = 0; page < region.pages; ++page) {
      map_page(region.base + page * kPageSize,
               kWindowFrames + (region.first_page + page) * kPageSize,
               kPresent | kUser | kNoExecute | (region.writable ? kWritable : 0));
    }
  }
}

void MachineBackend::map_page(uint32_t linear, uint64_t physical, uint64_t bits) {
  TRAPLINE_ASSERT(linear >> 30 == 0);
  constexpr uint64_t kAddress = 0xffffff000;
  const uint64_t directory_entry = kDirectory + (linear >> 21) * 8;
  if (load64(*machine_, directory_entry) == 0) {
    uint64_t table = kFirstTable;
    for (uint32_t i = 0; i < 512; ++i)
      table += load64(*machine_, kDirectory + i * 8) ? kPageSize : 0;
    store64(*machine_, directory_entry, table | kPresent | kWritable | kUser);
  }
  const uint64_t table = load64(*machine_, directory_entry) & kAddress;
  store64(*machine_, table + (linear >> 12 & 511) * 8, physical | bits);
}

void MachineBackend::run(std::span<const Case> cases, std::span<Outcome> outcomes) {
  for (size_t i = 0; i < cases.size(); ++i) run_case(cases[i], outcomes[i]);
}

void MachineBackend::run_case(const Case& test, Outcome& outcome) {
  outcome = Outcome{};
  apply_patches(test, window_);
  std::array<uint8_t, kCodeBytes> code;
  fill_code_pages(test, code);
  machine_->write_memory({kCodeFrames}, std::as_bytes(std::span(code)));
  CpuState state = start_;
  state.gpr = test.initial.gpr;
  state.eip = test.initial.eip;
  state.eflags = test.initial.eflags;
  state.fpu = test.initial.fpu;
  if (test.size == CodeSize::k16) enter_code16(state);
  machine_->set_state(state);
  const Exit exit = machine_->run({std::nullopt, std::chrono::milliseconds(500)});
  capture(test, exit, outcome);
  collect_changes(window_, common_, outcome);
  normalise(outcome);
}

void MachineBackend::capture(const Case& test, const Exit& exit, Outcome& outcome) {
  const CpuState& state = machine_->state();
  outcome.final.gpr = state.gpr;
  const uint32_t eip = state.eip + (test.size == CodeSize::k16 ? kCode16Base : 0);
  outcome.final.eip = eip;
  outcome.final.eflags = state.eflags;
  outcome.final.fpu = state.fpu;
  switch (exit.kind) {
    case Exit::Kind::kException:
      break;
    case Exit::Kind::kDeadline:
      outcome.event = Event::kTimeout;
      return;
    default:
      std::fprintf(stderr, "The engine left case %llu with exit kind %d. %s\n", ull(test.number),
                   static_cast<int>(exit.kind), exit.message.c_str());
      return;
  }
  outcome.vector = static_cast<uint8_t>(exit.fault.vector);
  for (uint32_t i = 0; i < kExits; ++i) {
    if (exit.fault.vector != Vector::kBreakpoint || eip != test.exit_address(i) + 1) continue;
    outcome.event = Event::kEnd;
    outcome.vector = 0;
    outcome.final.eip = test.exit_address(i);
    return;
  }
  outcome.event = Event::kException;
  outcome.error_code = exit.fault.has_error_code ? exit.fault.error_code : 0;
  outcome.cr2 = exit.fault.vector == Vector::kPageFault ? exit.fault.linear : 0;
}

}  // namespace trapline::differential
