// How a block reaches memory: through the stack window, through a look-up in the view's tables, or
// access by access through C++.
#include <Zydis/Mnemonic.h>

#include <utility>

#include "translator/block_emitter.h"

namespace trapline {

namespace x86 = asmjit::x86;
using asmjit::imm;

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

/// Sizes that phrases tell apart: those that may be misaligned, and all others.
constexpr size_t size_index(uint32_t size) {
  return size == 2 ? 1 : size == 4 ? 2 : size == 8 ? 3 : 0;
}

/// Tells C++ what a MOV to memory stores, if that is a register or zero.
void describe_store(const Instruction& in, AccessInfo& info) {
  if (in.mnemonic != ZYDIS_MNEMONIC_MOV || in.operand[0].kind != Operand::Kind::kMemory) return;
  const Operand& from = in.operand[1];
  if (from.kind == Operand::Kind::kImmediate) {
    if (from.value != 0) return;
    info.stored = AccessInfo::Stored::kZero;
  } else if (from.register_kind == RegisterKind::kGpr8High) {
    info.stored = AccessInfo::Stored::kHighByte;
  } else if (from.register_kind == RegisterKind::kGpr8Low ||
             from.register_kind == RegisterKind::kGpr16 ||
             from.register_kind == RegisterKind::kGpr32) {
    if (from.number == kEsp) return;
    info.stored = AccessInfo::Stored::kRegister;
  } else {
    return;
  }
  info.source = from.number;
  info.instruction_length = in.length;
}
}  // namespace

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
  if (plain && in.address_size == 2) {
    a.movzx(address.r32(), host::guest(operand.base).r16());
    return;
  }
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
  guarded_frame_ = -1;  // The window may move.
  const StackSegment& segment = analysis_.stack[static_cast<size_t>(info.stack_segment)];
  guard_window(Gate::kWindow, kEsp, segment.low - info.esp_offset + esp_pending_,
               segment.high - segment.low, false);
}

void BlockEmitter::ensure_frame(const InstructionAnalysis& info) {
  if (guarded_frame_ == info.frame) return;
  const StackSegment& frame = analysis_.frames[static_cast<size_t>(info.frame)];
  if (info.stack_segment >= 0) {
    // The stack's guard comes first where it would come in between, and have this one made again.
    const StackSegment& stack = analysis_.stack[static_cast<size_t>(info.stack_segment)];
    if (stack.used && stack.first <= frame.last) ensure_window(info);
  }
  guarded_frame_ = info.frame;
  guard_window(Gate::kFrame, kEbp, frame.low, frame.high - frame.low, guarded_segment_ >= 0);
}

void BlockEmitter::guard_window(Gate gate, uint8_t base, int32_t low, int32_t span, bool in_use) {
  uint32_t span_class = 0;
  while (span > static_cast<int32_t>(kWindowSpans[span_class])) ++span_class;
  clobber_flags();
  Cold& cold = add_cold(Cold::Kind::kWindow);
  cold.gate = gate;
  cold.info = FrameInfo{span_class, in_use}.pack();
  cold.address_register = base;
  cold.offset = low;
  a.bind(cold.resume);
  a.lea(host::kAddress.r32(), x86::ptr(host::guest64(base), low));
  a.sub(host::kAddress.r32(), host::context(TRAPLINE_CONTEXT_OFFSET(hot.window_base), 4));
  a.cmp(host::kAddress,
        host::context(
            TRAPLINE_CONTEXT_OFFSET(hot.window_limit) + static_cast<int32_t>(span_class * 8), 8));
  a.jg(cold.entry);
}

