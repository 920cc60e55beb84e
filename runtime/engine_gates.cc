// The C++ side of gates: calls from the middle of an instruction that come back, or leave the block
// with the state as it was before the instruction.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "runtime/engine.h"
#include "runtime/engine_entries.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr uint16_t kManyWindowMisses = 16;
constexpr uint16_t kManySharedMisses = 64;
}  // namespace

/// Gives the gate functions their way into the engine.
struct Gates {
  static Engine& engine(Context* context) { return *static_cast<Engine*>(context->engine); }
  static GateResult stay(uint64_t value) { return {value, 0}; }
  static GateResult go(uint64_t code) { return {0, code}; }

  static GateResult fault(Engine& e, uint64_t from, const Fault& what) {
    e.locate(from);
    e.restore_flags_before_compare();
    // A pending x87 exception is reported before the operand is looked at. Its error summary is in
    // the image, which the gate has just saved.
    if ((context_of(e).cpu.fpu.status & 0x80) && what.vector != Vector::kDivide &&
        e.waits_for_x87())
      return go(e.raise_x87());
    if (e.finish_suppressed_store()) return go(e.resume_after());
    return go(e.raise(what));
  }
  static Context& context_of(Engine& e) { return *e.context_; }

  /// Runs the instruction again, one access at a time.
  static GateResult carefully(Engine& e, uint64_t from) {
    e.locate(from);
    ++e.counters_.careful_instructions;
    return go(e.resume_careful());
  }

  static GateResult fill(Context* context, uint32_t address, uint32_t bits, uint64_t from) {
    Engine& e = engine(context);
    const AccessInfo info = AccessInfo::unpack(bits);
    ++e.counters_.page_misses;
    e.note_entry();
    if ((address & kPageMask) + info.size > kPageSize)
      return info.write ? carefully(e, from) : gather(e, address, info.size, from);
    const uint64_t removals = e.mmu_->removals();
    View& view = e.current_view();
    const auto found =
        e.mmu_->resolve(view, {address}, info.write ? Access::kWrite : Access::kRead);
    // One of several pushes: which one faults is for careful code to find out.
    constexpr uint8_t kSeveral = 16;
    if (!found.ok())
      return info.size >= kSeveral ? carefully(e, from) : fault(e, from, found.fault());
    if (may_store_here(e, *found, info))
      return store_here(e, address, found->address, info, removals, from);
    const uint32_t page = address >> kPageShift;
    const uint64_t delta = info.write ? view.write_entry(page) : view.read_entry(page);
    if (found->kind != Resolution::Kind::kHost || !delta)
      return info.shared ? apart(e, from) : carefully(e, from);
    // Something that the block relied on may be gone.
    if (e.mmu_->removals() != removals) return carefully(e, from);
    return stay(delta);
  }

  /// The block does without shared look-ups from this instruction on, and always when that is
  /// frequent: there are cheaper ways to do single accesses.
  static GateResult apart(Engine& e, uint64_t from) {
    e.locate(from);
    Block& block = *e.cache_->block_at(from - 1);
    if (++block.shared_misses == kManySharedMisses) do_without(e, block, Variant::kNoSharing);
    return go(e.resume_variant(Variant::kNoSharing));
  }

  /// Whether it is a MOV to a page table or a device. Devices look at the time, which has to be
  /// that of the instruction where instructions are counted.
  static bool may_store_here(Engine& e, const Resolution& found, const AccessInfo& info) {
    if (info.stored == AccessInfo::Stored::kOther) return false;
    if (context_of(e).cpu.shadow != InterruptShadow::kNone) return false;
    if (found.kind == Resolution::Kind::kMmio) return !e.counted_;
    return found.kind == Resolution::Kind::kDenied && found.denials == denial::kPageTable;
  }

  /// Makes the store, and lets the instruction repeat it where it does not matter, unless the block
  /// relies on what the store may have taken away, or a device wants to be heard.
  static GateResult store_here(Engine& e, uint32_t address, Physical to, const AccessInfo& info,
                               uint64_t removals, uint64_t from) {
    CpuState& state = context_of(e).cpu;
    uint32_t value = 0;
    if (info.stored != AccessInfo::Stored::kZero) value = state.gpr[info.source];
    if (info.stored == AccessInfo::Stored::kHighByte) value >>= 8;
    e.mmu_->store(to, info.size, value);
    e.ask_for_attention_if_due();
    if (e.mmu_->removals() == removals && !context_of(e).hot.attention)
      return stay(reinterpret_cast<uint64_t>(&e.discarded_) - address);
    e.locate(from);
    state.eip += info.instruction_length;
    if (e.counted_) --context_of(e).hot.budget;
    return go(e.resume_after());
  }

