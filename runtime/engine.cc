// Building the engine; modes and views; where translated code goes on.
#include "runtime/engine.h"

#include <utility>

#include "runtime/engine_entries.h"
#include "runtime/signals.h"
#include "vcpu/assert.h"
#include "vcpu/debug_registers.h"
#include "vcpu/descriptor.h"
#include "vcpu/flags.h"

namespace trapline {

namespace {
constexpr size_t kThunkBytes = 16384;
constexpr uint64_t kSmallestCache = 256u << 10;
constexpr uint64_t kLargestCache = 1u << 30;
constexpr size_t kExecutionViews = 128;
constexpr uint32_t kCompanion = 1u << 31;  ///< In an execution view's mode.
constexpr uint32_t kWindowReach = 8;       ///< Pages that a window may grow to each side.
/// Where the window of a 16-bit stack ends at the latest: behind a POP of the last word, SP is 0.
constexpr uint32_t kNarrowEnd = 0xffff;
}  // namespace

Engine::Engine(const MachineOptions& options, std::unique_ptr<Context> context)
    : LinearMemory(context->cpu),
      options_(options),
      model_(options.cpu ? *options.cpu : CpuModel::max()),
      context_(std::move(context)),
      cpu_{context_->cpu, model_, *this, *this, *this} {
  context_->engine = this;
  context_->cpu = CpuState::reset();
}

Engine::~Engine() {
  forget_engine(*this);
}

Result<std::unique_ptr<Engine>> Engine::create(const MachineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(options, std::make_unique<Context>()));
  if (auto built = engine->build(options); !built.ok()) return built.error();
  return engine;
}

Result<void> Engine::build(const MachineOptions& options) {
  if (options.code_cache_bytes < kSmallestCache || options.code_cache_bytes > kLargestCache)
    return Error{ExitStatus::kUsage, "the code cache must be between 256K and 1G"};
  auto memory = PhysicalMemory::create(options.memory_bytes);
  if (!memory.ok()) return memory.error();
  memory_ = memory.take();
  if (options.switches.joined_pages) joined_pages_.emplace(memory_->ram_file());
  auto code = CodeMemory::create(options.code_cache_bytes, options.switches.huge_pages);
  if (!code.ok()) return code.error();
  code_memory_ = code.take();
  execution_views_ = std::make_unique<ExecutionViews>(kExecutionViews);
  const EntryPair* miss = context_->miss_table.data();
  if (auto made = execution_views_->make_empty_table(entry_slot(miss, 0),
                                                     entry_slot(miss, 0) - entry_slot(miss, 1));
      !made.ok())
    return made.error();
  mmu_ = std::make_unique<ShadowMmu>(*memory_, *this, ShadowMmu::Limits{});
  const uint32_t base = code_memory_->base();
  const size_t used =
      emit_thunks(engine_entries(), base, {code_memory_->writable(base), kThunkBytes}, thunks_);
  TRAPLINE_ASSERT(used <= kThunkBytes);
  cache_ = std::make_unique<CodeCache>(*code_memory_, kThunkBytes,
                                       CodeEntry{thunks_.miss_host, thunks_.miss_saved});
  if (options.switches.copy_blocks)
    cache_->move_tables([this] {
      sync_fpu_pointers();  // While the block that they point into is where it was.
      ++mapping_epoch_;
    });
  if (options.mutation == Mutation::kLinksKept) cache_->keep_links_of_killed();
  translator_ = std::make_unique<Translator>(model_, options.switches, thunks_);
  if (auto native = build_native(options); !native.ok()) native_refusal_ = native.error().message;
  context_->miss_table.fill({thunks_.miss_host, thunks_.miss_saved});
  context_->hot.exec_table = reinterpret_cast<uint64_t>(execution_views_->empty_table());
  return install_signal_handlers();
}

// --- modes and views -----------------------------------------------------------------------------

PagingContext Engine::paging_context() const {
  PagingContext context = PagingContext::from(context_->cpu, model_);
  context.address_mask = address_mask_;
  return context;
}

