// The run loop: what happens between two stays in translated code.
#include <Zydis/Mnemonic.h>
#include <Zydis/Utils.h>
#include <Zydis/Zydis.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/engine.h"
#include "runtime/signals.h"
#include "vcpu/debug_registers.h"

namespace trapline {

namespace {
constexpr uint32_t kMxcsrBits = 0xffff;  ///< The others are reserved; FXRSTOR refuses them.

Exit exit_of(Exit::Kind kind) {
  Exit exit;
  exit.kind = kind;
  return exit;
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value;
  hash *= 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}
}  // namespace

Exit Engine::run(const RunLimits& limits) {
  HotFields& hot = context_->hot;
  if (running_) {
    Exit exit = exit_of(Exit::Kind::kError);
    exit.message = "the machine is running already; its ports and devices must not run it";
    return exit;
  }
  if (limits.instructions && *limits.instructions == 0) return exit_of(Exit::Kind::kInstructions);
  counted_ = limits.instructions || options_.clock == TimeSource::kInstructions;
  all_counted_ = all_counted_ && counted_;
  constexpr uint64_t kLargestBudget = uint64_t{1} << 62;
  budget_given_ =
      counted_ ? std::min(limits.instructions.value_or(kLargestBudget), kLargestBudget) : 0;
  hot.budget = static_cast<int64_t>(budget_given_);
  deadline_passed_ = false;
  prepare_thread_for_native();
  if (options_.sample_interval.count() > 0 && !sampling_timer_)
    sampling_timer_.emplace(options_.sample_interval);
  const RunningEngine running(*this, limits.time);
  begin_brief_stay();
  running_ = true;
  Exit exit = running.ok() ? loop() : exit_of(Exit::Kind::kError);
  running_ = false;
  rest_after(exit, limits);
  sync_fpu_pointers();
  if (exit.kind == Exit::Kind::kError && exit.message.empty())
    exit.message = "the host gives no timer for the deadline";
  instructions_counted_ = retired();
  hot.budget = 0;
  budget_given_ = 0;
  return exit;
}

/// Exact where the budget is: when no block runs, or gave back what it had not run yet.
uint64_t Engine::retired() const {
  return instructions_counted_ + budget_given_ - static_cast<uint64_t>(context_->hot.budget);
}

Exit Engine::loop() {
  HotFields& hot = context_->hot;
  CpuState& state = context_->cpu;
  const auto enter = reinterpret_cast<EnterFunction>(uint64_t{thunks_.enter});
  // An IN whose port has been read is through before anything else comes.
  bool answered = port_read_completed_;
  if (answered) breakpoint_at_ = state.eip;
  step_over_breakpoint_ =
      (answered || at_breakpoint_) && breakpoint_at_ == state.eip && !breakpoints_.empty();
  if (native_ && state.cpl == 3) note_user_code();
  for (;;) {
    if (stop_requested_ && stop_requested_.exchange(false)) return exit_of(Exit::Kind::kStopped);
    if (deadline_passed_) return exit_of(Exit::Kind::kDeadline);
    if (answered) {
      state.eflags |= eflags::kRf;
      port_read_waits_ = false;
    } else {
      if (auto ended = debug_trap(false)) return *ended;
      Exit exit;
      if (deliver_pending(exit)) return exit;
      if (deliverable()) continue;  // Another one, before the handler's first instruction.
      // The interrupt's frame has met a breakpoint.
      if (debug_met_ && state.shadow == InterruptShadow::kNone) continue;
    }
    state.halted = false;  // What runs on after HLT waits for nothing.
    step_ = {(state.eflags & eflags::kTf) != 0, counters_.stepping_events()};
    const bool single = std::exchange(step_translated_, false) || step_.trap || answered ||
                        state.shadow != InterruptShadow::kNone || step_over_breakpoint_ ||
                        x87_ignored_;
    hot.attention = 0;
    if (!single && native_due()) {
      if (auto ended = run_native()) return *ended;
      continue;
    }
    if (step_over_breakpoint_) flush_code();
    const uint64_t code = single ? resume_variant(Variant::kSingle) : resume();
    if (single) hot.attention = 1;
    const bool passes_x87 = std::exchange(x87_passes_, false) && step_.completed(counters_);
    if (passes_x87) mask_x87();
    enter(&state, code);
    import_flags();
    at_breakpoint_ = false;
    if (std::exchange(answered, false)) port_read_completed_ = false;
    if (step_over_breakpoint_) {
      step_over_breakpoint_ = false;
      flush_code();
    }
    const bool completed = !std::exchange(x87_held_, false) && step_.completed(counters_);
    if (passes_x87) unmask_x87(completed);
    if (x87_ignored_ && !(state.fpu.status & ~state.fpu.control & 0x3f))
      options_.board->x87_error_cleared();
    if (static_cast<Leave>(hot.exit_code) == Leave::kExit) {
      at_breakpoint_ = exit_.kind == Exit::Kind::kBreakpoint;
      if (at_breakpoint_) breakpoint_at_ = state.eip;
      const bool halts = exit_.kind == Exit::Kind::kHalt;
      const bool retired = halts || exit_.kind == Exit::Kind::kPortWrite;
      if (retired && step_.trap && completed) debug_met_ |= dr6::kSingleStep;
      if (!halts || !debug_met_) return exit_;
      // The trap ends the halt.
    }
    if (auto ended = debug_trap(step_.trap && completed)) return *ended;
  }
}

void Engine::set_state(const CpuState& state) {
  context_->cpu = state;
  for (Segment& segment : context_->cpu.segment) segment.derive();
  context_->cpu.ldtr.derive();
  context_->cpu.tr.derive();
  context_->cpu.eflags = (state.eflags & eflags::kDefined) | eflags::kFixed1;
  if (!state.protected_mode()) {
    context_->cpu.cpl = 0;
    context_->cpu.eflags &= ~eflags::kVm;  // Of protected mode only.
  }
  if (context_->cpu.v86()) context_->cpu.cpl = 3;
  context_->hot.fpu_loaded = 0;
  context_->hot.compare_unfinished = 0;
  debug_met_ = 0;
  step_translated_ = x87_held_ = x87_passes_ = false;
  context_->cpu.fpu.mxcsr &= kMxcsrBits;
  note_fpu_pointers();
  forget_views();
  drop_window();
  port_read_waits_ = port_read_completed_ = false;
}

void Engine::inject_interrupt(uint8_t vector) {
  queued_interrupts_.push_back(vector);
  note_interrupts();
}

void Engine::inject_nmi() {
  nmi_waiting_ = true;
  context_->hot.attention = 1;
}

void Engine::forget_injected() {
  nmi_waiting_ = false;
  queued_interrupts_.clear();
  note_interrupts();
}

void Engine::set_interrupt_line(bool asserted, InterruptSource* source) {
  interrupt_source_ = asserted ? source : nullptr;
  note_interrupts();
  ask_for_attention_if_due();
}

Statistics Engine::statistics() const {
  Statistics s;
  s.instructions = retired();
  s.counted = s.instructions != 0 && all_counted_;
  s.interpreted = counters_.interpreted;
  for (size_t i = 0; i < interpreted_by_mnemonic_.size(); ++i)
    if (interpreted_by_mnemonic_[i])
      s.interpreted_top.push_back(
          {ZydisMnemonicGetString(static_cast<ZydisMnemonic>(i)), interpreted_by_mnemonic_[i]});
  std::ranges::sort(s.interpreted_top, std::ranges::greater{}, &OpcodeCount::count);
  if (s.interpreted_top.size() > 20) s.interpreted_top.resize(20);
  s.blocks_translated = counters_.blocks_translated;
  s.blocks_copied = cache_->counters().copies;
  s.pages_of_code_moved = cache_->counters().moved_tables;
  s.basic_blocks_translated = counters_.basic_blocks_translated;
  s.instructions_translated = counters_.instructions_translated;
  s.guest_bytes_translated = counters_.guest_bytes_translated;
  s.host_bytes_emitted = counters_.host_bytes_emitted;
  s.translation_nanoseconds = ticks_.nanoseconds(counters_.translation_ticks);
  s.blocks_invalidated = cache_->counters().invalidated;
  s.cache_flushes = cache_->counters().flushes;
  s.dispatches = counters_.dispatches;
  s.page_misses = counters_.page_misses;
  s.careful_instructions = counters_.careful_instructions;
  s.pages_joined = counters_.pages_joined;
  s.traced_writes = mmu_->counters().traced_writes;
  s.code_writes = counters_.code_writes;
  s.view_switches = mmu_->counters().view_switches;
  s.device_memory = mmu_->counters().device_accesses;
  s.exceptions = counters_.exceptions;
  s.page_faults = counters_.page_faults;
  s.interrupts = counters_.interrupts;
  s.port_accesses = counters_.port_accesses;
  s.kicks = counters_.kicks;
  s.native_stays = counters_.native_stays;
  s.native_stays_apart = counters_.native_stays_apart;
  s.native_nanoseconds = counters_.native_nanoseconds;
  s.native_kicks = counters_.native_kicks;
  s.native_faults_hidden = counters_.native_faults_hidden;
  s.native_faults_reflected = counters_.native_faults_reflected;
  s.native_system_calls = counters_.native_system_calls;
  s.native_instructions = counters_.native_instructions;
  s.native_segment_loads = counters_.native_segment_loads;
  s.native_patch_stops = counters_.native_patch_stops;
  s.native_hidden_accesses = counters_.native_hidden_accesses;
  for (size_t i = 0; i < kNativeCauses; ++i) {
    const auto& events = counters_.native_events[i];
    s.native_events.push_back({kNativeCauseNames[i], events.count, ticks_.nanoseconds(events.ticks),
                               policy_.counters().demotions_by[i]});
  }
  if (native_) {
    const NativeUserCounters& user = native_->counters();
    const NativeMapCounters& maps = native_->map_counters();
    s.native_promotions = policy_.counters().promotions;
    s.native_rests = policy_.counters().rests;
    s.native_demotions = policy_.counters().demotions;
    s.native_pages_fine = user.pages_fine;
    s.native_pages_sensitive = user.pages_sensitive;
    s.native_pages_unexplored = user.pages_unexplored;
    for (const auto& [instruction, pages] : native_->refused())
      s.native_pages_refused.push_back({instruction, pages.sensitive, pages.unexplored});
    std::ranges::stable_sort(
        s.native_pages_refused, std::ranges::greater{},
        [](const RefusedPageCount& pages) { return pages.sensitive + pages.unexplored; });
    s.native_pages_patched = user.pages_patched;
    s.native_pages_rewritten = user.pages_rewritten;
    s.native_looks = user.looks;
    s.native_looks_nanoseconds = ticks_.nanoseconds(user.looks_ticks);
    s.native_mappings_made = maps.mappings_made;
    s.native_mappings_removed = maps.mappings_removed;
    s.native_mappings_evicted = maps.mappings_evicted;
    s.native_pages_mapped = maps.pages_mapped;
    s.native_containers_started = user.containers_started;
    s.native_containers_recycled = user.containers_recycled;
    s.native_containers_lost = user.containers_lost;
  }
  s.samples_user = samples_.user;
  s.translated_user_nanoseconds =
      s.samples_user * static_cast<uint64_t>(options_.sample_interval.count());
  s.samples_kernel = samples_.kernel;
  s.samples_engine = samples_.engine;
  return s;
}

uint64_t Engine::state_hash() const {
  const CpuState& cpu = context_->cpu;
  uint64_t hash = 0;
  for (uint32_t value : cpu.gpr) hash = mix(hash, value);
  for (uint32_t value : {cpu.eip, cpu.eflags, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4})
    hash = mix(hash, value);
  hash = mix(hash, uint64_t{cpu.cpl} << 24 | static_cast<uint64_t>(cpu.shadow) << 16 |
                       uint64_t{cpu.nmi_blocked} << 8 | uint64_t{cpu.halted});
  const auto mix_segment = [&](const Segment& s) {
    hash =
        mix(mix(hash, uint64_t{s.base} << 32 | s.limit), uint64_t{s.attributes} << 16 | s.selector);
  };
  for (const Segment& s : cpu.segment) mix_segment(s);
  mix_segment(cpu.ldtr);
  mix_segment(cpu.tr);
  for (const TableRegister& table : {cpu.gdtr, cpu.idtr})
    hash = mix(hash, uint64_t{table.base} << 16 | table.limit);
  for (uint32_t value : cpu.dr) hash = mix(hash, value);
  for (uint64_t value : cpu.pdpte) hash = mix(hash, value);
  hash = mix(hash, cpu.tsc_offset);
  const auto* msr = reinterpret_cast<const uint64_t*>(&cpu.msr);
  static_assert(std::has_unique_object_representations_v<ModelSpecificRegisters>);
  for (size_t i = 0; i < sizeof cpu.msr / 8; ++i) hash = mix(hash, msr[i]);
  const auto* fpu = reinterpret_cast<const uint64_t*>(&cpu.fpu);
  constexpr size_t kRegisters = offsetof(FpuImage, rest) / 8;
  for (size_t i = 0; i < kRegisters; ++i) hash = mix(hash, fpu[i]);
  static constexpr std::array<std::byte, kPageSize> kZeros{};
  const uint64_t frames = memory_->ram_end().frame();
  for (uint64_t number = 0; number < frames; ++number) {
    const Frame& frame = memory_->frame(number);
    if (frame.kind != FrameKind::kRam) continue;
    if (std::memcmp(frame.host, kZeros.data(), kPageSize) == 0) continue;
    const auto* words = reinterpret_cast<const uint64_t*>(frame.host);
    for (size_t i = 0; i < kPageSize / 8; ++i)
      if (words[i]) hash = mix(mix(hash, number << 12 | i), words[i]);
  }
  return hash;
}

}  // namespace trapline
