#include "translator/block_emitter.h"

#include <Zydis/Mnemonic.h>

#include <utility>

#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "translator/register_use.h"
#include "vcpu/assert.h"

namespace trapline {

using namespace asmjit;  // NOLINT: the assembler's vocabulary, in this file only

namespace {
bool needs_alignment(const Instruction& in) {
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
      return false;
    default:
      return true;
  }
}
}  // namespace

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
      careful_(request.variant == Variant::kCareful || request.mode.has(mode::kAlignment) ||
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
  emit_cold();
  out_.code = a.finish();
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
  bool possible = true;
  if (in.row->fpu != FpuUse::kNone) possible = prepare_fpu(in);
  if (possible) in.row->lower(*this, in);
  if (!ended_) end_shadow();
  if (!flags_in_host_)
    for (size_t i = record; i < out_.records.size(); ++i) out_.records[i].flags_saved = true;
  out_.guest_bytes = in.next_eip() - request_.eip;
  if (esp_pending_ > 0x4000 || esp_pending_ < -0x4000) flush_esp();
}

// --- flags ---------------------------------------------------------------------------------------

void BlockEmitter::emit_save_flags() {
  a.mov(host::kFlags.r32(), x86::eax);
  a.lahf();
  if (mutated(Mutation::kSavedFlagsLoseOverflow))
    a.mov(x86::al, 0);
  else
    a.seto(x86::al);
  a.xchg(host::kFlags.r32(), x86::eax);
}

void BlockEmitter::emit_restore_flags() {
  // CMP of 0 or 1 with -127 makes OF what SETO left in AL, and changes no register.
  a.xchg(host::kFlags.r32(), x86::eax);
  a.cmp(x86::al, -127);
  a.sahf();
  a.xchg(host::kFlags.r32(), x86::eax);
}

void BlockEmitter::clobber_flags() {
  if (!flags_in_host_ || !current_->needed) return;
  if (comparison_ >= 0)
    recompute_ = true;
  else
    emit_save_flags();
  flags_in_host_ = false;
  if (!out_.records.empty()) out_.records.back().flags_saved = true;
}

void BlockEmitter::need_flags() {
  if (flags_in_host_) return;
  if (recompute_)
    emit_comparison(comparison_);
  else
    emit_restore_flags();
  flags_in_host_ = true;
  if (std::exchange(recompute_, false)) return;
  // The image is still good, which is what a fault of this instruction needs.
  out_.records.back().flags_saved = true;
}

void BlockEmitter::prepare_flags(const Instruction& in) {
  const uint32_t undefined = switches_.exact_flags ? in.flags_undefined : 0;
  const uint32_t sure = in.flags_conditional ? 0 : in.flags_written & ~undefined;
  const bool reads = in.flags_read != 0;
  const bool keeps = in.flags_written && (current_->live_after & ~sure);
  const bool partial = keeps && !mutated(Mutation::kIncLosesCarry);
  if (reads || partial) need_flags();
}

void BlockEmitter::flags_are_in_host() {
  flags_in_host_ = true;
  recompute_ = false;
  comparison_ = -1;
  const Instruction& in = instructions_[index_];
  const bool compares = in.mnemonic == ZYDIS_MNEMONIC_CMP || in.mnemonic == ZYDIS_MNEMONIC_TEST;
  if (!switches_.recompute_flags || !compares || in.row->lower != lower_generic) return;
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& o = in.operand[i];
    if (o.kind == Operand::Kind::kImmediate) continue;
    if (!is_general(o) || general_register(o).id() == host::kStack.id()) return;
  }
  comparison_ = static_cast<int>(index_);
}

/// Before an instruction: the comparison that gave the flags is of no more use if it changes an
/// operand, or could leave the block in a way that asks for flags without cold code.
void BlockEmitter::note_comparison(const Instruction& in) {
  if (comparison_ < 0) return;
  uint32_t compared = 0;
  for (const Operand& o : instructions_[static_cast<size_t>(comparison_)].operand)
    if (is_general(o)) compared |= 1u << o.number;
  if (mutated(Mutation::kStaleComparison)) compared = 0;
  const bool keeps = in.row->fpu == FpuUse::kNone && !(written_registers(in) & compared);
  if (keeps) return;
  if (recompute_) {
    if (current_->live_before)
      need_flags();
    else
      flags_are_in_host();
  }
  comparison_ = -1;
}

