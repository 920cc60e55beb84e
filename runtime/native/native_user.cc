#include "runtime/native/native_user.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <utility>

#include "runtime/host_ticks.h"
#include "shadowmmu/page_walk.h"

namespace trapline {

namespace {
constexpr size_t kMostSpaces = 16;
/// Pages, aligned, that are mapped when one of them is asked for;
constexpr uint32_t kAround = 16;
/// the same inside a large page of the guest's.
constexpr uint32_t kAroundInLarge = 128;
/// Code that is entered no more often stays translated rather than to be patched.
constexpr uint32_t kRarelyWanted = 64;
/// So often at most a page is turned away without a look at its frame.
constexpr uint32_t kTurnedAwayAtOnce = 64;
/// Whatever precedes it: an instruction that goes on here is none that differs because of that.
constexpr auto kHarmlessTail = [] {
  std::array<uint8_t, InstructionForm::kLongest> tail{};
  tail.fill(0x90);
  return tail;
}();
constexpr uint64_t kAccessed = 1u << 5;  ///< In a page table's entry.

bool runs(Vetted vetted) {
  return vetted == Vetted::kFine || vetted == Vetted::kPatched;
}

uint64_t setting(const char* path, uint64_t otherwise) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : otherwise;
}
}  // namespace

Result<std::unique_ptr<NativeUser>> NativeUser::create(PhysicalMemory& memory, ShadowMmu& mmu,
                                                       const CodeCache& cache,
                                                       const CpuModel& model) {
  std::unique_ptr<NativeUser> made(new NativeUser(memory, mmu, cache, model));
  made->most_mappings_ = setting("/proc/sys/vm/max_map_count", 65530) / 2;
  made->first_page_ = static_cast<uint32_t>(
      (setting("/proc/sys/vm/mmap_min_addr", 65536) + kPageMask) >> kPageShift);
  auto files = ContainerFiles::create(memory.ram_file());
  if (!files.ok()) return files.error();
  made->files_ = files.take();
  auto first = made->start();
  if (!first.ok()) return first.error();
  if (first.value()->container().cpuid_faults()) made->vetter_.let_cpuid_fault();
  if (first.value()->container().watch(0, 0)) made->vetter_.watch();
  first.value()->container().unwatch(0);
  first.value()->selector_of(0, kPageMask);
  if (!first.value()->container().flush())
    return Error{ExitStatus::kHost, "the host has no modify_ldt"};
  made->spaces_.push_back(first.take());
  made->patched_pages_ = PatchedPages::behind(memory.ram_file());
  if (made->patched_pages_) made->vetter_.let_patch();
  return made;
}

Result<std::unique_ptr<NativeSpace>> NativeUser::start() {
  auto container = Container::start(*files_);
  if (!container.ok()) return container.error();
  auto space = NativeSpace::make(container.take(), most_mappings_, map_counters_);
  if (!space)
    return Error{ExitStatus::kHost, "the host gives no memory for a container's bookkeeping"};
  ++counters_.containers_started;
  return space;
}

// --- spaces ------------------------------------------------------------------------------------

NativeSpace* NativeUser::find(uint32_t view) {
  if (recent_ && recent_->view() == view) return recent_;
  for (const auto& space : spaces_)
    if (space->view() == view) return recent_ = space.get();
  return nullptr;
}

NativeSpace* NativeUser::space_of(const View& view) {
  NativeSpace* found = find(view.serial());
  if (!found) found = find(0);  // Of no view any more.
  if (!found && spaces_.size() < kMostSpaces) {
    auto made = start();
    if (made.ok()) {
      spaces_.push_back(made.take());
      found = spaces_.back().get();
    }
  }
  if (!found && !spaces_.empty()) {
    found = std::ranges::min_element(spaces_, {}, [](const auto& s) { return s->last_use; })->get();
    ++counters_.containers_recycled;
  }
  if (!found) return nullptr;
  if (found->view() != view.serial()) found->become(view.serial());
  found->last_use = ++clock_;
  if (!found->container().lost()) return found;
  discard(*found);
  return nullptr;
}

void NativeUser::discard(NativeSpace& space) {
  ++counters_.containers_lost;
  recent_ = nullptr;
  std::erase_if(spaces_, [&](const auto& held) { return held.get() == &space; });
}

void NativeUser::stop_looking_but(const Container& container) {
  for (const auto& space : spaces_)
    if (&space->container() != &container) space->container().stop_looking();
}

// --- mappings ----------------------------------------------------------------------------------

