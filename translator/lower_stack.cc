// PUSH, POP and LEAVE. The store comes first, then ESP: a fault leaves ESP as it was.
#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

void change_esp(BlockEmitter& e, int32_t bytes) {
  if (e.stack32()) {
    e.adjust_esp(bytes);
    return;
  }
  e.flush_esp();
  e.a.lea(host::kDelta.r32(), x86::ptr(host::kStack, bytes));
  e.a.mov(host::kStack.r16(), host::kDelta.r16());
}

namespace {

x86::Gp value_of(uint8_t size) {
  return host::sized(host::kValue, size);
}

void push_segment(BlockEmitter& e, const Instruction& in) {
  const int32_t field =
      TRAPLINE_CONTEXT_OFFSET(cpu.segment) +
      static_cast<int32_t>(in.operand[0].number * sizeof(Segment) + offsetof(Segment, selector));
  // With a 32-bit operand size, processors write the selector only and leave the slot's upper half.
  const x86::Mem slot = e.open_stack(-in.operand_size, 2, AccessKind::kWrite);
  e.a.movzx(host::kValue.r32(), host::context(field, 2));
  e.a.mov(slot, host::kValue.r16());
  change_esp(e, -in.operand_size);
  e.commit();
}

}  // namespace

void lower_push(BlockEmitter& e, const Instruction& in) {
  const Operand& from = in.operand[0];
  const uint8_t size = in.operand_size;
  if (e.mutated(Mutation::kPushMovesFirst) && from.kind == Operand::Kind::kImmediate) {
    change_esp(e, -size);
    e.flush_esp();
    e.a.mov(e.open_stack(0, size, AccessKind::kWrite), host_immediate(from));
    e.commit();
    return;
  }
  if (from.kind == Operand::Kind::kRegister && from.register_kind == RegisterKind::kSegment) {
    push_segment(e, in);
    return;
  }
  if (from.kind == Operand::Kind::kMemory) {
    e.a.mov(value_of(size), e.open(from, in, size, AccessKind::kRead));
    e.a.mov(e.open_stack(-size, size, AccessKind::kWrite), value_of(size));
  } else if (from.kind == Operand::Kind::kImmediate) {
    const x86::Mem slot = e.open_stack(-size, size, AccessKind::kWrite);
    const auto value = size == 2 ? int64_t{static_cast<int16_t>(from.value)}
                                 : int64_t{static_cast<int32_t>(from.value)};
    e.a.mov(slot, asmjit::imm(value));
  } else if (from.number == kEsp) {
    e.a.lea(host::kValue.r32(), x86::ptr(host::kStack, e.esp_pending()));
    e.a.mov(e.open_stack(-size, size, AccessKind::kWrite), value_of(size));
  } else {
    e.a.mov(e.open_stack(-size, size, AccessKind::kWrite), general_register(from));
  }
  change_esp(e, -size);
  e.commit();
}

void lower_pop(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const uint8_t size = in.operand_size;
  if (to.kind == Operand::Kind::kRegister && to.register_kind == RegisterKind::kSegment) {
    lower_segment_pop(e, in);
    return;
  }
  const x86::Mem slot = e.open_stack(0, size, AccessKind::kRead);
  if (to.kind == Operand::Kind::kMemory) {
    e.a.mov(value_of(size), slot);
    e.a.mov(e.open(to, in, size, AccessKind::kWrite, size), value_of(size));
    change_esp(e, size);
    e.commit();
    return;
  }
  if (to.number == kEsp) {
    e.a.mov(value_of(size), slot);
    change_esp(e, size);
    e.flush_esp();
    e.a.mov(general_register(to), value_of(size));
    return;
  }
  e.a.mov(general_register(to), slot);
  change_esp(e, size);
}

void lower_leave(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  if (!e.stack32()) {
    lower_interpreted(e, in);
    return;
  }
  Operand frame;
  frame.kind = Operand::Kind::kMemory;
  frame.segment = kSs;
  frame.base = kEbp;
  Instruction plain = in;
  plain.address_size = 4;
  const x86::Mem slot = e.open(frame, plain, size, AccessKind::kRead);
  e.flush_esp();
  e.a.mov(value_of(size), slot);
  e.a.lea(host::kStack.r32(), x86::ptr(x86::rbp, size));
  e.a.mov(host::sized(x86::rbp, size), value_of(size));
}

}  // namespace trapline