void BlockEmitter::emit_comparison(int index) {
  const Instruction& in = instructions_[static_cast<size_t>(index)];
  const auto operand = [](const Operand& o) -> asmjit::Operand {
    if (o.kind == Operand::Kind::kImmediate) return host_immediate(o);
    return general_register(o);
  };
  a.emit(in.row->host_id, operand(in.operand[0]), operand(in.operand[1]));
}

/// Before leaving the block other than through C++.
void BlockEmitter::settle_flags() {
  if (recompute_) need_flags();
}

void BlockEmitter::save_flags_for_exit() {
  settle_flags();
  if (!flags_in_host_) return;
  emit_save_flags();
  flags_in_host_ = false;
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

// --- addresses -----------------------------------------------------------------------------------

void BlockEmitter::load_offset(const Operand& operand, const Instruction& in, int32_t esp_bias,
                               const x86::Gp& address) {
  int32_t displacement = static_cast<int32_t>(operand.value);
  if (operand.base == kEsp) displacement += esp_pending_ + esp_bias;
  const bool has_base = operand.base != Operand::kNoRegister;
  const bool has_index = operand.index != Operand::kNoRegister;
  const uint32_t shift = operand.scale == 8   ? 3
                         : operand.scale == 4 ? 2
                         : operand.scale == 2 ? 1
                                              : 0;
  if (!has_base && !has_index) {
    a.mov(address.r32(), imm(in.address_size == 2 ? displacement & 0xffff : displacement));
    return;
  }
  const bool plain = has_base && !has_index && displacement == 0;
  if (plain && address.id() == host::guest64(operand.base).id() && in.address_size == 4) return;
  if (plain)
    a.mov(address.r32(), host::guest(operand.base));
  else if (has_base && has_index)
    a.lea(address.r32(),
          x86::ptr(host::guest64(operand.base), host::guest64(operand.index), shift, displacement));
  else if (has_base)
    a.lea(address.r32(), x86::ptr(host::guest64(operand.base), displacement));
  else
    a.lea(address.r32(), x86::ptr(static_cast<uint64_t>(int64_t{displacement}),
                                  host::guest64(operand.index), shift));
  if (in.address_size == 2) a.movzx(address.r32(), address.r16());
}

x86::Mem BlockEmitter::window_operand(uint8_t base, int32_t displacement, uint32_t size) {
  return x86::Mem(host::kWindow, host::guest64(base), 0, displacement, size);
}

void BlockEmitter::ensure_window(const InstructionAnalysis& info) {
  if (guarded_segment_ == info.stack_segment) return;
  guarded_segment_ = info.stack_segment;
  const StackSegment& segment = analysis_.stack[static_cast<size_t>(info.stack_segment)];
  int span_class = 0;
  while (segment.high - segment.low > static_cast<int32_t>(kWindowSpans[span_class])) ++span_class;
  const int32_t low = segment.low - info.esp_offset + esp_pending_;
  clobber_flags();
  Cold& cold = add_cold(Cold::Kind::kWindow);
  cold.gate = Gate::kWindow;
  cold.info = static_cast<uint32_t>(span_class);
  cold.window_offset = low;
  a.bind(cold.resume);
  a.lea(host::kAddress.r32(), x86::ptr(host::kStack, low));
  a.sub(host::kAddress.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(hot.window_base), 4));
  a.cmp(host::kAddress,
        host::context(TRAPLINE_CONTEXT_OFFSET(hot.window_limit) + span_class * 8, 8));
  a.jg(cold.entry);
}

x86::Mem BlockEmitter::open_stack(int32_t displacement, uint32_t size, AccessKind kind) {
  if (current_->stack_segment >= 0 && !careful_) {
    ensure_window(*current_);
    return window_operand(kEsp, displacement + esp_pending_, size);
  }
  if (stack32()) {
    a.lea(host::kAddress.r32(), x86::ptr(host::kStack, displacement + esp_pending_));
  } else {
    a.lea(host::kAddress.r32(), x86::ptr(host::kStack, displacement + esp_pending_));
    a.movzx(host::kAddress.r32(), host::kAddress.r16());
  }
  return open_offset(kSs, size, kind);
}

