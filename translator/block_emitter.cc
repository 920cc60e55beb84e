#include "translator/block_emitter.h"

#include <utility>

#include "translator/instruction_table.h"
#include "vcpu/assert.h"

namespace trapline {

using namespace asmjit;  // NOLINT: the assembler's vocabulary, in this file only

BlockEmitter::BlockEmitter(Workspace& workspace, const Thunks& thunks, const Switches& switches,
                           const TranslationRequest& request, const BlockAnalysis& analysis,
                           Translation& out)
    : a(workspace.assembler),
      thunks_(thunks),
      switches_(switches),
      request_(request),
      analysis_(analysis),
      out_(out),
      cold_(workspace.cold),
      phrases_(workspace.phrases),
      careful_(request.variant == Variant::kCareful || request.mode.has(mode::kEachAccess) ||
               !switches.inline_memory) {
  a.addEncodingOptions(EncodingOptions::kOptimizedAlign);
}

void BlockEmitter::emit_block(std::span<const Instruction> instructions) {
  a.begin(request_.code_address);
  cold_.clear();
  instructions_ = instructions;
  cold_.reserve(instructions.size() * 2 + 4);
  current_ = &analysis_.instruction.front();
  add_record(0);
  emit_entry();
  if (request_.mode.has(mode::kCounted))
    emit_budget_check(static_cast<uint32_t>(instructions.size()));
  if (out_.straddles) emit_straddle_check();
  for (const Instruction& in : instructions) {
    current_ = &analysis_.instruction[index_];
    emit_instruction(in);
    ++index_;
    if (ended_) break;
  }
  if (!ended_) jump_to(instructions.back().next_eip());
  if (copy_.entered) emit_page_loop(instructions);
  if (switches_.cold_apart) a.begin_cold();
  const uint32_t cold_start = offset();
  emit_cold();
  out_.code = a.finish();
  out_.cold_start = switches_.cold_apart ? cold_start : static_cast<uint32_t>(out_.code.size());
  out_.references = a.references();
}

// --- entry ---------------------------------------------------------------------------------------

void BlockEmitter::emit_entry() {
  const bool needs_saved = request_.mode.has(mode::kCounted) || out_.straddles;
  if (needs_saved) {
    out_.host_entry = offset();
    emit_save_flags();
    out_.saved_entry = offset();
    flags_in_host_ = false;
    return;
  }
  out_.saved_entry = offset();
  if (analysis_.live_at_entry) emit_restore_flags();
  out_.host_entry = offset();
  flags_in_host_ = true;
}

void BlockEmitter::emit_budget_check(uint32_t count) {
  const x86::Mem budget = host::context(TRAPLINE_CONTEXT_OFFSET(hot.budget), 8);
  a.sub(budget, count);
  CodeLabel enough = a.new_label();
  a.jns(enough);
  a.add(budget, count);
  set_eip(request_.eip);
  a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kBudget)]));
  a.bind(enough);
}

void BlockEmitter::emit_straddle_check() {
  CodeLabel same = a.new_label();
  const uint32_t second_page = (request_.linear >> 12) + 1;
  a.mov(host::kDelta, host::context(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8));
  a.mov(host::kAddress, imm(request_.straddle_entry));
  a.cmp(host::kAddress,
        x86::Mem(host::kDelta, static_cast<int32_t>((second_page & 0xfffff) * 8), 8));
  a.je(same);
  set_eip(request_.eip);
  if (request_.mode.has(mode::kCounted))
    a.add(host::context(TRAPLINE_CONTEXT_OFFSET(hot.budget), 8), 1);
  a.mov(host::kDelta.r32(), static_cast<uint32_t>(request_.variant));
  a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kStraddle)]));
  a.bind(same);
}