/// What the view's tables allow of the page, on top of what is mapped now.
std::optional<NativeUser::Piece> NativeUser::piece(const View& view, uint32_t page,
                                                   uint8_t now) const {
  const uint64_t read = view.read_entry(page);
  if (read == 0 || page < first_page_) return std::nullopt;
  const auto* host = reinterpret_cast<const std::byte*>(read + (uint64_t{page} << kPageShift));
  const auto offset = memory_.ram_offset_of(host);
  if (!offset) return std::nullopt;
  uint8_t rights = native_access::kRead | (now & native_access::kExecute);
  if (view.write_entry(page)) rights |= native_access::kWrite;
  return Piece{*offset, rights};
}

/// Whether the view has the page, or has it now: only what the guest has already accessed.
bool NativeUser::prefetch(View& view, const PagingContext& paging, uint32_t page) {
  if (view.read_entry(page)) return true;
  const Linear address{page << kPageShift};
  const auto walk = walk_page(paging, memory_, address, Access::kRead, true, WalkMode::kPeek);
  if (!walk.ok() || memory_.frame(walk->address.frame()).kind != FrameKind::kRam) return false;
  for (uint8_t i = 0; i < walk->steps; ++i)
    if (!(walk->step[i].value & kAccessed)) return false;
  const auto resolved = mmu_.resolve(view, address, Access::kRead);
  return resolved.ok() && view.read_entry(page);
}

uint32_t NativeUser::around(const PagingContext& paging, uint32_t page) const {
  const auto walk =
      walk_page(paging, memory_, {page << kPageShift}, Access::kRead, true, WalkMode::kPeek);
  return walk.ok() && walk->large ? kAroundInLarge : kAround;
}

bool NativeUser::map(NativeSpace& space, View& view, const PagingContext& paging, uint32_t page,
                     Access access) {
  const auto wanted = piece(view, page, space.rights(page));
  if (!wanted) return false;
  if (access == Access::kWrite && !(wanted->rights & native_access::kWrite)) return false;
  const uint32_t pages = around(paging, page);
  const uint32_t begin = page & ~(pages - 1);
  for (uint32_t at = begin; at < begin + pages; ++at)
    if (at != page && space.rights(at) == 0) prefetch(view, paging, at);
  // Runs of pages that lie in a row in RAM, too.
  uint32_t first = 0;
  uint32_t count = 0;
  Piece run;
  const auto end_run = [&] {
    if (count) space.map(first, count, run.rights, run.offset);
    count = 0;
  };
  for (uint32_t at = begin; at < begin + pages; ++at) {
    const auto here =
        at == page || space.rights(at) == 0 ? piece(view, at, space.rights(at)) : std::nullopt;
    if (!here || here->rights == space.rights(at)) {
      end_run();
      continue;
    }
    const uint64_t next = run.offset + (uint64_t{count} << kPageShift);
    if (count == 0 || here->rights != run.rights || here->offset != next) {
      end_run();
      first = at;
      run = *here;
    }
    ++count;
  }
  end_run();
  return true;
}

// --- code --------------------------------------------------------------------------------------

Vetted NativeUser::look(uint64_t frame, Linear address, CodeKnown known) {
  entries_.clear();
  if (known.entry) entries_.push_back(static_cast<uint16_t>(address.offset()));
  for (const Block* block : cache_.blocks_of(frame))
    if (block->table->frame == frame && !block->dead) entries_.push_back(block->offset);
  const uint64_t begin = HostTicks::now();
  const Vetted vetted = vetter_.vet({.bytes = bytes_of(frame),
                                     .head = known.head,
                                     .tail = known.tail,
                                     .entries = entries_,
                                     .sse = known.sse,
                                     .loads_are_noticed = known.loads_are_noticed});
  ++counters_.looks;
  counters_.looks_ticks += HostTicks::now() - begin;
  return vetted;
}

