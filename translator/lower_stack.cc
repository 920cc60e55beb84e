// PUSH, POP, ENTER and LEAVE. The store comes first, then ESP: a fault leaves ESP as it was.
#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

void change_esp(BlockEmitter& e, int32_t bytes) {
  if (e.esp_is_whole()) {
    e.adjust_esp(bytes);
    return;
  }
  e.flush_esp();
  e.a.lea(host::kDelta.r32(), x86::ptr(host::kStack, bytes));
  e.a.mov(host::kStack.r16(), host::kDelta.r16());
}

namespace {

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

namespace {
/// PUSHA and POPA as one access. Stacks that wrap meanwhile are for C++, and so is what goes there
/// access by access.
bool as_one_access(BlockEmitter& e, const Instruction& in, bool pushes) {
  const SystemOp op = pushes ? SystemOp::kPushAll : SystemOp::kPopAll;
  const uint32_t payload = in.operand_size | length_payload(in);
  if (e.careful() || !e.switches().inline_system) {
    e.system(op, payload, in);
    return false;
  }
  e.flush_esp();
  if (e.esp_is_whole()) return true;
  const uint32_t bytes = 8u * in.operand_size;
  e.clobber_flags();
  e.a.movzx(host::kAddress.r32(), host::kStack.r16());
  e.a.cmp(host::kAddress.r32(), static_cast<int32_t>(pushes ? bytes : 0x10000 - bytes));
  const CodeLabel elsewhere = e.system_elsewhere(op, payload);
  if (pushes)
    e.a.jb(elsewhere);
  else
    e.a.ja(elsewhere);
  return true;
}

x86::Mem part_of(x86::Mem whole, int32_t offset, uint8_t size) {
  whole.addOffset(offset);
  whole.setSize(size);
  return whole;
}
}  // namespace

void lower_push_all(BlockEmitter& e, const Instruction& in) {
  if (!as_one_access(e, in, true)) return;
  const uint8_t size = in.operand_size;
  const x86::Mem all = e.open_stack(-8 * size, 8u * size, AccessKind::kWrite);
  for (uint8_t number = 0; number < 8; ++number)
    e.a.mov(part_of(all, (7 - number) * size, size), host::sized(host::guest64(number), size));
  change_esp(e, -8 * size);
}

void lower_pop_all(BlockEmitter& e, const Instruction& in) {
  if (!as_one_access(e, in, false)) return;
  const uint8_t size = in.operand_size;
  const x86::Mem all = e.open_stack(0, 8u * size, AccessKind::kRead);
  for (uint8_t number = 0; number < 8; ++number)
    if (number != kEsp)
      e.a.mov(host::sized(host::guest64(number), size), part_of(all, (7 - number) * size, size));
  change_esp(e, 8 * size);
}

void lower_leave(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  Operand frame;
  frame.kind = Operand::Kind::kMemory;
  frame.segment = kSs;
  frame.base = kEbp;
  Instruction plain = in;
  plain.address_size = e.stack32() ? 4 : 2;
  const x86::Mem slot = e.open(frame, plain, size, AccessKind::kRead);
  e.flush_esp();
  if (!e.stack32()) {
    e.a.mov(value_of(size), slot);
    e.a.lea(host::kDelta.r32(), x86::ptr(x86::rbp, size));
    e.a.mov(host::kStack.r16(), host::kDelta.r16());
    e.a.mov(host::sized(x86::rbp, size), value_of(size));
    return;
  }
  e.a.mov(value_of(size), slot);
  e.a.lea(host::kStack.r32(), x86::ptr(x86::rbp, size));
  e.a.mov(host::sized(x86::rbp, size), value_of(size));
}

/// With outer frames to copy, an access that has to be made carefully would find what was pushed
/// before it: C++ does those.
void lower_enter(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand_size;
  const auto bytes = static_cast<int32_t>(in.operand[0].value & 0xffff);
  const auto level = static_cast<uint32_t>(in.operand[1].value & 31);
  e.flush_esp();
  if (e.careful() || !e.switches().inline_system || level > 1) {
    e.a.mov(host::kAddress.r32(), bytes);
    e.system(SystemOp::kEnter, size | level << 8 | length_payload(in), in);
    return;
  }
  const auto open = [&](int32_t displacement) {
    e.a.lea(host::kAddress.r32(), x86::ptr(host::kStack, displacement));
    if (e.stack32()) return e.open_offset(kSs, size, AccessKind::kWrite);
    e.a.movzx(host::kAddress.r32(), host::kAddress.r16());
    return e.open_offset(kSs, size, AccessKind::kWrite, OffsetSize::k16);
  };
  // Processors borrow from the upper half here, also where SP alone wraps.
  const auto load_frame_pointer = [&] {
    e.a.lea(host::kValue.r32(), x86::ptr(host::kStack, -size));
  };
  const int32_t pushed = level == 0 ? size : 2 * size;
  e.a.mov(open(-size), host::sized(x86::rbp, size));
  if (level == 1) {
    const x86::Mem display = open(-pushed);
    load_frame_pointer();
    e.a.mov(display, value_of(size));
  }
  // The frame's bottom is looked up as if it were written, as processors do.
  open(-pushed - bytes);
  load_frame_pointer();
  e.a.mov(host::sized(x86::rbp, size), value_of(size));
  change_esp(e, -pushed - bytes);
}

}  // namespace trapline