void BlockEmitter::add_record(uint32_t host_offset) {
  const uint32_t guest =
      index_ < analysis_.instruction.size() && !out_.records.empty() ? out_.guest_bytes : 0;
  out_.records.push_back({static_cast<uint16_t>(host_offset), static_cast<int16_t>(guest),
                          static_cast<int16_t>(esp_pending_), static_cast<uint8_t>(index_),
                          !flags_in_host_});
}

void BlockEmitter::emit_instruction(const Instruction& in) {
  out_.guest_bytes = in.eip - request_.eip;
  if (copy_.emitting) keep_branch_in_line(in);
  add_record(offset());
  const size_t record = out_.records.size() - 1;
  note_comparison(in);
  if (current_->guards_stack) ensure_window(*current_);
  // A loop's copy has streams in the registers that a guard needs, and may need no guard for them.
  if (current_->guards_frame && !copy_.emitting) ensure_frame(*current_);
  bool possible = true;
  if (in.row->fpu != FpuUse::kNone) possible = prepare_fpu(in);
  if (possible) in.row->lower(*this, in);
  if (!ended_) end_shadow();
  if (!flags_in_host_)
    for (size_t i = record; i < out_.records.size(); ++i) out_.records[i].flags_saved = true;
  out_.guest_bytes = in.next_eip() - request_.eip;
  if (esp_pending_ > 0x4000 || esp_pending_ < -0x4000) flush_esp();
}

// --- stack pointer -------------------------------------------------------------------------------

void BlockEmitter::flush_esp() {
  if (esp_pending_ == 0) return;
  const uint32_t before = offset();
  a.lea(host::kStack.r32(), x86::ptr(host::kStack, esp_pending_));
  esp_pending_ = 0;
  if (out_.records.empty()) return;
  // What the instruction emitted before this may still fault with the change pending.
  Record record = out_.records.back();
  if (record.host == before) out_.records.pop_back();
  record.host = static_cast<uint16_t>(offset());
  record.esp_pending = 0;
  out_.records.push_back(record);
}

// --- calls into C++ ------------------------------------------------------------------------------

BlockEmitter::Cold& BlockEmitter::add_cold(Cold::Kind kind) {
  Cold& cold = cold_.emplace_back();
  cold.kind = kind;
  cold.entry = a.new_label();
  cold.resume = a.new_label();
  cold.record = {0, static_cast<int16_t>(out_.guest_bytes), static_cast<int16_t>(esp_pending_),
                 static_cast<uint8_t>(index_), !flags_in_host_};
  if (recompute_) cold.comparison = comparison_;
  return cold;
}

void BlockEmitter::gate(Gate which, uint32_t info) {
  a.mov(host::kDelta.r32(), info);
  a.call(imm(thunks_.gate[static_cast<int>(which)]));
}

void BlockEmitter::call_thunk(uint32_t Thunks::*which) {
  a.call(imm(thunks_.*which));
}

void BlockEmitter::set_eip(uint32_t eip) {
  a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.eip), 4), imm(static_cast<int32_t>(eip)));
  a.refer(Reference::To::kLinear);
}

void BlockEmitter::system(SystemOp op, uint32_t payload, const Instruction& in) {
  flush_esp();
  save_flags_for_exit();
  set_eip(in.eip);
  a.mov(host::kDelta.r32(), payload | unretired() << 16);
  a.jmp(imm(thunks_.system[static_cast<int>(op)]));
  end_block();
}

CodeLabel BlockEmitter::system_elsewhere(SystemOp op, uint32_t payload) {
  TRAPLINE_ASSERT(!recompute_);
  Cold& cold = add_cold(Cold::Kind::kSystem);
  cold.op = op;
  cold.info = payload;
  return cold.entry;
}