x86::Mem BlockEmitter::open_stack(int32_t displacement, uint32_t size, AccessKind kind) {
  const bool windowed =
      current_->narrow ? narrow_window() : current_->stack_segment >= 0 && !careful_;
  if (windowed) {
    ensure_window(*current_);
    return window_operand(kEsp, displacement + esp_pending_, size);
  }
  if (stack32()) {
    a.lea(host::kAddress.r32(), x86::ptr(host::kStack, displacement + esp_pending_));
  } else {
    a.lea(host::kAddress.r32(), x86::ptr(host::kStack, displacement + esp_pending_));
    a.movzx(host::kAddress.r32(), host::kAddress.r16());
  }
  return open_offset(kSs, size, kind, stack32() ? OffsetSize::k32 : OffsetSize::k16);
}

x86::Mem BlockEmitter::open(const Operand& operand, const Instruction& in, uint32_t size,
                            AccessKind kind, int32_t esp_bias) {
  aligned_ = size == 16 && needs_alignment(in);
  int32_t displacement = 0;
  if (!careful_ && stack_operand(operand, in, *current_, displacement)) {
    const StackSegment& segment = analysis_.stack[static_cast<size_t>(current_->stack_segment)];
    const auto holds = [&segment](int32_t low, int32_t high) {
      return segment.used && low >= segment.low && high <= segment.high;
    };
    const int32_t esp = current_->esp_offset;
    if (holds(displacement, displacement + static_cast<int32_t>(size)) &&
        (!current_->narrow || holds(esp, esp))) {
      ensure_window(*current_);
      aligned_ = false;  // The host checks that by itself, and a signal tells.
      // Of EBP no more than BP is known on a 16-bit stack.
      if (operand.base == kEsp || current_->narrow)
        return window_operand(kEsp, displacement - esp + esp_pending_, size);
      return window_operand(kEbp, static_cast<int32_t>(operand.value), size);
    }
  }
  if (copy_.emitting && analysis_.loop.stream_at(index_) >= 0) return stream_operand(operand, size);
  if (!careful_ && in_frame(operand, size, in, *current_, analysis_)) {
    ensure_frame(*current_);
    aligned_ = false;
    return window_operand(kEbp, frame_displacement(operand, in), size);
  }
  if (const SharedLookup* shared = sharing(operand, size)) {
    aligned_ = false;
    return open_shared(*shared, operand, in, size, kind);
  }
  const bool plain_register = operand.base != Operand::kNoRegister && operand.base != kEsp &&
                              operand.index == Operand::kNoRegister && operand.value == 0 &&
                              in.address_size == 4;
  if (plain_register && !careful_ &&
      request_.mode.segment_class(operand.segment) == SegmentClass::kFlat)
    return lookup(size, kind, operand.base);
  load_offset(operand, in, esp_bias);
  return open_offset(operand.segment, size, kind,
                     in.address_size == 2 ? OffsetSize::k16 : OffsetSize::k32);
}