void Engine::set_a20_gate(bool open) {
  constexpr uint64_t kBit20 = 1u << 20;
  address_mask_ = open ? ~uint64_t{0} : ~kBit20;
  forget_views();
}

View& Engine::activate_view(bool user) {
  View& view = mmu_->activate(paging_context(), user);
  views_[user] = &view;
  set_pages(user, {{view.tables(), view.tables() + kLinearPages}});
  if (!user) context_->supervisor_tables = reinterpret_cast<uint64_t>(view.tables()) + kPageShift;
  return view;
}

void Engine::forget_views() {
  for (const bool user : {false, true}) {
    views_[user] = nullptr;
    set_pages(user, {});
  }
  context_->supervisor_tables = 0;
}

void Engine::drop_window() {
  context_->hot.window_limit.fill(-1);
}

uint32_t Engine::window_stack() const {
  const Segment& ss = context_->cpu.segment[kSs];
  return ss.big() ? kFlatStack : ss.base;
}

/// The window is one view's and one stack's. Kernel and user each find theirs again, if nothing has
/// gone meanwhile.
void Engine::exchange_window(uint64_t tables, uint64_t removals) {
  HotFields& hot = context_->hot;
  const uint32_t stack = window_stack();
  const uint32_t left_stack = std::exchange(window_stack_, stack);
  const bool changes = hot.tables != tables || left_stack != stack;
  if (changes && removals == removals_seen_)
    left_windows_[left_window_next_++ % left_windows_.size()] = {
        hot.tables, removals, left_stack, hot.window_base, hot.window_delta, hot.window_limit};
  for (const LeftWindow& left : left_windows_)
    if (left.tables == tables && left.removals == removals && left.stack == stack) {
      hot.window_base = left.base;
      hot.window_delta = left.delta;
      hot.window_limit = left.limit;
      return;
    }
  drop_window();
}

uint32_t Engine::mode_number(const ModeKey& key) {
  return modes_.try_emplace(key, static_cast<uint32_t>(modes_.size())).first->second;
}

/// Everything that ModeKey::from() looks at. Field by field: emitted code has just written some.
Engine::ModeInputs Engine::mode_inputs() const {
  const CpuState& state = context_->cpu;
  const auto pair = [](uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; };
  const Segment& cs = state.segment[kCs];
  const Segment& ds = state.segment[kDs];
  const Segment& es = state.segment[kEs];
  const Segment& ss = state.segment[kSs];
  constexpr uint32_t kFlags = eflags::kVm | eflags::kTf | eflags::kDf | eflags::kAc | eflags::kIopl;
  const uint32_t classes = static_cast<uint32_t>(ds.klass) | static_cast<uint32_t>(es.klass) << 8 |
                           static_cast<uint32_t>(ss.klass) << 16 | uint32_t{state.cpl} << 24 |
                           (counted_ ? 1u << 31 : 0u);
  return {pair(cs.base, cs.limit), pair(cs.attributes, ss.attributes),
          pair(ds.attributes, es.attributes), pair(state.eflags & kFlags, state.cr0),
          pair(state.cr4, classes)};
}

void Engine::refresh_mode() {
  View& view = current_view();
  if (companion_ || watched() || may_go_native(view))
    find_mode(view);
  else
    recall_mode(view);
  if (brief_entries_ != 0 && context_->cpu.cpl == 3 && !companion_) end_brief_stay();
  follow_view(view);
}

/// Finds the mode, unless it is what it was where all of this was the same. Neither the mode before
/// nor the one after is a companion's.
void Engine::recall_mode(View& view) {
  const CpuState& state = context_->cpu;
  const Segment& cs = state.segment[kCs];
  const uint32_t code = cs.selector ^ cs.selector >> 4 ^ cs.attributes >> 12;
  const uint32_t slot = (state.eflags & eflags::kTf ? 1u : 0u) | (state.cpl == 3 ? 2u : 0u) |
                        (state.protected_mode() ? 4u : 0u) | (code & 15) << 3;
  SeenMode& seen = seen_modes_[slot];
  const ModeInputs inputs = mode_inputs();
  const uint64_t recycled = execution_views_->recycled();
  if (seen.inputs != inputs || seen.view != view.serial() || seen.recycled != recycled) {
    find_mode(view);
    seen = {inputs, view.serial(), mode_id_, mode_, execution_view_, execution_views_->recycled()};
    return;
  }
  if (execution_view_ == seen.execution) return;
  if (seen.key.cpl() == 3) ++counters_.user_entries;
  mode_ = seen.key;
  mode_id_ = seen.id;
  execution_view_ = seen.execution;
}