CodeLabel BlockEmitter::class_elsewhere(SystemOp op, uint32_t payload, const Instruction& in,
                                        uint8_t popped) {
  const CodeLabel entry = system_elsewhere(op, payload);
  const bool possible = request_.variant == Variant::kNormal && looks_up_in_code() &&
                        !request_.mode.has(mode::kCounted) && !ends_shadow() &&
                        in.next_eip() <= request_.mode.cs_limit;
  if (!possible) return entry;
  Cold& cold = cold_.back();
  cold.changes_class = true;
  cold.popped = popped;
  cold.whole_esp = esp_is_whole();
  cold.target = in.next_eip();
  return entry;
}

void BlockEmitter::emit_change_of_class(const Cold& cold) {
  const uint32_t segment = cold.info & 7;
  const CodeLabel unknown = a.new_label();
  const uint32_t slot = known_class_slot(request_.mode.word, segment);
  a.mov(host::kValue.r32(), slot * static_cast<uint32_t>(sizeof(KnownClass)));
  call_thunk(&Thunks::load_segment_and_class);
  a.jnz(unknown);
  if (cold.popped) {
    a.lea(host::kValue.r32(), x86::ptr(host::kStack, cold.popped));
    if (cold.whole_esp)
      a.mov(host::kStack.r32(), host::kValue.r32());
    else
      a.mov(host::kStack.r16(), host::kValue.r16());
  }
  flags_in_host_ = false;
  jump_through_table(cold.target + request_.mode.cs_base);
  a.bind(unknown);
}

/// Behind everything that may fault, and in front of the branch where there is one.
void BlockEmitter::end_shadow() {
  if (index_ != shadow_ends_after_) return;
  a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.shadow), 1),
        imm(static_cast<int>(InterruptShadow::kNone)));
}

void BlockEmitter::raise(Vector vector, bool has_error, uint32_t error, const Instruction& in) {
  a.mov(host::kAddress.r32(), error);
  system(SystemOp::kRaise, static_cast<uint32_t>(vector) | (has_error ? 0x100u : 0u), in);
}

// --- branches ------------------------------------------------------------------------------------

bool BlockEmitter::target_in_limit(uint32_t eip, const Instruction& in) {
  if (eip <= request_.mode.cs_limit) return true;
  raise(Vector::kGeneralProtection, true, 0, in);
  return false;
}

/// Jumps through the execution table to the linear address in the address register. Touches no
/// flags, so whichever place they are in they stay there.
void BlockEmitter::jump_by_entry(const x86::Gp& slot) {
  const int32_t entry = flags_in_host_ ? static_cast<int32_t>(offsetof(EntryPair, host))
                                       : static_cast<int32_t>(offsetof(EntryPair, saved));
  a.mov(slot.r32(), x86::Mem(slot, host::kAddress, 3, entry, 4));
  a.jmp(slot);
}

bool BlockEmitter::looks_up_in_code() const {
  return switches_.inline_indirect && request_.variant != Variant::kSingle;
}

void BlockEmitter::jump_to_lookup() {
  a.jmp(imm(flags_in_host_ ? thunks_.miss_host : thunks_.miss_saved));
}

void BlockEmitter::jump_through_table(uint32_t linear) {
  a.mov(host::kAddress.r32(), imm(static_cast<int32_t>(linear)));
  a.refer(Reference::To::kLinear);
  if (!looks_up_in_code()) {
    jump_to_lookup();
    return;
  }
  a.mov(host::kDelta, host::context(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8));
  const auto slot = static_cast<int32_t>((linear >> kPageShift) * 8);
  a.mov(host::kDelta, x86::Mem(host::kDelta, slot, 8));
  if (slot == static_cast<int8_t>(slot))
    stays_here();  // The displacement has no four bytes.
  else
    a.refer(Reference::To::kSlot);
  jump_by_entry(host::kDelta);
}

bool BlockEmitter::linkable(uint32_t eip) const {
  const uint32_t linear = eip + request_.mode.cs_base;
  return switches_.link_blocks && !careful_ && request_.variant != Variant::kSingle &&
         linear >> kPageShift == request_.linear >> kPageShift;
}

