// String instructions. Repeated ones are loops over elements, with whole runs inside a page left to
// the host's own string instructions. A fault in the middle leaves the registers as the elements
// done so far have made them, and the flags as they were before the instruction.
#include <Zydis/Mnemonic.h>

#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

enum class StringKind : uint8_t { kMove, kStore, kLoad, kCompare, kScan };

struct StringOp {
  StringKind kind = StringKind::kMove;
  uint8_t size = 1;
  SegmentName source = kDs;
  bool down = false;
  bool wide = true;  ///< 32-bit addresses and count.

  bool has_source() const {
    return kind == StringKind::kMove || kind == StringKind::kLoad || kind == StringKind::kCompare;
  }
  bool has_destination() const { return kind != StringKind::kLoad; }
  bool compares() const { return kind == StringKind::kCompare || kind == StringKind::kScan; }
};

StringOp classify(const BlockEmitter& e, const Instruction& in) {
  StringOp op;
  switch (in.opcode & 0xfe) {
    case 0xa4:
      op.kind = StringKind::kMove;
      break;
    case 0xa6:
      op.kind = StringKind::kCompare;
      break;
    case 0xaa:
      op.kind = StringKind::kStore;
      break;
    case 0xac:
      op.kind = StringKind::kLoad;
      break;
    default:
      op.kind = StringKind::kScan;
      break;
  }
  op.size = in.opcode & 1 ? in.operand_size : uint8_t{1};
  op.down = e.mode().has(mode::kDown) && !e.mutated(Mutation::kDirectionIgnored);
  op.wide = in.address_size == 4;
  op.source = in.data_segment;
  return op;
}

void load_pointer(BlockEmitter& e, const StringOp& op, const x86::Gp& pointer) {
  if (op.wide)
    e.a.mov(host::kAddress.r32(), pointer.r32());
  else
    e.a.movzx(host::kAddress.r32(), pointer.r16());
}

/// Adds to a pointer or count without touching flags.
void advance(BlockEmitter& e, const StringOp& op, const x86::Gp& reg, int32_t bytes) {
  if (op.wide) {
    e.a.lea(reg.r32(), x86::ptr(reg, bytes));
  } else {
    e.a.lea(host::kDelta.r32(), x86::ptr(reg, bytes));
    e.a.mov(reg.r16(), host::kDelta.r16());
  }
}

/// One element's access and arithmetic; leaves flags of comparisons in the host's.
void element(BlockEmitter& e, const StringOp& op) {
  const auto open = [&](const x86::Gp& pointer, SegmentName segment, AccessKind kind) {
    load_pointer(e, op, pointer);
    return e.open_offset(segment, op.size, kind, op.wide ? OffsetSize::k32 : OffsetSize::k16);
  };
  switch (op.kind) {
    case StringKind::kMove:
      e.a.mov(value_of(op.size), open(x86::rsi, op.source, AccessKind::kRead));
      e.a.mov(open(x86::rdi, kEs, AccessKind::kWrite), value_of(op.size));
      break;
    case StringKind::kStore:
      e.a.mov(open(x86::rdi, kEs, AccessKind::kWrite), host::sized(x86::rax, op.size));
      break;
    case StringKind::kLoad:
      e.a.mov(host::sized(x86::rax, op.size), open(x86::rsi, op.source, AccessKind::kRead));
      break;
    case StringKind::kCompare:
      e.a.mov(value_of(op.size), open(x86::rsi, op.source, AccessKind::kRead));
      e.a.cmp(value_of(op.size), open(x86::rdi, kEs, AccessKind::kRead));
      break;
    case StringKind::kScan:
      e.a.cmp(host::sized(x86::rax, op.size), open(x86::rdi, kEs, AccessKind::kRead));
      break;
  }
}

void advance_pointers(BlockEmitter& e, const StringOp& op) {
  const int32_t step = op.down ? -op.size : op.size;
  if (op.has_source()) advance(e, op, x86::rsi, step);
  if (op.has_destination()) advance(e, op, x86::rdi, step);
}