x86::Mem BlockEmitter::open_offset(SegmentName segment, uint32_t size, AccessKind kind,
                                   OffsetSize offset_size) {
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
  // An access that crosses the end at 64 KiB is misaligned, as the base is a multiple of 16.
  const bool by_alignment = klass == SegmentClass::k64K && offset_size == OffsetSize::k16 &&
                            (size == 1 || size == 2 || size == 4 || size == 8);
  if (by_alignment && size > 1) end_unchecked_ = static_cast<int8_t>(segment);
  if (klass == SegmentClass::kChecked || (klass == SegmentClass::k64K && !by_alignment)) {
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

void BlockEmitter::load_delta(const x86::Gp& address, bool write, const x86::Gp& delta) {
  const int32_t table =
      (write ? static_cast<int32_t>(kLinearPages * 8) : 0) - static_cast<int32_t>(kPageShift);
  if (switches_.shrx) {
    a.shrx(delta, address, host::kTables);
  } else {
    a.mov(delta.r32(), address.r32());
    a.shr(delta.r32(), kPageShift);
  }
  a.mov(delta, x86::Mem(host::kTables, delta, 3, table, 8));
}

AccessInfo BlockEmitter::describe(uint32_t size, AccessKind kind) const {
  AccessInfo info{static_cast<uint8_t>(size), kind != AccessKind::kRead, kDs,
                  kind != AccessKind::kWrite};
  if (kind == AccessKind::kWrite && switches_.stores_by_call)
    describe_store(instructions_[index_], info);
  return info;
}

x86::Mem BlockEmitter::lookup(uint32_t size, AccessKind kind, uint8_t address_register) {
  const bool in_guest = address_register != Operand::kNoRegister;
  const x86::Gp address = in_guest ? host::guest64(address_register) : host::kAddress;
  const x86::Gp delta = host::kDelta;
  const AccessInfo info = describe(size, kind);
  clobber_flags();
  const CodeLabel miss = a.new_label();
  const CodeLabel resume = a.new_label();
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
  const bool may_misalign = size == 2 || size == 4 || size == 8;
  a.say(phrases_.look_up[address.id()][info.write ? 1 : 0][size_index(size)], [&] {
    load_delta(address, info.write);
    if (may_misalign) a.test(address.r8(), size - 1);
  });
  const CodeLabel misaligned = may_misalign ? a.new_label() : CodeLabel();
  if (may_misalign) a.jnz(misaligned);
  a.say(phrases_.absent, [&] { a.test(delta, delta); });
  a.jz(miss);
  a.bind(resume);
  Cold& cold = add_cold(Cold::Kind::kGate);
  cold.entry = miss;
  cold.resume = resume;
  cold.gate = Gate::kFill;
  cold.info = info.pack();
  cold.address_register = address_register;
  cold.misaligned = misaligned;
  cold.write = info.write;
  cold.size = static_cast<uint8_t>(size);
  cold.segment = std::exchange(end_unchecked_, int8_t{-1});
  return x86::Mem(address, delta, 0, 0, size);
}

void BlockEmitter::commit() {
  if (!careful_ || !careful_writes_) return;
  careful_writes_ = false;
  save_flags_for_exit();
  gate(Gate::kCommit, 0);
}

/// A misaligned access with a 16-bit offset: what emitted code has not looked at yet.
void BlockEmitter::emit_end_check(const Cold& cold) {
  const x86::Mem base = host::context(
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) +
          static_cast<int32_t>(cold.segment * sizeof(Segment) + offsetof(Segment, base)),
      4);
  const CodeLabel inside = a.new_label();
  a.mov(host::kDelta.r32(), host::kAddress.r32());
  a.sub(host::kDelta.r32(), base);
  a.cmp(host::kDelta.r32(), 0x10000 - cold.size);
  a.jbe(inside);
  emit_comparison_flags(cold);
  a.mov(host::kAddress.r32(), host::kDelta.r32());
  AccessInfo info = AccessInfo::unpack(cold.info);
  info.segment = static_cast<SegmentName>(cold.segment);
  gate(Gate::kSegment, info.pack());
  a.add(host::kAddress.r32(), base);
  a.bind(inside);
}

/// A misaligned access that stays inside its page goes back to the hot code.
void BlockEmitter::emit_misaligned(const Cold& cold) {
  const x86::Gp address = cold.address_register == Operand::kNoRegister
                              ? host::kAddress
                              : host::guest64(cold.address_register);
  const x86::Gp delta = host::kDelta.r32();
  a.bind(cold.misaligned);
  if (cold.segment >= 0) emit_end_check(cold);
  if (!mutated(Mutation::kCrossingUnnoticed)) {
    a.say(phrases_.crossing[address.id()][size_index(cold.size)], [&] {
      a.lea(delta, x86::ptr(address, cold.size - 1));
      a.xor_(delta, address.r32());
      a.test(delta, kPageSize);
    });
    a.jnz(cold.entry);
  }
  a.say(phrases_.look_up_again[address.id()][cold.write ? 1 : 0], [&] {
    load_delta(address, cold.write);
    a.test(host::kDelta, host::kDelta);
  });
  a.jnz(cold.resume);
  a.bind(cold.entry);
}

}  // namespace trapline
