// Faults, interrupts, the interpreter, and where the guest's state is while they happen.
#include <Zydis/Mnemonic.h>

#include "runtime/engine.h"
#include "translator/decoder.h"
#include "translator/instruction_table.h"
#include "vcpu/assert.h"

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
  state.eip = block->eip + record.guest;
  state.gpr[kEsp] += static_cast<uint32_t>(int32_t{record.esp_pending});
  if (counted_) context_->hot.budget += block->instructions - record.index;
  pending_count_ = 0;
  import_flags();
}

bool Engine::deliver(const Fault& fault) {
  ++counters_.exceptions;
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
  return deliver(fault) ? resume() : leave(Leave::kExit);
}

uint64_t Engine::resume_after() {
  // A shadow keeps interrupts out until after the next instruction; the run loop sees to that when
  // one is waiting. Otherwise going on is enough: blocks are left between instructions only.
  return resume();
}

bool Engine::interrupts_waiting() const {
  return nmi_waiting_ || interrupt_source_ || !queued_interrupts_.empty();
}

void Engine::ask_for_attention_if_due() {
  // A device that asks the machine to stop means here, not when the timer's kick comes.
  if (stop_requested_ || ((context_->cpu.eflags & eflags::kIf) && interrupts_waiting()))
    context_->hot.attention = 1;
}

bool Engine::deliver_pending(Exit& exit) {
  CpuState& state = context_->cpu;
  if (state.shadow != InterruptShadow::kNone) return false;
  Delivered delivered = Delivered::kOk;
  if (nmi_waiting_ && !state.nmi_blocked) {
    nmi_waiting_ = false;
    state.halted = false;
    ++counters_.interrupts;
    delivered = deliver_nmi(cpu_);
  } else if (state.eflags & eflags::kIf) {
    uint8_t vector = 0;
    if (interrupt_source_) {
      vector = std::exchange(interrupt_source_, nullptr)->acknowledge();
    } else if (!queued_interrupts_.empty()) {
      vector = queued_interrupts_.front();
      queued_interrupts_.erase(queued_interrupts_.begin());
    } else {
      return false;
    }
    state.halted = false;
    ++counters_.interrupts;
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
  sync_fpu_pointers();
  CpuState& state = context_->cpu;
  const uint32_t eip = state.eip;
  const uint32_t ecx = state.gpr[kEcx];
  const Segment ss = state.segment[kSs];
  if (!options_.ports) before_ports_ = state;
  if (counted_) context_->hot.budget += payload >> 16 & 0xff;  // It may ask for the time.
  const StepResult result = interpret(cpu_);
  fpu_loaded_ = {state.fpu.dp, state.fpu.opcode};
  ++counters_.interpreted;
  if (result.mnemonic < interpreted_by_mnemonic_.size())
    ++interpreted_by_mnemonic_[result.mnemonic];
  if (port_exit_ && exit_.kind == Exit::Kind::kPortRead) {
    state = before_ports_;  // Runs again when the value is there; what it stored is stored again.
    port_exit_ = false;
    return leave(Leave::kExit);
  }
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
  if (counted_) {
    // A REP that is not through yet has not retired.
    const bool unfinished = state.eip == eip && state.gpr[kEcx] != ecx;
    context_->hot.budget -= unfinished ? 0 : 1;
  }
  if (state.segment[kSs].base != ss.base || state.segment[kSs].attributes != ss.attributes)
    drop_window();
  if (port_exit_) {
    port_exit_ = false;
    return leave(Leave::kExit);
  }
  ask_for_attention_if_due();
  return resume_after();
}

uint64_t Engine::raise_x87() {
  if (!(context_->cpu.cr0 & cr0::kNe)) x87_error();
  return raise(Fault::plain(Vector::kX87));
}

bool Engine::waits_for_x87() {
  std::array<uint8_t, 15> bytes{};
  const uint32_t linear = context_->cpu.eip + context_->cpu.segment[kCs].base;
  size_t length = 0;
  for (; length < bytes.size(); ++length) {
    const auto byte = fetch({linear + static_cast<uint32_t>(length)});
    if (!byte.ok()) break;
    bytes[length] = *byte;
  }
  Instruction in;
  const auto size = mode_.code32() ? CodeSize::k32 : CodeSize::k16;
  if (decode({bytes.data(), length}, size, false, model_, context_->cpu.eip, in) != Decoded::kOk)
    return false;
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
      return false;
    default:
      break;
  }
  if (in.row->fpu == FpuUse::kX87) return true;
  for (int i = 0; i < in.operand_count; ++i)
    if (in.operand[i].register_kind == RegisterKind::kMmx) return true;
  return false;
}

namespace {
/// The x87 opcode field of an encoding: the low bits of its escape byte, and ModRM.
std::optional<uint16_t> x87_opcode(std::span<const uint8_t> bytes) {
  for (size_t i = 0; i + 1 < bytes.size(); ++i)
    if ((bytes[i] & 0xf8) == 0xd8) return static_cast<uint16_t>((bytes[i] & 7) << 8 | bytes[i + 1]);
  return std::nullopt;
}
}  // namespace

/// x87 instruction pointers that still are addresses of translated code become the guest's. The
/// opcode does too, where the host has updated it at all: many only do for unmasked exceptions.
void Engine::sync_fpu_pointers() {
  FpuImage& fpu = context_->cpu.fpu;
  // Many hosts move the operand pointer and the opcode for unmasked exceptions only: what the host
  // has not changed stays, and what FNINIT has cleared is clear.
  if (fpu.dp != fpu_loaded_.dp && fpu.dp != 0) fpu.dp = context_->hot.fpu_operand;
  const bool opcode_moved = fpu.opcode != fpu_loaded_.opcode;
  translate_fpu_instruction_pointer(opcode_moved);
  fpu_loaded_ = {fpu.dp, fpu.opcode};
}

void Engine::translate_fpu_instruction_pointer(bool opcode_moved) {
  FpuImage& fpu = context_->cpu.fpu;
  if (!code_memory_->contains(fpu.ip)) return;
  const Block* block = cache_->block_at(fpu.ip);
  if (!block) return;
  const auto* code = reinterpret_cast<const uint8_t*>(code_memory_->writable(fpu.ip));
  const auto host_opcode = x87_opcode({code, 15});
  const CodeRecord& record = cache_->record_at(*block, fpu.ip);
  fpu.ip = block->eip + record.guest;
  if (!opcode_moved || host_opcode != (fpu.opcode & 0x7ff)) return;
  std::array<uint8_t, 15> bytes{};
  const uint32_t linear = fpu.ip + context_->cpu.segment[kCs].base;
  for (uint32_t i = 0; i < bytes.size(); ++i) {
    const auto byte = fetch({linear + i});
    if (!byte.ok()) break;
    bytes[i] = *byte;
  }
  if (const auto guest = x87_opcode(bytes)) fpu.opcode = *guest;
}

}  // namespace trapline