x86::Mem BlockEmitter::open(const Operand& operand, const Instruction& in, uint32_t size,
                            AccessKind kind, int32_t esp_bias) {
  aligned_ = size == 16 && needs_alignment(in);
  int32_t displacement = 0;
  if (!careful_ && stack_operand(operand, in, *current_, displacement)) {
    const StackSegment& segment = analysis_.stack[static_cast<size_t>(current_->stack_segment)];
    if (segment.used && displacement >= segment.low &&
        displacement + static_cast<int32_t>(size) <= segment.high) {
      ensure_window(*current_);
      aligned_ = false;  // The host checks that by itself, and a signal tells.
      if (operand.base == kEsp)
        return window_operand(kEsp, displacement - current_->esp_offset + esp_pending_, size);
      return window_operand(kEbp, static_cast<int32_t>(operand.value), size);
    }
  }
  if (copy_.emitting && analysis_.loop.stream_at(index_) >= 0) return stream_operand(operand, size);
  const bool plain_register = operand.base != Operand::kNoRegister && operand.base != kEsp &&
                              operand.index == Operand::kNoRegister && operand.value == 0 &&
                              in.address_size == 4;
  if (plain_register && !careful_ &&
      request_.mode.segment_class(operand.segment) == SegmentClass::kFlat)
    return lookup(size, kind, operand.base);
  load_offset(operand, in, esp_bias);
  return open_offset(operand.segment, size, kind);
}

x86::Mem BlockEmitter::open_offset(SegmentName segment, uint32_t size, AccessKind kind) {
  const AccessInfo info{static_cast<uint8_t>(size), kind != AccessKind::kRead, segment,
                        kind != AccessKind::kWrite, std::exchange(aligned_, false)};
  clobber_flags();
  if (careful_) {
    if (kind != AccessKind::kRead) careful_writes_ = true;
    gate(Gate::kOpen, info.pack());
    return x86::Mem(host::kAddress, host::kDelta, 0, 0, size);
  }
  const int32_t field =
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) + static_cast<int32_t>(segment * sizeof(Segment));
  const auto klass = segment == kCs ? SegmentClass::kChecked : request_.mode.segment_class(segment);
  if (klass == SegmentClass::kChecked) {
    const auto limit =
        kind == AccessKind::kRead ? offsetof(Segment, read_end) : offsetof(Segment, write_end);
    Cold& cold = add_cold(Cold::Kind::kGate);
    cold.gate = Gate::kSegment;
    cold.info = info.pack();
    const uint32_t checked = size - (mutated(Mutation::kLimitOffByOne) ? 1 : 0);
    a.lea(host::kDelta, x86::ptr(host::kAddress, static_cast<int32_t>(checked)));
    a.cmp(host::kDelta, host::context(field + static_cast<int32_t>(limit), 8));
    a.ja(cold.entry);
    a.bind(cold.resume);
  }
  if (klass != SegmentClass::kFlat)
    a.add(host::kAddress.r32(),
          host::context(field + static_cast<int32_t>(offsetof(Segment, base)), 4));
  aligned_ = info.aligned;
  return lookup(size, kind, Operand::kNoRegister);
}

void BlockEmitter::load_delta(const x86::Gp& address, int32_t table) {
  const x86::Gp delta = host::kDelta;
  if (switches_.shrx) {
    a.shrx(delta, address, host::kTables);
  } else {
    a.mov(delta.r32(), address.r32());
    a.shr(delta.r32(), kPageShift);
  }
  a.mov(delta, x86::Mem(host::kTables, delta, 3, table, 8));
}

x86::Mem BlockEmitter::lookup(uint32_t size, AccessKind kind, uint8_t address_register) {
  const bool in_guest = address_register != Operand::kNoRegister;
  const x86::Gp address = in_guest ? host::guest64(address_register) : host::kAddress;
  const x86::Gp delta = host::kDelta;
  const AccessInfo info{static_cast<uint8_t>(size), kind != AccessKind::kRead, kDs,
                        kind != AccessKind::kWrite};
  clobber_flags();
  const CodeLabel miss = a.new_label();
  const CodeLabel resume = a.new_label();
  const int32_t table = (kind == AccessKind::kRead ? 0 : static_cast<int32_t>(kLinearPages * 8)) -
                        static_cast<int32_t>(kPageShift);
  if (std::exchange(aligned_, false)) {
    Cold& misaligned = add_cold(Cold::Kind::kRaise);
    misaligned.fault = Fault::general_protection();
    a.test(address.r8(), 15);
    a.jnz(misaligned.entry);
  } else if (size > 8) {
    a.lea(delta.r32(), x86::ptr(address, static_cast<int32_t>(size) - 1));
    a.xor_(delta.r32(), address.r32());
    a.test(delta.r32(), kPageSize);
    a.jnz(miss);
  }
  load_delta(address, table);
  const bool may_misalign = size == 2 || size == 4 || size == 8;
  const CodeLabel misaligned = may_misalign ? a.new_label() : CodeLabel();
  if (may_misalign) {
    a.test(address.r8(), size - 1);
    a.jnz(misaligned);
  }
  a.test(delta, delta);
  a.jz(miss);
  a.bind(resume);
  Cold& cold = add_cold(Cold::Kind::kGate);
  cold.entry = miss;
  cold.resume = resume;
  cold.gate = Gate::kFill;
  cold.info = info.pack();
  cold.address_register = address_register;
  cold.misaligned = misaligned;
  cold.table = table;
  cold.size = static_cast<uint8_t>(size);
  return x86::Mem(address, delta, 0, 0, size);
}