bool NativeUser::may_execute(NativeSpace& space, uint64_t frame, Linear address, CodeKnown known) {
  const uint32_t page = address.page();
  const auto offset = memory_.ram_offset(frame);
  if (!offset || page < first_page_) {
    space.set_translated(page, true);
    return false;
  }
  // Either of two pages may be the one that comes second.
  if (known.before)
    if (const auto before = frames_.find(*known.before); before != frames_.end())
      if (!fits(before->second, bytes_of(frame))) look_again(before->first, before->second);
  Frame& state = frames_[frame];
  if (!fits(state, known.tail)) look_again(frame, state);
  if (state.looked &&
      (state.sse != known.sse || state.loads_are_noticed != known.loads_are_noticed)) {
    // All of it changes with the guest's kernel.
    forget_code();
    return may_execute(space, frame, address, known);
  }
  if (state.looked && !runs(state.vetted) && state.patience > 0) {
    --state.patience;
    space.set_translated(page, true);
    const uint32_t left = std::min(state.patience, kTurnedAwayAtOnce);
    state.patience -= left;
    turned_away_[page % turned_away_.size()] = {space.view(), page, left, state.enters_kernel};
    return false;
  }
  bool new_patches = false;
  if (!state.looked || !runs(state.vetted)) {
    const bool first = !state.looked;
    mmu_.deny_writes(frame, denial::kNative);
    Vetted vetted = look(frame, address, known);
    const bool open_end = !runs(vetted) && known.tail.empty();
    if (open_end) {
      known.tail = kHarmlessTail;
      vetted = look(frame, address, known);
    }
    Frame& now = frames_[frame];
    now.open_end = open_end && runs(vetted);
    now.tail.reset();
    if (runs(vetted) && !known.tail.empty() && !open_end && vetter_.goes_on())
      std::ranges::copy_n(known.tail.begin(), InstructionForm::kLongest,
                          now.tail.emplace().begin());
    if (first || runs(vetted)) count(vetted);
    now.looked = true;
    now.sse = known.sse;
    now.loads_are_noticed = known.loads_are_noticed;
    now.vetted = vetted;
    now.watched.assign(vetter_.watched().begin(), vetter_.watched().end());
    now.patched.assign(vetter_.patched().begin(), vetter_.patched().end());
    now.enters_kernel = vetted == Vetted::kSensitive && vetter_.culprit() == "sysenter";
    if (!runs(vetted)) {
      mmu_.allow_writes(frame, denial::kNative);
      wait(now);
      if (vetted == Vetted::kSensitive) now.patience = most_patience_;
      space.set_translated(page, true);
      return false;
    }
    new_patches = vetted == Vetted::kPatched;
  }
  const bool mapped = map_code(space, frame, page);
  if (new_patches) count(mapped ? Vetted::kFine : Vetted::kSensitive);
  space.set_translated(page, !mapped);
  return mapped;
}

const NativeUser::TurnedAway* NativeUser::turns_away(const NativeSpace& space, uint32_t page) {
  TurnedAway& known = turned_away_[page % turned_away_.size()];
  if (known.page != page || known.view != space.view() || known.left == 0) return nullptr;
  if (!space.translated(page)) return nullptr;
  --known.left;
  return &known;
}

/// From now on none of it runs, nor does anybody rely on what it holds.
void NativeUser::stop_code(uint64_t frame, Frame& state) {
  unmap_code(frame);
  settle();
  drop_copy(state);
  state.vetted = Vetted::kUnexplored;
  mmu_.allow_writes(frame, denial::kNative);
}

/// What was found out needs another look before the code runs once more.
void NativeUser::look_again(uint64_t frame, Frame& state) {
  stop_code(frame, state);
  state.looked = false;
  state.open_end = false;
  state.tail.reset();
}

/// Whether what was found out of the page holds where that follows; nothing: no code does.
bool NativeUser::fits(const Frame& state, std::span<const uint8_t> next) const {
  if (next.empty()) return true;
  return !state.open_end &&
         (!state.tail || std::ranges::equal(*state.tail, next.first(Tail().size())));
}

/// The same of the page before this one.
bool NativeUser::fits_before(const PagingContext& paging, uint32_t page, uint64_t frame) const {
  const auto walk = walk_page(paging, memory_, {(page - 1) << kPageShift}, Access::kExecute, true,
                              WalkMode::kPeek);
  if (!walk.ok()) return true;
  const auto found = frames_.find(walk->address.frame());
  return found == frames_.end() || fits(found->second, bytes_of(frame));
}

std::span<const uint8_t> NativeUser::bytes_of(uint64_t frame) const {
  return {reinterpret_cast<const uint8_t*>(memory_.frame(frame).host), kPageSize};
}

/// Maps a frame's code that may run, where and as far as it must be stopped.
bool NativeUser::map_code(NativeSpace& space, uint64_t frame, uint32_t page) {
  const Frame& code = frames_[frame];
  if (space.patched(page)) return true;
  const bool watched = space.watch(page, code.watched);
  unsettled_ = unsettled_ || space.unsettled();
  if (code.vetted == Vetted::kPatched) return watched && map_patched(space, frame, page);
  // Without enough breakpoints all of them are patched.
  if (!watched)
    return code.patched.size() == code.watched.size() && map_patched(space, frame, page);
  if (!(space.rights(page) & native_access::kExecute))
    space.map(page, 1, native_access::kRead | native_access::kExecute, *memory_.ram_offset(frame));
  return true;
}