void Engine::find_mode(View& view) {
  ModeKey key = ModeKey::from(context_->cpu, counted_);
  key.breakpoints = breakpoint_set();
  const bool companion = may_go_native(view) && native_allowed();
  if (!execution_view_ || key != mode_ || execution_view_->view != view.serial() ||
      companion != companion_) {
    RecentMode& recent = recent_modes_[ModeHash::quick(key) % recent_modes_.size()];
    if (!recent.execution || recent.key != key || recent.view != view.serial() ||
        recent.recycled != execution_views_->recycled() || recent.companion != companion) {
      const uint32_t id = mode_number(key);
      const uint64_t recycled = execution_views_->recycled();
      ExecutionView& execution =
          execution_views_->get(view.serial(), companion ? id | kCompanion : id);
      if (recycled != execution_views_->recycled()) context_->known_classes.fill({});
      recent = {key, id, view.serial(), &execution, execution_views_->recycled(), companion};
    }
    companion_ = companion;
    if (key.cpl() == 3) ++counters_.user_entries;
    mode_ = key;
    mode_id_ = recent.id;
    execution_view_ = recent.execution;
  }
}

/// The tables and the window, which are the view's.
void Engine::follow_view(View& view) {
  HotFields& hot = context_->hot;
  const uint64_t tables = reinterpret_cast<uint64_t>(view.tables()) + kPageShift;
  note_code(tables);
  const uint64_t removals = mmu_->removals();
  if (hot.tables != tables || removals != removals_seen_ || window_stack_ != window_stack()) {
    const bool stale = hot.tables == tables && options_.mutation == Mutation::kStaleWindow;
    if (!stale) exchange_window(tables, removals);
    removals_seen_ = removals;
  }
  hot.tables = tables;
  hot.exec_table = reinterpret_cast<uint64_t>(execution_view_->table);
}

/// Lets emitted code find the current code segment where a selector alone decides about it.
void Engine::note_code(uint64_t tables) {
  const CpuState& state = context_->cpu;
  if (uses_descriptors(state)) return;
  const Segment& cs = state.segment[kCs];
  if (known_codes_recycled_ != execution_views_->recycled()) {
    known_codes_recycled_ = execution_views_->recycled();
    context_->known_codes.fill({});
  }
  const bool plain = cs.base == uint32_t{cs.selector} << 4 && cs.limit == 0xffff && !cs.big() &&
                     mode_.breakpoints == 0;
  if (!plain) return;
  const uint32_t fresh = (state.v86() ? v86_segment(0, kCs) : Segment::real(0, true)).attributes;
  context_->known_codes[known_code_slot(cs.selector)] = {
      cs.selector, mode_.word, fresh,
      0,           tables,     reinterpret_cast<uint64_t>(execution_view_->table)};
}

void Engine::paging_changed(bool) {
  forget_views();
  if (native_) native_->settle();
}

void Engine::invalidate_page(Linear) {
  // The views follow the guest's tables by themselves.
  if (native_) native_->settle();
}

void Engine::mapping_dropped(View& view, uint32_t page) {
  if (options_.mutation == Mutation::kStaleMapping) return;
  ++mapping_epoch_;
  execution_views_->drop_page(view.serial(), page);
  if (native_) native_->mapping_dropped(view, page);
}

void Engine::writing_dropped(View& view, uint32_t page) {
  if (native_) native_->writing_dropped(view, page);
}

void Engine::writes_denied(uint64_t) {
  if (native_) native_->settle();
}

/// Whatever runs there next is judged by what it does itself.
void Engine::view_emptied(View& view) {
  if (native_ && view.user()) policy_.forget(view.serial());
}