std::span<const uint8_t> BlockEmitter::bytes_of(const Instruction& in) const {
  return request_.page.subspan((request_.linear & kPageMask) + (in.eip - request_.eip), in.length);
}

void BlockEmitter::jump_to(uint32_t eip) {
  flush_esp();
  end_shadow();
  settle_flags();
  if (closes_page_loop() && eip == request_.eip && !ended_) {
    enter_page_loop(std::nullopt);
    end_block();
    return;
  }
  const uint32_t linear = eip + request_.mode.cs_base;
  if (!linkable(eip)) {
    jump_through_table(linear);
    end_block();
    return;
  }
  branch_to_stub(std::nullopt, eip);
  end_block();
}

/// Emits the branch that a link patches, and leaves the stub that asks for the link to cold code.
void BlockEmitter::branch_to_stub(std::optional<x86::CondCode> condition, uint32_t eip) {
  Cold& cold = add_cold(Cold::Kind::kJumpStub);
  if (condition)
    a.j(*condition, cold.entry);
  else
    a.jmp(cold.entry);
  cold.jump_offset = offset() - 4;
  cold.target = eip;
  cold.flags_saved = !flags_in_host_;
}

void BlockEmitter::branch_to(x86::CondCode condition, uint32_t eip) {
  TRAPLINE_ASSERT(!recompute_);
  TRAPLINE_ASSERT(esp_pending_ == 0);
  end_shadow();
  if (closes_page_loop()) {
    enter_page_loop(condition);
    return;
  }
  branch_to_stub(condition, eip);
}

void BlockEmitter::branch_always(uint32_t eip) {
  TRAPLINE_ASSERT(!recompute_);
  TRAPLINE_ASSERT(esp_pending_ == 0);
  end_shadow();
  branch_to_stub(std::nullopt, eip);
}

void BlockEmitter::check_indirect_limit(const Instruction& in) {
  const uint32_t largest = in.operand_size == 2 ? 0xffff : ~0u;
  if (request_.mode.cs_limit >= largest) return;
  clobber_flags();
  Cold& cold = add_cold(Cold::Kind::kRaise);
  cold.fault = Fault::general_protection();
  a.cmp(host::kAddress.r32(), imm(static_cast<int32_t>(request_.mode.cs_limit)));
  a.ja(cold.entry);
}

void BlockEmitter::jump_indirect() {
  flush_esp();
  end_shadow();
  settle_flags();
  if (request_.mode.cs_base)
    a.lea(host::kAddress.r32(),
          x86::ptr(host::kAddress, static_cast<int32_t>(request_.mode.cs_base)));
  end_block();
  if (!looks_up_in_code()) {
    jump_to_lookup();
    return;
  }
  const x86::Gp slot = host::kDelta;
  const x86::Gp table = host::kValue;
  if (switches_.shrx) {
    a.shrx(slot, host::kAddress, host::kTables);
  } else {
    save_flags_for_exit();
    a.mov(slot.r32(), host::kAddress.r32());
    a.shr(slot.r32(), kPageShift);
  }
  a.mov(table, host::context(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8));
  a.mov(slot, x86::Mem(table, slot, 3, 0, 8));
  jump_by_entry(slot);
}

// --- FPU -----------------------------------------------------------------------------------------

