// Faults, interrupts, the interpreter, and where the guest's state is while they happen.
#include "runtime/engine.h"
#include "vcpu/assert.h"
#include "vcpu/descriptor.h"

namespace trapline {

void Engine::import_flags() {
  CpuState& state = context_->cpu;
  state.eflags =
      (state.eflags & ~eflags::kArithmetic) | from_saved_flags(context_->hot.saved_flags);
}

void Engine::export_flags() {
  context_->hot.saved_flags = to_saved_flags(context_->cpu.eflags);
}

/// Makes the state what it was before the instruction whose code holds the address `from`.
void Engine::locate(uint64_t from) {
  const Block* block = cache_->block_at(from - 1);
  TRAPLINE_ASSERT(block != nullptr);
  const CodeRecord& record = cache_->record_at(*block, from - 1);
  CpuState& state = context_->cpu;
  state.eip = block->eip() + static_cast<uint32_t>(record.guest);
  state.gpr[kEsp] += static_cast<uint32_t>(int32_t{record.esp_pending});
  if (counted_) context_->hot.budget += block->instructions - record.index;
  pending_count_ = 0;
  import_flags();
}

void Engine::keep_flags_before_compare(uint32_t saved_flags) {
  if (context_->hot.compare_unfinished && compare_eip_ == context_->cpu.eip) return;
  context_->hot.compare_unfinished = 1;
  compare_eip_ = context_->cpu.eip;
  flags_before_compare_ = saved_flags;
}

/// A fault in a later element shows the flags from before the first one, unless something that the
/// guest notices came in between.
void Engine::restore_flags_before_compare() {
  CpuState& state = context_->cpu;
  if (std::exchange(context_->hot.compare_unfinished, 0) && compare_eip_ == state.eip)
    state.eflags = (state.eflags & ~eflags::kArithmetic) | from_saved_flags(flags_before_compare_);
}

bool Engine::deliver(const Fault& fault) {
  ++counters_.exceptions;
  if (fault.vector == Vector::kPageFault) ++counters_.page_faults;
  context_->hot.compare_unfinished = 0;
  debug_met_ = 0;
  const auto vector = static_cast<uint32_t>(fault.vector);
  if (options_.exit_on_exceptions >> vector & 1) {
    exit_ = {};
    exit_.kind = Exit::Kind::kException;
    exit_.fault = fault;
    return false;
  }
  context_->cpu.shadow = InterruptShadow::kNone;
  if (deliver_fault(cpu_, fault) == Delivered::kTripleFault) {
    exit_ = {};
    exit_.kind = Exit::Kind::kTripleFault;
    return false;
  }
  return true;
}

uint64_t Engine::raise(const Fault& fault) {
  if (!deliver(fault)) return leave(Leave::kExit);
  ask_for_attention_if_due();  // An IRET that faults lets an NMI in.
  return resume();
}

uint64_t Engine::resume_after() {
  // A shadow keeps interrupts out until after the next instruction; the run loop sees to that when
  // one is waiting. Otherwise going on is enough: blocks are left between instructions only.
  return resume();
}

bool Engine::interrupts_waiting() const {
  return nmi_waiting_ || interrupt_source_ || !queued_interrupts_.empty();
}

void Engine::note_interrupts() {
  context_->hot.interrupt_waits = interrupt_source_ || !queued_interrupts_.empty();
}

void Engine::remember_segment(SegmentName name) {
  const CpuState& state = context_->cpu;
  const Segment& segment = state.segment[name];
  const uint16_t selector = segment.selector;
  if (!uses_descriptors(state)) return;
  uint64_t raw = 0;
  if (!null_selector(selector)) {
    const auto read = read_descriptor(cpu_, selector, Vector::kGeneralProtection);
    if (!read.ok()) return;
    raw = read->raw;
  }
  context_->loaded_segments[loaded_segment_slot(selector)] = {
      loaded_segment_key(selector, state.cpl), 0, raw, segment};
}

void Engine::remember_class(SegmentName name, uint32_t word, uint64_t table) {
  const CpuState& state = context_->cpu;
  const bool in_mode = name == kDs || name == kEs;
  if (!in_mode || !uses_descriptors(state)) return;
  if (table == reinterpret_cast<uint64_t>(execution_views_->empty_table())) return;
  const uint64_t recycled = execution_views_->recycled();
  refresh_mode();
  const uint64_t to = context_->hot.exec_table;
  if (to == table || recycled != execution_views_->recycled()) return;
  const auto klass = static_cast<uint32_t>(state.segment[name].klass);
  context_->known_classes[known_class_slot(word, name) + klass] = {table, to};
}

void Engine::ask_for_attention_if_due() {
  // A device that asks the machine to stop means here, not when the timer's kick comes.
  const CpuState& state = context_->cpu;
  if (stop_requested_ || nmi_due() || ((state.eflags & eflags::kIf) && interrupts_waiting()))
    context_->hot.attention = 1;
}

void Engine::leave_soon(uint64_t from) {
  context_->hot.exec_table = reinterpret_cast<uint64_t>(execution_views_->empty_table());
  if (const Block* block = cache_->block_at(from - 1)) cache_->cut_exits(*block);
}

/// A breakpoint at a repeated instruction that is being stepped over is not met again at each of
/// its elements.
bool Engine::steps_on_over_breakpoint() const {
  const CpuState& state = context_->cpu;
  const bool interrupted = (state.eflags & eflags::kIf) && interrupts_waiting();
  return step_over_breakpoint_ && !(state.eflags & eflags::kTf) && !interrupted && !nmi_waiting_ &&
         !stop_requested_ && !deadline_passed_;
}

bool Engine::deliverable() const {
  const CpuState& state = context_->cpu;
  if (state.shadow != InterruptShadow::kNone) return false;
  if (nmi_due()) return true;
  return (state.eflags & eflags::kIf) && (interrupt_source_ || !queued_interrupts_.empty());
}

bool Engine::deliver_pending(Exit& exit) {
  if (!deliverable()) return false;
  CpuState& state = context_->cpu;
  state.halted = false;
  if (native_ && state.cpl == 3) note_user_code();
  context_->hot.compare_unfinished = 0;
  x87_passes_ = false;
  ++counters_.interrupts;
  Delivered delivered = Delivered::kOk;
  if (nmi_due()) {
    nmi_waiting_ = false;
    delivered = deliver_nmi(cpu_);
  } else {
    uint8_t vector = 0;
    if (interrupt_source_) {
      vector = interrupt_source_->acknowledge();
    } else {
      vector = queued_interrupts_.front();
      queued_interrupts_.erase(queued_interrupts_.begin());
      note_interrupts();
    }
    delivered = deliver_interrupt(cpu_, vector);
  }
  if (delivered == Delivered::kTripleFault) {
    exit = {};
    exit.kind = Exit::Kind::kTripleFault;
    return true;
  }
  return false;
}

uint64_t Engine::interpret_instruction(uint32_t payload) {
  CpuState& state = context_->cpu;
  const Segment ss = state.segment[kSs];
  if (counted_) context_->hot.budget += payload >> 16 & 0xff;  // It may ask for the time.
  const StepResult result = interpret(cpu_);
  ++counters_.interpreted;
  if (result.mnemonic < interpreted_by_mnemonic_.size())
    ++interpreted_by_mnemonic_[result.mnemonic];
  switch (result.step) {
    case Step::kFault:
      return raise(result.fault);
    case Step::kNotHandled:
      TRAPLINE_ASSERT(!"the interpreter was given an instruction that is not its own");
      return 0;
    case Step::kHalt:
    case Step::kRetired:
      break;
  }
  if (counted_) --context_->hot.budget;
  if (state.segment[kSs].base != ss.base || state.segment[kSs].attributes != ss.attributes)
    drop_window();
  ask_for_attention_if_due();
  return resume_after();
}

}  // namespace trapline