void Engine::view_dropped(View& view) {
  ++mapping_epoch_;
  execution_views_->drop_view(view.serial());
  if (native_) {
    native_->view_dropped(view);
    policy_.forget(view.serial());
  }
  if (views_[0] == &view || views_[1] == &view) forget_views();
}

void Engine::code_written(Physical address, uint32_t bytes) {
  ++counters_.code_writes;
  uint64_t at = address.value;
  const uint64_t end = at + bytes;
  while (at < end) {
    const uint64_t frame = at >> kPageShift;
    const uint64_t stop = std::min(end, (frame + 1) << kPageShift);
    if (options_.mutation != Mutation::kCodeWriteIgnored)
      cache_->invalidate(frame, static_cast<uint32_t>(at & kPageMask),
                         static_cast<uint32_t>(stop - at));
    if (!cache_->has_code(frame)) mmu_->allow_writes(frame, denial::kCode);
    if (native_) native_->code_written(frame);
    at = stop;
  }
}

/// Looks a page up before the guest accesses it. Without paging nothing shows that.
void Engine::fill_without_trace(uint32_t page) {
  if (context_->cpu.cr0 & cr0::kPg) return;
  const Linear address{page << kPageShift};
  for (const Access access : {Access::kRead, Access::kWrite})
    (void)mmu_->resolve(current_view(), address, access);
}

/// Addresses in windows of 16-bit stacks are what ESP is there: offsets in SS, beside an upper half
/// that means nothing. Elsewhere they are linear.
bool Engine::move_window(uint32_t address, int span_class) {
  const uint32_t stack = window_stack();
  const bool flat = stack == kFlatStack;
  const uint32_t upper = flat ? 0 : address & 0xffff0000;
  const uint32_t linear = flat ? address : stack + (address & 0xffff);
  if (!flat && linear < stack) return false;
  const uint32_t page = linear >> kPageShift;
  const View& view = current_view();
  const uint64_t delta = view.write_entry(page);
  const auto usable = [&](uint32_t at) {
    return at != 0 && at != kLinearPages - 1 && view.write_entry(at) == delta &&
           view.read_entry(at) == delta;
  };
  if (!delta || !usable(page)) return false;
  uint32_t first = page;
  uint32_t last = page;
  while (page - first < kWindowReach && usable(first - 1)) --first;
  const uint32_t end_of_span = linear + kWindowSpans[static_cast<size_t>(span_class)];
  while (last - page < kWindowReach && usable(last + 1)) ++last;
  if (!flat && end_of_span >> kPageShift > last) {  // Stacks often begin where a page ends.
    fill_without_trace(last + 1);
    while (last - page < kWindowReach && usable(last + 1)) ++last;
  }
  HotFields& hot = context_->hot;
  const int64_t origin = flat ? 0 : int64_t{stack} - upper;  ///< Linear minus window addresses.
  int64_t begin = (int64_t{first} << kPageShift) - origin;
  int64_t end = (int64_t{last + 1} << kPageShift) - origin;
  if (!flat) {
    begin = std::max<int64_t>(begin, upper);
    end = std::min<int64_t>(end, int64_t{upper} + kNarrowEnd);
  }
  const int64_t size = end - begin;
  if (address - begin > size - kWindowSpans[static_cast<size_t>(span_class)]) return false;
  hot.window_base = static_cast<uint32_t>(begin);
  hot.window_delta = delta + static_cast<uint64_t>(origin);
  window_stack_ = stack;
  for (size_t i = 0; i < kWindowSpans.size(); ++i) hot.window_limit[i] = size - kWindowSpans[i];
  return true;
}

