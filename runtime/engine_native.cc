// User code on the bare processor: when it may go there, how its state travels, and what becomes of
// each event that brings it back. docs/direct-execution.md has the rules.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <utility>

#include "runtime/engine.h"
#include "runtime/native/processor_limit.h"
#include "runtime/signals.h"
#include "vcpu/flags.h"

namespace trapline {

namespace {

/// EFLAGS that user code changes by itself.
constexpr uint32_t kUserFlags =
    eflags::kArithmetic | eflags::kTf | eflags::kDf | eflags::kNt | eflags::kAc | eflags::kId;
/// What FXSAVE's image holds for 32-bit code: no xmm8 and further.
constexpr size_t kFpuBytes = 288;
constexpr size_t kMxcsrMask = 28;
constexpr int kMostFailures = 16;  ///< In a row.
constexpr uint8_t kIcebp = 0xf1;
constexpr int kHosts64BitCode = 0x30;

bool flat_code(const Segment& cs) {
  return cs.base == 0 && cs.limit == 0xffffffffu && cs.code() && cs.big() && cs.dpl() == 3;
}

bool flat_or_null(const Segment& segment) {
  return segment.unusable() || segment.klass == SegmentClass::kFlat;
}

uint64_t share_of(uint64_t whole, uint64_t part, uint64_t parts) {
  return parts == 0
             ? whole
             : static_cast<uint64_t>(static_cast<double>(whole) *
                                     (static_cast<double>(part) / static_cast<double>(parts)));
}

/// Whether the host has a code segment for user mode there, so that a far transfer that nobody has
/// seen may find it.
bool is_hosts_code(uint16_t selector) {
  return NativeSpace::is_flat_code(selector) || (selector & ~3) == kHosts64BitCode;
}

/// A data segment that the local descriptor table can stand for.
bool describable(const Segment& segment) {
  if (segment.unusable()) return true;
  const bool whole_pages = segment.limit <= 0xfffff || (segment.limit & kPageMask) == kPageMask;
  return segment.present() && segment.writable() && !segment.expand_down() && whole_pages;
}

}  // namespace

std::string native_exclusion(const MachineOptions& options) {
  if (options.clock == TimeSource::kInstructions) return "the clock counts instructions";
  const CpuModel& model = options.cpu ? *options.cpu : CpuModel::max();
  for (const Feature needed : {Feature::kSse2, Feature::kCpuid, Feature::kTsc, Feature::kCmov})
    if (!model.has(needed))
      return "the model " + std::string(model.name) + " lacks instructions that the host has";
  return {};
}

Result<void> Engine::build_native(const MachineOptions& options) {
  if (options.direct_execution == DirectExecution::kNever) return {};
  if (std::string exclusion = native_exclusion(options); !exclusion.empty())
    return Error{ExitStatus::kHost, std::move(exclusion)};
  auto made = NativeUser::create(*memory_, *mmu_, *cache_, model_);
  if (!made.ok()) return made.error();
  native_ = made.take();
  if (options.native_at_once) native_->look_at_once();
  meanwhile_ = [this] {
    waited_apart_ = nanoseconds_now();
    gather_memory();
  };
  two_processors_ = options.switches.two_processors && processors_granted() >= 2;
  return {};
}

/// Whether the processor in user mode would do exactly what the guest expects of it.
bool Engine::native_allowed() const {
  const CpuState& state = context_->cpu;
  constexpr uint32_t kForbiddenFlags = eflags::kVm | eflags::kTf | eflags::kNt | eflags::kAc |
                                       eflags::kIopl | eflags::kVif | eflags::kVip;
  if (state.cpl != 3 || counted_) return false;
  if ((state.eflags & (kForbiddenFlags | eflags::kIf)) != eflags::kIf) return false;
  if ((state.cr0 & (cr0::kPe | cr0::kEm | cr0::kTs)) != cr0::kPe) return false;
  if (state.cr4 & cr4::kTsd) return false;
  if (state.tsc_offset != 0 || (state.dr[7] & 0xff) != 0 || state.shadow != InterruptShadow::kNone)
    return false;
  if (!breakpoints_.empty() || context_->hot.compare_unfinished) return false;
  if (virtual_interrupt_due(state)) return false;
  const auto& segment = state.segment;
  return flat_code(segment[kCs]) && segment[kSs].klass == SegmentClass::kFlat &&
         segment[kSs].big() && flat_or_null(segment[kDs]) && flat_or_null(segment[kEs]) &&
         describable(segment[kFs]) && describable(segment[kGs]);
}

CodeKnown Engine::code_known(Linear address, bool entry) const {
  const auto frame_at = [this](uint32_t linear) -> std::optional<uint64_t> {
    const auto walk =
        walk_page(paging_context(), *memory_, {linear}, Access::kExecute, true, WalkMode::kPeek);
    if (!walk.ok()) return std::nullopt;
    return walk->address.frame();
  };
  const auto page_of = [this](std::optional<uint64_t> frame) -> std::span<const uint8_t> {
    const std::byte* host = frame ? memory_->frame(*frame).host : nullptr;
    if (!host) return {};
    return {reinterpret_cast<const uint8_t*>(host), kPageSize};
  };
  const uint32_t begin = address.value & ~kPageMask;
  const std::optional<uint64_t> before = frame_at(begin - kPageSize);
  return {.entry = entry,
          .sse = (context_->cpu.cr4 & cr4::kOsfxsr) != 0,
          .loads_are_noticed = !is_hosts_code(context_->cpu.segment[kCs].selector),
          .head = page_of(before),
          .tail = page_of(frame_at(begin + kPageSize)),
          .before = before};
}

void Engine::prepare_thread_for_native() {
  thread_local bool prepared = false;
  if (!native_ || std::exchange(prepared, true)) return;
  ask_for_short_slices();
  ask_for_punctual_sleep();
}

void Engine::rest_after(const Exit& exit, const RunLimits& limits) {
  if (!gathers_meanwhile()) gather_memory();
  if (limits.goes_on && exit.kind == Exit::Kind::kDeadline)
    processor_.release_in_time(nanoseconds_now());
  else
    rest();
}

void Engine::gather_memory() {
  if (options_.switches.huge_pages) memory_->gather(nanoseconds_now());
}

/// Whether the thread sees to memory while it waits for guest code on another processor, so that
/// nothing waits for that.
bool Engine::gathers_meanwhile() const {
  constexpr uint64_t kLately = 100'000'000;
  return nanoseconds_now() - waited_apart_ < kLately;
}

void Engine::rest() {
  forget_deadline();
  processor_.release();
}

bool Engine::native_wanted(const View& user) {
  return options_.direct_execution == DirectExecution::kAlways || policy_.native(user.serial());
}

/// Tells the policy that user code runs translated.
void Engine::note_user_code() {
  if (options_.direct_execution != DirectExecution::kAdaptive || !native_allowed()) return;
  policy_.look(view(true).serial(), nanoseconds_now(),
               counters_.exceptions + counters_.software_interrupts + counters_.fast_system_calls);
}

bool Engine::native_stays_translated(uint32_t page) {
  NativeSpace* space = native_->space_of(view(true));
  return space && space->translated(page);
}

/// Whether the next instruction is to run natively.
bool Engine::next_is_native() {
  if (native_failures_ > kMostFailures || context_->cpu.cpl != 3) return false;
  View& user = view(true);
  if (!may_go_native(user) || !native_allowed()) return false;
  NativeSpace* space = native_->space_of(user);
  if (!space) {
    ++native_failures_;
    return false;
  }
  const uint32_t eip = context_->cpu.eip;
  const uint32_t page = eip >> kPageShift;
  if (!space->translated(page)) return true;
  if (native_->turns_away(*space, page)) return false;
  const auto code = mmu_->resolve(user, {eip}, Access::kExecute);
  if (!code.ok() ||
      !native_->may_execute(*space, code->address.frame(), {eip}, code_known({eip}, true)))
    return false;
  execution_views_->drop_page(user.serial(), page);
  return true;
}

// --- the state's way there and back ------------------------------------------------------------

NativeRegisters Engine::to_native(NativeSpace& space) const {
  const CpuState& state = context_->cpu;
  NativeRegisters out{};
  std::copy(state.gpr.begin(), state.gpr.end(), out.gpr);
  out.eip = state.eip;
  out.eflags = (state.eflags & kUserFlags) | eflags::kIf | eflags::kFixed1;
  const NativeSpace::FlatSelectors selectors = space.flat_selectors();
  const auto flat = [&](const Segment& segment) -> uint16_t {
    return segment.unusable() ? 0 : selectors.data;
  };
  const auto described = [&](const Segment& segment) -> uint16_t {
    if (segment.unusable()) return 0;
    const bool hides = space.any_patched() && segment.base == 0 && segment.limit == ~0u;
    return hides ? selectors.data : space.selector_of(segment.base, segment.limit);
  };
  out.cs = selectors.code;
  out.ss = selectors.data;
  out.ds = flat(state.segment[kDs]);
  out.es = flat(state.segment[kEs]);
  out.fs = described(state.segment[kFs]);
  out.gs = described(state.segment[kGs]);
  std::memcpy(out.fpu, &state.fpu, kFpuBytes);
  return out;
}

/// False when it is not what the guest's code could have made of `given`: it left its code segment,
/// or its stack.
bool Engine::from_native(const NativeEvent& event, const NativeRegisters& given) {
  const NativeRegisters& in = event.registers;
  if (in.cs != given.cs || in.ss != given.ss) return false;
  CpuState& state = context_->cpu;
  std::copy(std::begin(in.gpr), std::end(in.gpr), state.gpr.begin());
  state.eip = in.eip;
  state.eflags = (state.eflags & ~(kUserFlags | eflags::kRf)) | (in.eflags & kUserFlags);
  auto* fpu = reinterpret_cast<std::byte*>(&state.fpu);
  std::memcpy(fpu, in.fpu, kMxcsrMask);
  std::memcpy(fpu + 32, in.fpu + 32, kFpuBytes - 32);
  state.fpu.mxcsr &= 0xffff;
  note_fpu_pointers();
  return true;
}

/// Data segments that the code has loaded unseen are loaded again, as the guest's tables say.
OrFault<void> Engine::load_changed_segments(const NativeRegisters& in,
                                            const NativeRegisters& given) {
  struct Change {
    SegmentName name;
    uint16_t before;
    uint16_t now;
  };
  for (const Change& change : {Change{kDs, given.ds, in.ds}, Change{kEs, given.es, in.es},
                               Change{kFs, given.fs, in.fs}, Change{kGs, given.gs, in.gs}}) {
    if (change.before == change.now) continue;
    ++counters_.native_segment_loads;
    TRAPLINE_TRY(load_segment(cpu_, change.name, change.now));
  }
  return {};
}

/// When the guest's kernel returns to an instruction whose page fault it was told of, the page is
/// mapped before the instruction runs again, which would only ask for it.
void Engine::map_expected(NativeSpace& space) {
  const ExpectedAccess expected = std::exchange(native_expected_, {});
  View& user = view(true);
  if (expected.view != user.serial() || expected.eip != context_->cpu.eip) return;
  const auto found = mmu_->resolve(user, expected.address, expected.access);
  if (found.ok() && found->kind == Resolution::Kind::kHost)
    native_->map(space, user, paging_context(), expected.address.page(), expected.access);
}

// --- events ------------------------------------------------------------------------------------

/// What comes between two stays of native code is brief as a rule, and to take the deadline back
/// for it, and leave it again, costs as much as the guest's code does. So that waits until C++ has
/// been entered some times, or user code runs that stays translated. Where neither happened and the
/// deadline was missed, the next ones are not taken for brief.
void Engine::begin_brief_stay() {
  brief_entries_ = 0;
  if (!deadline_is_left_to_container()) return;
  if (const uint32_t left = not_brief_; left > 0) {
    not_brief_ = left - 1;
    take_deadline_back();
  } else {
    brief_entries_ = kBriefEntries;
  }
}

void Engine::end_brief_stay() {
  brief_entries_ = 0;
  take_deadline_back();
}

/// Runs natively until the run loop has something to do.
std::optional<Exit> Engine::run_native() {
  native_cause_ = NativeCause::kLost;
  std::optional<Exit> ended = stay_native();
  begin_brief_stay();
  if (native_cause_ == NativeCause::kTranslated) end_brief_stay();
  return ended;
}

/// Gives thread and container the processor, or the two, that they run on.
void Engine::place(Container& container, uint64_t now) {
  const int here = processor_.hold(now);
  if (!two_processors_) {
    if (here >= 0) container.move_to(here);
    return;
  }
  if (placement_.goes_on(container.pid(), now)) native_->stop_looking_but(container);
  if (here >= 0) {
    if (placement_.wants_look(now))
      placement_.look(now, thread_wait_.of(gettid()), container.pid(),
                      container_wait_.of(container.pid()));
    const cpu_set_t others = processor_.others();
    if (placement_.apart() && CPU_COUNT(&others) > 0)
      container.move_apart(here, others);
    else
      container.move_to(here);
  }
  if (!container.apart()) return;
  ++counters_.native_stays_apart;
  container.look_for(std::chrono::nanoseconds(placement_.thread_looks()));
}

std::optional<Exit> Engine::stay_native() {
  sync_fpu_pointers();
  while (!context_->hot.attention) {
    const uint64_t entered = nanoseconds_now();
    NativeSpace* space = native_->space_of(view(true));
    if (!space) return std::nullopt;
    map_expected(*space);
    const NativeRegisters given = to_native(*space);
    native_->settle();
    const uint64_t begin = nanoseconds_now();
    if (options_.switches.one_processor) place(space->container(), begin);
    native_running_ = &space->container();
    const uint64_t due = leave_deadline_to_container();
    if (stop_requested_) context_->hot.attention = 1;  // Its kick may have been put off just now.
    const NativeEvent event =
        space->container().run(given, context_->hot.attention, due, meanwhile_);
    native_running_ = nullptr;
    const uint64_t stopped = HostTicks::now();
    const uint64_t end = nanoseconds_now();
    if (due != 0 && end >= due) {
      deadline_passed_ = true;
      context_->hot.attention = 1;
    }
    const uint64_t ran = share_of(end - begin, event.guest_ticks, event.ticks);
    placement_.stopped(end, ran, due != 0 && end >= due);
    const uint32_t serial = space->view();
    space->add_time(ran);
    counters_.native_nanoseconds += end - begin;
    ++counters_.native_stays;
    ++native_failures_;
    if (event.kind == NativeEvent::Kind::kNotStarted) {
      native_->discard(*space);
      return std::nullopt;
    }
    AfterEvent after = AfterEvent::kTranslated;
    native_cause_ = NativeCause::kLost;
    if (event.kind == NativeEvent::Kind::kLost || !from_native(event, given)) {
      // Without registers nobody can go on there. The guest's kernel decides what becomes of it.
      native_->discard(*space);
      after = native_fault(Fault::general_protection());
    } else {
      native_failures_ = 0;
      const OrFault<void> loaded = load_changed_segments(event.registers, given);
      after = loaded.ok() ? native_event(event, *space) : native_fault(loaded.fault());
    }
    policy_.stayed(serial, end, ran, nanoseconds_now() - entered - ran, native_cause_);
    auto& counted = counters_.native_events[static_cast<size_t>(native_cause_)];
    ++counted.count;
    counted.ticks += event.ticks - event.guest_ticks + HostTicks::now() - stopped;
    if (after == AfterEvent::kEnded) return exit_;
    if (after == AfterEvent::kTranslated || !native_wanted(view(true))) return std::nullopt;
  }
  return std::nullopt;
}

Engine::AfterEvent Engine::native_fault(const Fault& fault) {
  return deliver(fault) ? AfterEvent::kTranslated : AfterEvent::kEnded;
}

/// Sets EIP back to the instruction that ends here, when it is one of these bytes.
bool Engine::step_back_over(std::initializer_list<uint8_t> code) {
  const auto length = static_cast<uint32_t>(code.size());
  uint32_t at = context_->cpu.eip - length;
  for (const uint8_t expected : code) {
    const auto byte = fetch({at++});
    if (!byte.ok() || *byte != expected) return false;
  }
  context_->cpu.eip -= length;
  return true;
}

/// The instruction at EIP is emulated.
Engine::AfterEvent Engine::step_translated() {
  ++counters_.native_instructions;
  step_translated_ = true;
  return AfterEvent::kTranslated;
}

/// Below the floor of what is patched each access to data stops, whatever is there.
void Engine::note_hidden_access(const NativeEvent& event, NativeSpace& space) {
  const bool limit = event.trap == static_cast<uint32_t>(Vector::kGeneralProtection) ||
                     event.trap == static_cast<uint32_t>(Vector::kStackFault);
  if (!limit || event.error != 0 || !space.any_patched()) return;
  ++counters_.native_hidden_accesses;
  native_->patch_stopped(space);
}

Engine::AfterEvent Engine::native_event(const NativeEvent& event, NativeSpace& space) {
  CpuState& state = context_->cpu;
  native_cause_ = NativeCause::kInstruction;
  switch (event.signal) {
    case TRAPLINE_KICK_SIGNAL:
      native_cause_ = NativeCause::kKick;
      ++counters_.native_kicks;
      return AfterEvent::kNatively;
    case SIGSEGV:
      if (event.trap == static_cast<uint32_t>(Vector::kPageFault))
        return native_page_fault(event, space);
      if (event.trap == static_cast<uint32_t>(Vector::kOverflow) && !step_back_over({0xce}))
        step_back_over({0xcd, 4});
      note_hidden_access(event, space);
      return step_translated();
    case SIGBUS:
      note_hidden_access(event, space);
      return step_translated();
    case SIGTRAP:
      if (event.trap == TRAPLINE_WATCHED) return step_translated();
      if (event.trap == static_cast<uint32_t>(Vector::kBreakpoint)) {
        if (space.patched_at(state.eip - 1)) {
          --state.eip;
          ++counters_.native_patch_stops;
          native_->patch_stopped(space);
          return step_translated();
        }
        if (!step_back_over({0xcc})) step_back_over({0xcd, 3});
        return step_translated();
      }
      if (state.eflags & eflags::kTf) {
        const auto ended = debug_trap(true);
        if (!ended) return AfterEvent::kTranslated;
        exit_ = *ended;
        return AfterEvent::kEnded;
      }
      if (const auto here = fetch({state.eip}); !here.ok() || *here != kIcebp)
        step_back_over({kIcebp});
      return step_translated();
    case SIGSYS:
      native_cause_ = NativeCause::kSystemCall;
      ++counters_.native_system_calls;
      if (!step_back_over({0xcd, 0x80})) return native_fault(Fault::general_protection());
      return step_translated();
    default:
      return step_translated();
  }
}

Engine::AfterEvent Engine::native_page_fault(const NativeEvent& event, const NativeSpace& stopped) {
  if (event.address >> 32) return native_fault(Fault::general_protection());
  const Linear address{static_cast<uint32_t>(event.address)};
  const Access access = event.error & page_fault::kFetch   ? Access::kExecute
                        : event.error & page_fault::kWrite ? Access::kWrite
                                                           : Access::kRead;
  const bool entry = access == Access::kExecute && address.value == context_->cpu.eip;
  if (const auto* known = entry ? native_->turns_away(stopped, address.page()) : nullptr) {
    ++counters_.native_faults_hidden;
    native_cause_ = known->enters_kernel ? NativeCause::kSystemCall : NativeCause::kTranslated;
    return AfterEvent::kTranslated;
  }
  View& user = view(true);
  const auto found = mmu_->resolve(user, address, access);
  if (!found.ok()) {
    native_cause_ = NativeCause::kReflected;
    ++counters_.native_faults_reflected;
    if (access != Access::kExecute)
      native_expected_ = {user.serial(), context_->cpu.eip, address, access};
    return native_fault(found.fault());
  }
  ++counters_.native_faults_hidden;
  NativeSpace* space = native_->space_of(user);
  if (!space) return AfterEvent::kTranslated;
  if (access == Access::kExecute) {
    native_cause_ = NativeCause::kCode;
    const CodeKnown known = code_known(address, entry);
    if (native_->may_execute(*space, found->address.frame(), address, known)) {
      native_->map_code_around(*space, user, paging_context(), address.page(), known);
      return AfterEvent::kNatively;
    }
    native_cause_ = native_->enters_kernel(found->address.frame()) ? NativeCause::kSystemCall
                                                                   : NativeCause::kTranslated;
    // An instruction whose second part lies there is executed by itself.
    return entry ? AfterEvent::kTranslated : step_translated();
  }
  native_cause_ = NativeCause::kMapping;
  if (found->kind == Resolution::Kind::kHost &&
      native_->map(*space, user, paging_context(), address.page(), access))
    return AfterEvent::kNatively;
  native_cause_ = NativeCause::kAccess;
  return step_translated();
}

}  // namespace trapline