bool BlockEmitter::prepare_fpu(const Instruction& in) {
  const ModeKey& m = request_.mode;
  const auto fault = [&](Vector vector) {
    raise(vector, false, 0, in);
    return false;
  };
  switch (fpu_use(in)) {
    case FpuUse::kX87:
      if (m.has(mode::kX87Traps)) return fault(Vector::kDeviceNotAvailable);
      break;
    case FpuUse::kMmx:
      if (m.has(mode::kEmulated)) return fault(Vector::kInvalidOpcode);
      if (m.has(mode::kTaskSwitched)) return fault(Vector::kDeviceNotAvailable);
      break;
    case FpuUse::kSse:
      if (m.has(mode::kEmulated) || m.has(mode::kSseOff)) return fault(Vector::kInvalidOpcode);
      if (m.has(mode::kTaskSwitched)) return fault(Vector::kDeviceNotAvailable);
      break;
    case FpuUse::kWait:
      if (m.has(mode::kWaitTraps)) return fault(Vector::kDeviceNotAvailable);
      break;
    case FpuUse::kNone:
      return true;
  }
  if (fpu_checked_) return true;
  fpu_checked_ = true;
  clobber_flags();
  Cold& cold = add_cold(Cold::Kind::kGate);
  cold.gate = Gate::kFpuLoad;
  a.cmp(host::context(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 0);
  a.je(cold.entry);
  a.bind(cold.resume);
  return true;
}

// --- cold code -----------------------------------------------------------------------------------

void BlockEmitter::emit_cold() {
  for (size_t i = 0; i < cold_.size(); ++i) {
    Cold& cold = cold_[i];
    cold.record.host = static_cast<uint16_t>(offset());
    out_.records.push_back(cold.record);
    if (!cold.misaligned.valid()) a.bind(cold.entry);
    switch (cold.kind) {
      case Cold::Kind::kGate:
        if (cold.misaligned.valid()) emit_misaligned(cold);
        emit_comparison_flags(cold);
        if (cold.address_register != Operand::kNoRegister) {
          if (cold.offset)
            a.lea(host::kAddress.r32(),
                  x86::ptr(host::guest64(cold.address_register), cold.offset));
          else
            a.mov(host::kAddress.r32(), host::guest(cold.address_register));
        }
        gate(cold.gate, cold.info);
        if (cold.to_value) a.mov(host::kValue, host::kDelta);
        a.jmp(cold.resume);
        break;
      case Cold::Kind::kWindow:
        emit_comparison_flags(cold);
        a.lea(host::kAddress.r32(), x86::ptr(host::guest64(cold.address_register), cold.offset));
        gate(cold.gate, cold.info);
        a.jmp(cold.resume);
        break;
      case Cold::Kind::kJumpStub: {
        const uint32_t linear = cold.target + request_.mode.cs_base;
        flags_in_host_ = !cold.flags_saved;
        if (!linkable(cold.target)) {
          jump_through_table(linear);
          break;
        }
        if (flags_in_host_) emit_save_flags();
        const auto number = request_.first_exit + static_cast<uint32_t>(out_.exits.size());
        out_.exits.push_back({cold.target, cold.jump_offset, cold.record.host, cold.flags_saved});
        a.mov(host::kDelta.r32(), number);
        a.refer(Reference::To::kExit);
        a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kLink)]));
        break;
      }
      case Cold::Kind::kSystem:
        esp_pending_ = cold.record.esp_pending;
        flush_esp();
        if (cold.changes_class) emit_change_of_class(cold);
        set_eip(request_.eip + static_cast<uint32_t>(cold.record.guest));
        a.mov(host::kDelta.r32(), cold.info | (block_size() - cold.record.index) << 16);
        a.jmp(imm(thunks_.system[static_cast<int>(cold.op)]));
        break;
      case Cold::Kind::kNoSharing:
        emit_no_sharing(cold);
        break;
      case Cold::Kind::kRaise: {
        emit_comparison_flags(cold);
        esp_pending_ = cold.record.esp_pending;
        flush_esp();
        set_eip(request_.eip + static_cast<uint32_t>(cold.record.guest));
        a.mov(host::kAddress.r32(), cold.fault.error_code);
        a.mov(host::kDelta.r32(), static_cast<uint32_t>(cold.fault.vector) |
                                      (cold.fault.has_error_code ? 0x100u : 0u) |
                                      (block_size() - cold.record.index) << 16);
        a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kRaise)]));
        break;
      }
    }
  }
}

}  // namespace trapline