/// A window of the two pages across which the stack lies there, which are no neighbours in RAM.
AdjacentPages::State Engine::join_window(uint32_t address) {
  using State = AdjacentPages::State;
  if (!joined_pages_ || window_stack() != kFlatStack) return State::kRefused;
  const uint32_t page = address >> kPageShift;
  const View& view = current_view();
  const auto offset_of = [&](uint32_t at) -> std::optional<uint64_t> {
    if (at == 0 || at >= kLinearPages - 1) return {};
    const uint64_t delta = view.write_entry(at);
    if (delta == 0 || view.read_entry(at) != delta) return {};
    return memory_->ram_offset_of(
        reinterpret_cast<const std::byte*>(delta + (uint64_t{at} << kPageShift)));
  };
  const auto first = offset_of(page);
  const auto second = offset_of(page + 1);
  if (!first || !second) return State::kRefused;
  const AdjacentPages::Found found = joined_pages_->find(*first, *second);
  if (found.state == State::kNew || found.state == State::kFailed) {
    // They may lie where other pages were until now.
    if (options_.mutation != Mutation::kWindowOfOtherPages) left_windows_.fill({});
    drop_window();
  }
  if (!found.host) return found.state;
  if (found.state == State::kNew) ++counters_.pages_joined;
  HotFields& hot = context_->hot;
  hot.window_base = page << kPageShift;
  hot.window_delta = reinterpret_cast<uint64_t>(found.host) - hot.window_base;
  window_stack_ = kFlatStack;
  for (size_t i = 0; i < kWindowSpans.size(); ++i)
    hot.window_limit[i] = int64_t{2 * kPageSize} - kWindowSpans[i];
  return found.state;
}

AdjacentPages::State Engine::widen_window(uint32_t linear, uint32_t span_class, bool in_use) {
  using State = AdjacentPages::State;
  constexpr uint32_t kNear = (2 * kWindowReach) << kPageShift;
  HotFields& hot = context_->hot;
  const uint32_t esp = context_->cpu.gpr[kEsp];
  if (linear - esp + kNear > 2 * kNear) return State::kRefused;
  const HotFields before = hot;
  const auto inside = [&hot](uint32_t address, size_t size_class) {
    return int64_t{address - hot.window_base} <= hot.window_limit[size_class];
  };
  const int64_t size_before = before.window_limit[0] + kWindowSpans[0];
  const auto grown = [&] {
    const int64_t size = hot.window_limit[0] + kWindowSpans[0];
    return hot.window_base <= before.window_base &&
           hot.window_base + size >= before.window_base + size_before;
  };
  if (move_window(esp, 0) && inside(linear, span_class) && (!in_use || grown()))
    return State::kThere;
  const uint32_t lower = std::min(esp, linear);
  const bool near = (std::max(esp, linear) >> kPageShift) - (lower >> kPageShift) <= 1;
  const State joined = near ? join_window(lower) : State::kRefused;
  if ((joined == State::kThere || joined == State::kNew) && inside(esp, 0) &&
      inside(linear, span_class) && (!in_use || grown()))
    return joined;
  const bool lost = joined == State::kNew || joined == State::kFailed;
  if (!lost) {
    hot.window_base = before.window_base;
    hot.window_delta = before.window_delta;
    hot.window_limit = before.window_limit;
  }
  return joined == State::kNotYet ? joined : State::kRefused;
}

// --- blocks --------------------------------------------------------------------------------------

uint64_t Engine::leave(Leave reason) {
  context_->hot.exit_code = static_cast<uint32_t>(reason);
  export_flags();
  return thunks_.leave;
}

uint64_t Engine::leave_with(Exit exit) {
  exit_ = std::move(exit);
  return leave(Leave::kExit);
}

void Engine::flush_code() {
  sync_fpu_pointers();  // While the block that they point into is still known.
  for (uint64_t frame : cache_->code_frames()) mmu_->allow_writes(frame, denial::kCode);
  cache_->flush();
  execution_views_->clear();
  ++mapping_epoch_;
}

uint64_t Engine::resume() {
  if (context_->hot.attention || (context_->cpu.eflags & eflags::kTf) || native_due())
    return attend();
  return resume_variant(Variant::kNormal);
}