/// Moves or stores as many whole elements as lie in the current pages, with the host's REP. Falls
/// through to the element when that is none, and goes to `next` when it is through.
void emit_run(BlockEmitter& e, const StringOp& op, const CodeLabel& by_element,
              const CodeLabel& next) {
  auto& a = e.a;
  const bool moves = op.kind == StringKind::kMove;
  const uint32_t shift = op.size == 4 ? 2 : op.size == 2 ? 1 : 0;
  a.cmp(x86::ecx, 8);  // Short ones are faster element by element.
  a.jb(by_element);
  // Bytes left in each page, the smaller of both, in elements, at most ECX.
  const x86::Gp room = host::kAddress.r32();
  const x86::Gp other = host::kDelta.r32();
  a.mov(room, x86::edi);
  a.not_(room);
  a.and_(room, kPageMask);
  if (moves) {
    a.mov(other, x86::esi);
    a.not_(other);
    a.and_(other, kPageMask);
    a.cmp(other, room);
    a.cmovb(room, other);
  }
  a.inc(room);
  if (shift) a.shr(room, shift);
  if (e.mutated(Mutation::kRunTooLong)) a.inc(room);
  a.cmp(room, x86::ecx);
  a.cmova(room, x86::ecx);
  a.cmp(room, 2);
  a.jb(by_element);
  a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4), room);
  if (moves) {
    a.mov(host::kAddress.r32(), x86::esi);
    const x86::Mem source = e.open_offset(kDs, 1, AccessKind::kRead);
    a.lea(host::kValue, source);
  }
  a.mov(host::kAddress.r32(), x86::edi);
  const x86::Mem target = e.open_offset(kEs, 1, AccessKind::kWrite);
  a.lea(host::kAddress, target);
  a.mov(host::kDelta.r32(), x86::ecx);
  a.mov(x86::ecx, host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4));
  a.sub(host::kDelta.r32(), x86::ecx);
  // Host pointers in, guest pointers out: what was added comes off again.
  a.sub(host::kAddress, x86::rdi);
  a.add(x86::rdi, host::kAddress);
  if (moves) {
    a.sub(host::kValue, x86::rsi);
    a.add(x86::rsi, host::kValue);
  }
  a.rep();
  if (moves) {
    if (op.size == 4)
      a.movs(x86::dword_ptr(x86::rdi), x86::dword_ptr(x86::rsi));
    else if (op.size == 2)
      a.movs(x86::word_ptr(x86::rdi), x86::word_ptr(x86::rsi));
    else
      a.movs(x86::byte_ptr(x86::rdi), x86::byte_ptr(x86::rsi));
  } else {
    if (op.size == 4)
      a.stos(x86::dword_ptr(x86::rdi), x86::eax);
    else if (op.size == 2)
      a.stos(x86::word_ptr(x86::rdi), x86::ax);
    else
      a.stos(x86::byte_ptr(x86::rdi), x86::al);
  }
  a.sub(x86::rdi, host::kAddress);
  a.mov(x86::edi, x86::edi);
  if (moves) {
    a.sub(x86::rsi, host::kValue);
    a.mov(x86::esi, x86::esi);
  }
  a.mov(x86::ecx, host::kDelta.r32());
  a.jmp(next);
}

void test_count(BlockEmitter& e, const StringOp& op) {
  if (op.wide)
    e.a.test(x86::ecx, x86::ecx);
  else
    e.a.test(x86::cx, x86::cx);
}

void emit_safepoint(BlockEmitter& e, const Instruction& in, const StringOp& op,
                    const CodeLabel& again, const CodeLabel& done) {
  if (!e.careful()) {  // Careful code does one element; what follows may not need the care.
    e.a.cmp(host::context(TRAPLINE_CONTEXT_OFFSET(hot.attention), 1), 0);
    e.a.je(again);
  }
  test_count(e, op);
  e.a.jz(done);
  e.system(SystemOp::kSafepoint, 0, in);
}

/// MOVS, STOS and LODS with REP.
void repeat_plain(BlockEmitter& e, const Instruction& in, const StringOp& op) {
  CodeLabel again = e.a.new_label();
  CodeLabel by_element = e.a.new_label();
  CodeLabel next = e.a.new_label();
  CodeLabel done = e.a.new_label();
  e.a.bind(again);
  test_count(e, op);
  e.a.jz(done);
  // A single step is one element.
  const bool runs = op.kind != StringKind::kLoad && op.wide && !op.down && !e.careful() &&
                    !e.mode().has(mode::kTrap) && op.source == kDs &&
                    e.mode().segment_class(kEs) == SegmentClass::kFlat &&
                    e.mode().segment_class(kDs) == SegmentClass::kFlat;
  if (runs) emit_run(e, op, by_element, next);
  e.a.bind(by_element);
  element(e, op);
  e.commit();
  advance_pointers(e, op);
  advance(e, op, x86::rcx, -1);
  e.a.bind(next);
  emit_safepoint(e, in, op, again, done);
  e.a.bind(done);
}

/// CMPS and SCAS with REPE or REPNE. The flags of the last comparison wait in scratch until the
/// instruction is through.
void repeat_compare(BlockEmitter& e, const Instruction& in, const StringOp& op) {
  CodeLabel again = e.a.new_label();
  CodeLabel done = e.a.new_label();
  const x86::Mem result = host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 4);
  e.a.mov(result, host::kFlags.r32());
  e.a.bind(again);
  test_count(e, op);
  e.a.jz(done);
  element(e, op);
  e.a.mov(host::kDelta.r32(), x86::eax);
  e.a.lahf();
  e.a.seto(x86::al);
  e.a.mov(result, x86::eax);
  e.a.mov(x86::eax, host::kDelta.r32());
  advance_pointers(e, op);
  advance(e, op, x86::rcx, -1);
  // Another iteration could still fault, and then shows the flags from before all of them.
  if (in.repne)
    e.a.je(done);
  else
    e.a.jne(done);
  if (!e.careful()) {
    e.a.cmp(host::context(TRAPLINE_CONTEXT_OFFSET(hot.attention), 1), 0);
    e.a.je(again);
  }
  test_count(e, op);
  e.a.jz(done);
  e.a.mov(host::kAddress.r32(), host::kFlags.r32());
  e.a.mov(host::kFlags.r32(), result);
  e.system(SystemOp::kSafepoint, 1, in);
  e.a.bind(done);
  e.a.mov(host::kFlags.r32(), result);
  e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.compare_unfinished), 1), 0);
}

}  // namespace

void lower_string(BlockEmitter& e, const Instruction& in) {
  const StringOp op = classify(e, in);
  e.flush_esp();
  if (!in.rep && !in.repne) {
    element(e, op);
    if (op.compares()) e.flags_are_in_host();
    advance_pointers(e, op);
    e.commit();
    return;
  }
  e.save_flags_for_exit();
  if (op.compares())
    repeat_compare(e, in, op);
  else
    repeat_plain(e, in, op);
  e.set_flags_saved();
  e.continue_block();
}

}  // namespace trapline