  /// A read across a page end: the instruction reads a copy of the bytes instead.
  static GateResult gather(Engine& e, uint32_t address, uint32_t size, uint64_t from) {
    const View& view = e.current_view();
    const uint64_t low = view.read_entry(address >> kPageShift);
    const uint32_t next = (address | kPageMask) + 1;
    const uint64_t high = view.read_entry(next >> kPageShift);
    if (!low || !high || may_leave_segment(e, address, size)) return carefully(e, from);
    const uint32_t first = next - address;
    std::byte* bytes = e.gathered_.data();
    std::memcpy(bytes, reinterpret_cast<const void*>(low + address), first);
    std::memcpy(bytes + first, reinterpret_cast<const void*>(high + next), size - first);
    return stay(reinterpret_cast<uint64_t>(bytes) - address);
  }

  /// Whether the access goes past the end of a segment that emitted code does not check.
  static bool may_leave_segment(const Engine& e, uint32_t address, uint32_t size) {
    const auto past_end = [&](const Segment& segment) {
      return segment.klass == SegmentClass::kBased &&
             uint64_t{address - segment.base} + size > uint64_t{1} << 32;
    };
    return std::ranges::any_of(e.context_->cpu.segment, past_end);
  }

  static GateResult segment(Context* context, uint32_t offset, uint32_t bits, uint64_t from) {
    Engine& e = engine(context);
    const AccessInfo info = AccessInfo::unpack(bits);
    const auto checked = check_segment(context->cpu, info.segment, offset, info.size,
                                       info.write ? SegmentAccess::kWrite : SegmentAccess::kRead);
    if (!checked.ok())
      return fault(e, from, limit_or_alignment(context->cpu, info, offset, checked.fault()));
    return stay(0);
  }

  /// Processors look at the alignment of SSE operands before they look at limits.
  static Fault limit_or_alignment(const CpuState& state, const AccessInfo& info, uint32_t offset,
                                  const Fault& found) {
    const bool misaligned = info.aligned && ((state.segment[info.segment].base + offset) & 15);
    return misaligned ? Fault::general_protection() : found;
  }

  static GateResult window(Context* context, uint32_t address, uint32_t span_class, uint64_t from) {
    Engine& e = engine(context);
    if (e.move_window(address, static_cast<int>(span_class))) return stay(0);
    return unless_there(e, e.join_window(address), from, &Block::window_misses, Variant::kNoWindow);
  }

  static GateResult frame(Context* context, uint32_t address, uint32_t bits, uint64_t from) {
    Engine& e = engine(context);
    const FrameInfo info = FrameInfo::unpack(bits);
    const auto widened = e.widen_window(address, info.span_class, info.window_in_use);
    return unless_there(e, widened, from, &Block::frame_misses, Variant::kNoFrame);
  }

  /// Goes on in the variant that needs no window there, if there is none.
  static GateResult unless_there(Engine& e, AdjacentPages::State window, uint64_t from,
                                 uint16_t Block::*misses, Variant without) {
    using State = AdjacentPages::State;
    if (window == State::kThere || window == State::kNew) return stay(0);
    e.locate(from);
    Block& block = *e.cache_->block_at(from - 1);
    if (window != State::kNotYet && ++(block.*misses) == kManyWindowMisses)
      do_without(e, block, without);
    return go(e.resume_variant(without));
  }

  /// The block has its stack where the window cannot be, again and again: its place goes to one
  /// that needs none.
  static void do_without(Engine& e, Block& block, Variant variant) {
    CpuState& state = e.context_->cpu;
    const uint32_t eip = std::exchange(state.eip, block.eip());
    const uint64_t generation = e.cache_->counters().flushes;
    const OrFault<Block*> other = e.find_block(variant);
    state.eip = eip;
    const bool both_there = other.ok() && generation == e.cache_->counters().flushes;
    if (both_there && (*other)->table == block.table) e.cache_->replace(block, **other);
  }

  /// For #AC. Ten bytes want what eight do; of sixteen it is the least that processors want.
  static uint32_t alignment_of(const AccessInfo& info) {
    constexpr uint32_t kWidest = 8;
    return info.aligned ? 1 : std::min<uint32_t>(info.size, kWidest);
  }

  static GateResult open(Context* context, uint32_t offset, uint32_t bits, uint64_t from) {
    Engine& e = engine(context);
    const AccessInfo info = AccessInfo::unpack(bits);
    const auto checked = check_segment(context->cpu, info.segment, offset, info.size,
                                       info.write ? SegmentAccess::kWrite : SegmentAccess::kRead,
                                       alignment_of(info));
    if (!checked.ok())
      return fault(e, from, limit_or_alignment(context->cpu, info, offset, checked.fault()));
    if (info.aligned && (checked->value & 15)) return fault(e, from, Fault::general_protection());
    if (e.note_access(*checked, info.size, info.write)) e.leave_soon(from);
    const uint32_t slot = e.open_next_++ % e.open_.size();
    Engine::OpenAccess& access = e.open_[slot];
    access.linear = checked->value;
    access.size = info.size;
    access.one_store = false;
    if (info.write) {
      const bool crosses = checked->offset() + info.size > kPageSize;
      if (!crosses && info.size <= 8 && std::has_single_bit(info.size)) {
        const auto found = e.mmu_->resolve(e.current_view(), *checked, Access::kWrite);
        if (!found.ok()) return fault(e, from, found.fault());
        access.one_store = true;
        access.physical = found->address;
      } else {
        const auto allowed = e.probe_write(*checked, info.size, Privilege::kCurrent);
        if (!allowed.ok()) return fault(e, from, allowed.fault());
      }
    }
    if (info.read) {
      for (uint32_t done = 0; done < info.size;) {
        const uint32_t part = chunk(info.size - done);
        const auto value = e.read(*checked + done, part, Privilege::kCurrent);
        if (!value.ok()) return fault(e, from, value.fault());
        std::memcpy(access.bytes() + done, &*value, part);
        done += part;
      }
    }
    if (info.write) e.pending_[e.pending_count_++] = slot;
    if (context->hot.attention) e.leave_soon(from);  // Until the instruction is through.
    return stay(reinterpret_cast<uint64_t>(access.bytes()) - offset);
  }