/// What the run loop would do, where that is a single step's trap or the step itself and nothing
/// else; otherwise leaves for it.
uint64_t Engine::attend() {
  HotFields& hot = context_->hot;
  const CpuState& state = context_->cpu;
  const auto quiet = [&] {
    return !stop_requested_ && !deadline_passed_ && !debug_met_ && !native_due() &&
           state.shadow == InterruptShadow::kNone;
  };
  if (hot.attention == kStepping && quiet() && !x87_held_ && step_.completed(counters_)) {
    hot.attention = 0;
    if (stop_requested_ || deadline_passed_) return leave(Leave::kAttention);  // In between.
    if (auto ended = debug_trap(true)) return leave_with(std::move(*ended));
    ask_for_attention_if_due();
    if (hot.attention || (state.eflags & eflags::kTf)) return leave(Leave::kAttention);
    return resume_variant(Variant::kNormal);
  }
  const bool plain = !step_translated_ && !step_over_breakpoint_ && !x87_ignored_ && !x87_passes_;
  if (!hot.attention && quiet() && plain) {
    step_ = {true, counters_.stepping_events()};
    const uint64_t code = resume_variant(Variant::kSingle);
    if (!hot.attention) hot.attention = kStepping;
    return code;
  }
  return leave(Leave::kAttention);
}

uint64_t Engine::resume_variant(Variant variant) {
  if (counted_ && context_->hot.budget <= 0) {  // A shadow goes on in the next run.
    Exit exit;
    exit.kind = Exit::Kind::kInstructions;
    return leave_with(std::move(exit));
  }
  CpuState& state = context_->cpu;
  if (virtual_interrupt_due(state))
    return leave(deliver(Fault::general_protection()) ? Leave::kAttention : Leave::kExit);
  // The next instruction is the one in the shadow, and the one that RF lets pass a breakpoint. A
  // load of SS does so too.
  const bool behind_ss =
      std::exchange(state.shadow, InterruptShadow::kNone) == InterruptShadow::kMovSs;
  const bool rf = std::exchange(state.eflags, state.eflags & ~eflags::kRf) & eflags::kRf;
  const bool passes = rf || behind_ss;
  if (DebugRegisters(state).any() && variant != Variant::kNoWindow &&
      variant != Variant::kNoFrame && variant != Variant::kNoSharing) {
    if (passes && variant == Variant::kNormal) variant = Variant::kSingle;
    if (!passes && variant == Variant::kSingle)
      if (const auto fault = execution_breakpoint(); fault) {
        if (!deliver(*fault)) return leave(Leave::kExit);
        if (context_->hot.attention) return leave(Leave::kAttention);
        variant = Variant::kNormal;
      }
  }
  return enter_block(variant);
}

/// The block at EIP, whose first instruction nothing keeps from being executed any more.
uint64_t Engine::enter_block(Variant variant) {
  const CpuState& state = context_->cpu;
  for (;;) {
    refresh_mode();
    if (variant == Variant::kNormal) {
      const uint32_t linear = state.eip + state.segment[kCs].base;
      const uint64_t slot = execution_view_->table[linear >> kPageShift];
      const uint32_t entry = entry_at(slot, linear).saved;
      if (entry != thunks_.miss_saved) {
        export_flags();
        return entry;
      }
    }
    if (variant == Variant::kSingle) {
      if (const Block* block = known_block(variant)) {
        export_flags();
        return block->saved_entry;
      }
    }
    const OrFault<uint64_t> found = find_entry(variant);
    if (found.ok()) {
      export_flags();
      return *found;
    }
    if (!deliver(found.fault())) return leave(Leave::kExit);
    if (context_->hot.attention) return leave(Leave::kAttention);
    variant = Variant::kNormal;
  }
}

uint64_t Engine::resume_careful() {
  context_->cpu.shadow = InterruptShadow::kNone;
  refresh_mode();
  const Block* block = known_block(Variant::kCareful);
  if (!block) {
    const OrFault<Block*> found = find_block(Variant::kCareful);
    if (!found.ok()) return raise(found.fault());
    block = *found;
    remember_block(*block, Variant::kCareful);
  }
  export_flags();
  return block->saved_entry;
}

void Engine::set_breakpoint(Linear address, bool on) {
  if (on)
    breakpoints_.insert(address.value);
  else
    breakpoints_.erase(address.value);
  flush_code();
}

}  // namespace trapline