void NativeUser::map_code_around(NativeSpace& space, View& view, const PagingContext& paging,
                                 uint32_t page, const CodeKnown& known) {
  const uint32_t begin = page & ~(kAround - 1);
  for (uint32_t at = begin; at < begin + kAround; ++at) {
    const bool open = !(space.rights(at) & native_access::kExecute) && !space.translated(at);
    if (at == page || at < first_page_ || !open) continue;
    const auto walk =
        walk_page(paging, memory_, {at << kPageShift}, Access::kExecute, true, WalkMode::kPeek);
    if (!walk.ok()) continue;
    const uint64_t frame = walk->address.frame();
    const auto found = frames_.find(frame);
    if (found == frames_.end()) continue;
    const Frame& code = found->second;
    const bool fine = code.vetted == Vetted::kFine && code.watched.empty() && !code.open_end &&
                      !code.tail && fits_before(paging, at, frame) && code.sse == known.sse &&
                      code.loads_are_noticed == known.loads_are_noticed;
    if (fine && prefetch(view, paging, at))
      space.map(at, 1, native_access::kRead | native_access::kExecute, *memory_.ram_offset(frame));
  }
}

bool NativeUser::map_patched(NativeSpace& space, uint64_t frame, uint32_t page) {
  Frame& code = frames_[frame];
  if (!patched_pages_ || !space.may_patch(page)) return false;
  // Its segments are dear on some hosts, at each event of the address space.
  if (++code.wanted <= std::min(kRarelyWanted, most_patience_)) return false;
  if (!code.copy) {
    code.copy = patched_pages_->add(bytes_of(frame), code.patched);
    if (!code.copy) return false;
    ++counters_.pages_patched;
  }
  space.map_patched(page, *code.copy, code.patched);
  return true;
}

void NativeUser::drop_copy(Frame& state) {
  if (state.copy) patched_pages_->remove(*state.copy);
  state.copy.reset();
}

void NativeUser::patch_stopped(NativeSpace& space) {
  if (space.afford_stop()) return;
  space.give_up_patches();
  unsettled_ = unsettled_ || space.unsettled();
}

bool NativeUser::enters_kernel(uint64_t frame) const {
  const auto found = frames_.find(frame);
  return found != frames_.end() && found->second.enters_kernel;
}

void NativeUser::count(Vetted vetted) {
  switch (vetted) {
    case Vetted::kFine:
      ++counters_.pages_fine;
      return;
    case Vetted::kPatched:  // Counted when it is known what becomes of it.
      return;
    case Vetted::kSensitive:
      ++counters_.pages_sensitive;
      ++refused_[vetter_.culprit()].sensitive;
      return;
    case Vetted::kUnexplored:
      ++counters_.pages_unexplored;
      ++refused_[vetter_.culprit()].unexplored;
      return;
  }
}

/// The next look comes later each time.
void NativeUser::wait(Frame& state) const {
  state.patience = std::min(state.next_patience, most_patience_);
  state.next_patience = std::min(state.next_patience * 2, most_patience_);
}

void NativeUser::code_written(uint64_t frame) {
  const auto found = frames_.find(frame);
  if (found == frames_.end()) return;
  Frame& state = found->second;
  if (!runs(state.vetted)) {
    if (state.vetted == Vetted::kSensitive) wait(state);
    state.vetted = Vetted::kUnexplored;
    return;
  }
  ++counters_.pages_rewritten;
  stop_code(frame, state);
  wait(state);
}

void NativeUser::forget_code() {
  for (const auto& [frame, state] : frames_)
    if (runs(state.vetted)) unmap_code(frame);
  settle();
  for (auto& [frame, state] : frames_) {
    drop_copy(state);
    if (runs(state.vetted)) mmu_.allow_writes(frame, denial::kNative);
  }
  frames_.clear();
}

void NativeUser::unmap_code(uint64_t frame) {
  mmu_.for_each_mapping(frame, [this](View& view, uint32_t page) {
    if (NativeSpace* space = find(view.serial())) space->remove(page);
  });
  unsettled_ = true;
}

// --- removals ----------------------------------------------------------------------------------

void NativeUser::mapping_dropped(const View& view, uint32_t page) {
  if (!view.user()) return;
  if (NativeSpace* space = find(view.serial())) {
    space->remove(page);
    unsettled_ = unsettled_ || space->unsettled();
  }
}

void NativeUser::view_dropped(const View& view) {
  if (NativeSpace* space = find(view.serial())) space->become(0);
}

void NativeUser::writing_dropped(const View& view, uint32_t page) {
  if (!view.user()) return;
  if (NativeSpace* space = find(view.serial())) {
    space->remove_writing(page);
    unsettled_ = unsettled_ || space->unsettled();
  }
}

void NativeUser::settle() {
  if (!unsettled_) return;
  unsettled_ = false;
  for (const auto& space : spaces_)
    if (space->unsettled()) space->settle();
}

}  // namespace trapline