  static GateResult commit(Context* context, uint32_t, uint32_t, uint64_t from) {
    Engine& e = engine(context);
    const uint32_t count = std::exchange(e.pending_count_, 0);
    for (uint32_t i = 0; i < count; ++i) write_back(e, e.open_[e.pending_[i]]);
    // The next block may be entered from here.
    if (e.mmu_->removals() != e.removals_seen_) e.drop_window();
    // A device may have raised an interrupt, or asked the machine to stop.
    e.ask_for_attention_if_due();
    if (context->hot.attention) e.leave_soon(from);
    return stay(0);
  }

  static void write_back(Engine& e, Engine::OpenAccess& access) {
    if (access.one_store) {
      uint64_t value = 0;
      std::memcpy(&value, access.bytes(), access.size);
      e.mmu_->store(access.physical, access.size, value);
      return;
    }
    for (uint32_t done = 0; done < access.size;) {
      const uint32_t part = chunk(access.size - done);
      uint64_t value = 0;
      std::memcpy(&value, access.bytes() + done, part);
      const auto written = e.write({access.linear + done}, part, value, Privilege::kCurrent);
      TRAPLINE_ASSERT(written.ok());  // Probed when it was opened.
      done += part;
    }
  }

  static GateResult fpu_sync(Context* context, uint32_t, uint32_t, uint64_t) {
    engine(context).sync_fpu_pointers();
    return stay(0);
  }

  static GateResult verify(Context* context, uint32_t selector, uint32_t writable, uint64_t from) {
    Engine& e = engine(context);
    const auto good = verify_selector(e.cpu_, static_cast<uint16_t>(selector), writable != 0);
    if (!good.ok()) return fault(e, from, good.fault());
    return stay(*good ? to_saved_flags(eflags::kZf) : 0);
  }

  static uint32_t chunk(uint32_t left) { return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

  template <typename Half, typename Whole>
  static bool quotient_fits(Whole dividend, Half divisor) {
    if (divisor == 0) return false;
    if (divisor == -1)
      return dividend >= -Whole{std::numeric_limits<Half>::max()} &&
             dividend <= -Whole{std::numeric_limits<Half>::min()};
    const Whole quotient = dividend / divisor;
    return quotient >= std::numeric_limits<Half>::min() &&
           quotient <= std::numeric_limits<Half>::max();
  }

  static GateResult divide(Context* context, uint32_t, uint32_t size, uint64_t from) {
    const auto& gpr = context->cpu.gpr;
    const auto divisor = static_cast<uint32_t>(context->hot.gate_value);
    bool fits = false;
    if (size == 1) {
      fits = quotient_fits<int8_t, int32_t>(static_cast<int16_t>(gpr[kEax]),
                                            static_cast<int8_t>(divisor));
    } else if (size == 2) {
      const uint32_t dividend = gpr[kEdx] << 16 | (gpr[kEax] & 0xffff);
      fits = quotient_fits<int16_t, int64_t>(static_cast<int32_t>(dividend),
                                             static_cast<int16_t>(divisor));
    } else {
      const uint64_t dividend = uint64_t{gpr[kEdx]} << 32 | gpr[kEax];
      fits = quotient_fits<int32_t, int64_t>(static_cast<int64_t>(dividend),
                                             static_cast<int32_t>(divisor));
    }
    if (fits) return stay(0);
    return fault(engine(context), from, Fault::plain(Vector::kDivide));
  }
};

void fill_gate_entries(ThunkTargets& targets) {
  const auto set = [&](Gate gate, GateFunction function) {
    targets.gate[static_cast<size_t>(gate)] = function;
  };
  set(Gate::kFill, Gates::fill);
  set(Gate::kSegment, Gates::segment);
  set(Gate::kWindow, Gates::window);
  set(Gate::kFrame, Gates::frame);
  set(Gate::kOpen, Gates::open);
  set(Gate::kCommit, Gates::commit);
  set(Gate::kDivide, Gates::divide);
  set(Gate::kVerify, Gates::verify);
  set(Gate::kFpuSync, Gates::fpu_sync);
}

}  // namespace trapline