void BlockEmitter::commit() {
  if (!careful_ || !careful_writes_) return;
  careful_writes_ = false;
  save_flags_for_exit();
  gate(Gate::kCommit, 0);
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
  Cold& cold = add_cold(Cold::Kind::kSystem);
  cold.op = op;
  cold.info = payload;
  return cold.entry;
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
  if (!looks_up_in_code()) {
    jump_to_lookup();
    return;
  }
  a.mov(host::kDelta, host::context(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8));
  a.mov(host::kDelta, x86::Mem(host::kDelta, static_cast<int32_t>((linear >> kPageShift) * 8), 8));
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
  Cold& cold = add_cold(Cold::Kind::kJumpStub);
  a.jmp(cold.entry);
  cold.jump_offset = offset() - 4;
  cold.target = eip;
  cold.flags_saved = !flags_in_host_;
  end_block();
}

void BlockEmitter::branch_to(x86::CondCode condition, uint32_t eip) {
  TRAPLINE_ASSERT(!recompute_);
  TRAPLINE_ASSERT(esp_pending_ == 0);
  end_shadow();
  if (closes_page_loop()) {
    enter_page_loop(condition);
    return;
  }
  Cold& cold = add_cold(Cold::Kind::kJumpStub);
  a.j(condition, cold.entry);
  cold.jump_offset = offset() - 4;
  cold.target = eip;
  cold.flags_saved = !flags_in_host_;
}

void BlockEmitter::branch_always(uint32_t eip) {
  TRAPLINE_ASSERT(!recompute_);
  TRAPLINE_ASSERT(esp_pending_ == 0);
  end_shadow();
  Cold& cold = add_cold(Cold::Kind::kJumpStub);
  a.jmp(cold.entry);
  cold.jump_offset = offset() - 4;
  cold.target = eip;
  cold.flags_saved = !flags_in_host_;
}

void BlockEmitter::check_indirect_limit(const Instruction&) {
  if (request_.mode.cs_limit == 0xffffffffu) return;
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
  switch (in.row->fpu) {
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

/// A misaligned access that stays inside its page goes back to the hot code.
void BlockEmitter::emit_misaligned(const Cold& cold) {
  const x86::Gp address = cold.address_register == Operand::kNoRegister
                              ? host::kAddress
                              : host::guest64(cold.address_register);
  const x86::Gp delta = host::kDelta.r32();
  a.bind(cold.misaligned);
  if (!mutated(Mutation::kCrossingUnnoticed)) {
    a.lea(delta, x86::ptr(address, cold.size - 1));
    a.xor_(delta, address.r32());
    a.test(delta, kPageSize);
    a.jnz(cold.entry);
  }
  load_delta(address, cold.table);
  a.test(host::kDelta, host::kDelta);
  a.jnz(cold.resume);
  a.bind(cold.entry);
}

/// C++ wants live flags in the flags register.
void BlockEmitter::emit_comparison_flags(const Cold& cold) {
  if (cold.comparison < 0) return;
  emit_comparison(cold.comparison);
  emit_save_flags();
}

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
        if (cold.address_register != Operand::kNoRegister)
          a.mov(host::kAddress.r32(), host::guest(cold.address_register));
        gate(cold.gate, cold.info);
        a.jmp(cold.resume);
        break;
      case Cold::Kind::kWindow:
        emit_comparison_flags(cold);
        a.lea(host::kAddress.r32(), x86::ptr(host::kStack, cold.window_offset));
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
        a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kLink)]));
        break;
      }
      case Cold::Kind::kSystem:
        esp_pending_ = cold.record.esp_pending;
        flush_esp();
        set_eip(request_.eip + static_cast<uint32_t>(cold.record.guest));
        a.mov(host::kDelta.r32(), cold.info | (block_size() - cold.record.index) << 16);
        a.jmp(imm(thunks_.system[static_cast<int>(cold.op)]));
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
