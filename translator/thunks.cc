#include "translator/thunks.h"

#include <cstring>

#include "translator/host_registers.h"
#include "vcpu/address.h"
#include "vcpu/assert.h"
#include "vcpu/host_x87.h"

namespace trapline {

using namespace asmjit;  // NOLINT: the assembler's vocabulary, in this file only

namespace {

constexpr uint8_t kRegisters[] = {kEax, kEcx, kEdx, kEbx, kEsp, kEbp, kEsi, kEdi};

/// Which loads emit_load_segment() is about: whatever the class becomes, where it stays, or where
/// the mode that it leads to is known.
enum class LoadedClass : uint8_t { kAny, kSame, kKnown };

class ThunkEmitter {
 public:
  ThunkEmitter(CodeHolder& code, uint32_t address) : a(&code), address_(address) {}

  void emit(const ThunkTargets& targets, Thunks& thunks) {
    thunks.miss_host = here();
    a.mov(host::kFlags.r32(), x86::eax);
    a.lahf();
    a.seto(x86::al);
    a.xchg(host::kFlags.r32(), x86::eax);
    thunks.miss_saved = address_ + static_cast<uint32_t>(a.offset());
    thunks.system[static_cast<int>(SystemOp::kLookup)] = thunks.miss_saved;
    emit_system(targets.system[static_cast<int>(SystemOp::kLookup)]);
    here();
    a.bind(save_fpu_pointers_);
    emit_save_fpu_pointers();
    thunks.enter = here();
    emit_enter();
    thunks.leave = here();
    emit_leave();
    thunks.signal_exit = here();
    emit_signal_exit(targets.signal);
    thunks.load_segment = here();
    emit_load_segment(LoadedClass::kAny);
    thunks.load_segment_of_class = here();
    emit_load_segment(LoadedClass::kSame);
    thunks.load_segment_and_class = here();
    emit_load_segment(LoadedClass::kKnown);
    thunks.enter_code = here();
    emit_enter_code();
    for (int i = 0; i < kSystemOpCount; ++i) {
      if (i == static_cast<int>(SystemOp::kLookup)) continue;
      thunks.system[static_cast<size_t>(i)] = here();
      emit_system(targets.system[static_cast<size_t>(i)]);
    }
    for (int i = 0; i < kGateCount; ++i) {
      thunks.gate[static_cast<size_t>(i)] = here();
      if (i == static_cast<int>(Gate::kFpuLoad))
        emit_fpu_load();
      else
        emit_gate(static_cast<Gate>(i), targets.gate[static_cast<size_t>(i)]);
    }
  }

  x86::Assembler a;

 private:
  uint32_t here() {
    a.align(AlignMode::kCode, 16);
    return address_ + static_cast<uint32_t>(a.offset());
  }

  static x86::Mem field(int32_t offset, uint32_t size) { return host::context(offset, size); }

  void spill() {
    for (uint8_t number : kRegisters) a.mov(field(number * 4, 4), host::guest(number));
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.saved_flags), 4), host::kFlags.r32());
  }

  void reload() {
    a.mov(host::kTables, field(TRAPLINE_CONTEXT_OFFSET(hot.tables), 8));
    a.mov(host::kWindow, field(TRAPLINE_CONTEXT_OFFSET(hot.window_delta), 8));
    a.mov(host::kFlags.r32(), field(TRAPLINE_CONTEXT_OFFSET(hot.saved_flags), 4));
    for (uint8_t number : kRegisters) a.mov(host::guest(number), field(number * 4, 4));
  }

  /// Saves the guest's FPU state if it is loaded, and gives C++ a clean FPU.
  void park_fpu(bool keep_loaded_mark) {
    Label idle = a.newLabel();
    a.cmp(field(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 0);
    a.je(idle);
    a.fxsave(field(TRAPLINE_CONTEXT_OFFSET(cpu.fpu), 512));
    if (!host_saves_x87_pointers()) a.call(save_fpu_pointers_);
    a.fninit();
    a.ldmxcsr(field(TRAPLINE_CONTEXT_OFFSET(hot.host_mxcsr), 4));
    if (!keep_loaded_mark) a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 0);
    a.bind(idle);
  }

  /// FNSTENV masks exceptions, so it comes after FXSAVE. The guest's registers are in the context.
  void emit_save_fpu_pointers() {
    constexpr int32_t kImage = TRAPLINE_CONTEXT_OFFSET(cpu.fpu);
    constexpr int32_t kEnvironment = TRAPLINE_CONTEXT_OFFSET(fpu_environment);
    constexpr int32_t kIp = 12, kOpcode = 18, kDp = 20;
    a.fnstenv(field(kEnvironment, 28));
    a.mov(x86::eax, field(kEnvironment + kIp, 4));
    a.mov(field(kImage + int32_t{offsetof(FpuImage, ip)}, 4), x86::eax);
    a.movzx(x86::eax, field(kEnvironment + kOpcode, 2));
    a.and_(x86::eax, 0x7ff);
    a.mov(field(kImage + int32_t{offsetof(FpuImage, opcode)}, 2), x86::ax);
    a.mov(x86::eax, field(kEnvironment + kDp, 4));
    a.mov(field(kImage + int32_t{offsetof(FpuImage, dp)}, 4), x86::eax);
    a.ret();
  }

  void call(const void* function) {
    a.mov(x86::rax, imm(reinterpret_cast<uint64_t>(function)));
    a.call(x86::rax);
  }

  void emit_enter() {
    for (const x86::Gp& reg : {x86::rbx, x86::rbp, x86::r12, x86::r13, x86::r14, x86::r15})
      a.push(reg);
    a.sub(x86::rsp, 8);
    a.mov(host::kContext, x86::rdi);
    a.mov(host::kDelta, x86::rsi);
    reload();
    a.jmp(host::kDelta);
  }

  void emit_leave() {
    spill();
    park_fpu(false);
    a.add(x86::rsp, 8);
    for (const x86::Gp& reg : {x86::r15, x86::r14, x86::r13, x86::r12, x86::rbp, x86::rbx})
      a.pop(reg);
    a.ret();
  }

  void emit_system(SystemFunction function) {
    spill();
    park_fpu(false);
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(gate_from), 8), 0);
    a.lea(x86::rdi, x86::ptr(host::kContext, -kContextBias));
    a.mov(x86::esi, host::kAddress.r32());
    a.mov(x86::edx, host::kDelta.r32());
    call(reinterpret_cast<const void*>(function));
    a.mov(host::kDelta, x86::rax);
    reload();
    a.jmp(host::kDelta);
  }

  void emit_signal_exit(SignalFunction function) {
    spill();
    park_fpu(false);
    a.lea(x86::rdi, x86::ptr(host::kContext, -kContextBias));
    call(reinterpret_cast<const void*>(function));
    a.mov(host::kDelta, x86::rax);
    reload();
    a.jmp(host::kDelta);
  }

  void emit_fpu_load() {
    a.fxrstor(field(TRAPLINE_CONTEXT_OFFSET(cpu.fpu), 512));
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 1);
    a.ret();
  }

  /// See LoadedSegment. The checks of a load depend on the selector, the descriptor and the CPL
  /// alone, so that the same ones come out the same. The address register holds the first and the
  /// last as loaded_segment_key() has them.
  void emit_load_segment(LoadedClass loaded) {
    constexpr int32_t kTable = TRAPLINE_CONTEXT_OFFSET(loaded_segments);
    constexpr int32_t kCopy = kTable + int32_t{offsetof(LoadedSegment, segment)};
    constexpr int32_t kSegments = TRAPLINE_CONTEXT_OFFSET(cpu.segment);
    constexpr int32_t kClass = offsetof(Segment, klass);
    const x86::Gp selector = host::kAddress;
    const x86::Gp slot = host::kValue;
    const x86::Gp name = host::kDelta;
    const x86::Gp work = x86::rax;
    const x86::Gp more = x86::rcx;
    static_assert(kLoadedSegments == 128 && sizeof(LoadedSegment) == 64);
    Label done = a.newLabel();
    Label known = a.newLabel();
    Label absent = a.newLabel();
    for (const x86::Gp& reg : {slot, work, more}) a.push(reg);
    a.mov(slot.r32(), selector.r32());
    a.shl(slot.r32(), 4);
    a.and_(slot.r32(), (kLoadedSegments - 1) * sizeof(LoadedSegment));
    a.add(slot, host::kContext);
    a.cmp(x86::ptr(slot, kTable + int32_t{offsetof(LoadedSegment, key)}, 4), selector.r32());
    a.jne(done);
    if (loaded == LoadedClass::kSame) {
      a.mov(work.r8(), x86::ptr(slot, kCopy + kClass, 1));
      a.cmp(work.r8(), x86::ptr(host::kContext, name, 0, kSegments + kClass, 1));
      a.jne(done);
    }
    a.test(selector.r32(), 0xfffc);
    a.jz(known);  // A null selector.
    emit_descriptor_address(work, more, done);
    // Its bytes must be in one page.
    a.test(work.r32(), 7);
    a.jnz(done);
    a.cmp(field(TRAPLINE_CONTEXT_OFFSET(supervisor_tables), 8), 0);
    a.je(absent);
    a.mov(more.r32(), work.r32());
    a.shr(more.r32(), kPageShift);
    a.shl(more, 3);
    a.add(more, field(TRAPLINE_CONTEXT_OFFSET(supervisor_tables), 8));
    a.mov(more, x86::ptr(more, -int32_t{kPageShift}, 8));
    a.test(more, more);
    a.jz(absent);
    a.mov(work, x86::ptr(work, more));
    a.cmp(work, x86::ptr(slot, kTable + int32_t{offsetof(LoadedSegment, descriptor)}, 8));
    a.jne(done);
    a.bind(known);
    if (loaded == LoadedClass::kKnown) {
      constexpr int32_t kClasses = TRAPLINE_CONTEXT_OFFSET(known_classes);
      constexpr int32_t kPushedValue = 16;
      static_assert(sizeof(KnownClass) == 1 << 4);
      a.cmp(field(TRAPLINE_CONTEXT_OFFSET(hot.attention), 1), 0);
      a.jne(done);
      a.movzx(work.r32(), x86::ptr(slot, kCopy + kClass, 1));
      a.shl(work.r32(), 4);
      a.add(work, x86::ptr(x86::rsp, kPushedValue, 8));
      a.add(work, host::kContext);
      a.mov(more, x86::ptr(work, kClasses + int32_t{offsetof(KnownClass, from)}, 8));
      a.cmp(more, field(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8));
      a.jne(done);
      a.mov(more, x86::ptr(work, kClasses + int32_t{offsetof(KnownClass, to)}, 8));
      a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8), more);
    }
    a.add(name, host::kContext);
    for (int32_t at = 0; at < static_cast<int32_t>(sizeof(Segment)); at += 8) {
      a.mov(work, x86::ptr(slot, kCopy + at, 8));
      a.mov(x86::ptr(name, kSegments + at, 8), work);
    }
    a.cmp(work, work);
    a.bind(done);
    for (const x86::Gp& reg : {more, work, slot}) a.pop(reg);
    a.ret();
    a.bind(absent);
    a.cmp(selector.r32(), -1);
    a.jmp(done);
  }

  /// Of the selector in the address register. Leaves with ZF clear where its table does not hold
  /// all of the descriptor.
  void emit_descriptor_address(const x86::Gp& address, const x86::Gp& base, const Label& outside) {
    const x86::Gp selector = host::kAddress;
    Label local = a.newLabel();
    Label found = a.newLabel();
    a.movzx(address.r32(), selector.r16());
    a.or_(address.r32(), 7);
    a.test(selector.r32(), kSelectorTableBit);
    a.jnz(local);
    a.movzx(base.r32(), field(TRAPLINE_CONTEXT_OFFSET(cpu.gdtr.limit), 2));
    a.cmp(base.r32(), address.r32());
    a.jb(outside);
    a.mov(base.r32(), field(TRAPLINE_CONTEXT_OFFSET(cpu.gdtr.base), 4));
    a.jmp(found);
    a.bind(local);
    a.test(field(TRAPLINE_CONTEXT_OFFSET(cpu.ldtr.attributes), 4), segment::kUnusable);
    a.jnz(outside);
    a.cmp(field(TRAPLINE_CONTEXT_OFFSET(cpu.ldtr.limit), 4), address.r32());
    a.jb(outside);
    a.mov(base.r32(), field(TRAPLINE_CONTEXT_OFFSET(cpu.ldtr.base), 4));
    a.bind(found);
    a.lea(address.r32(), x86::ptr(base, address, 0, -7));
  }

  void emit_enter_code() {
    constexpr int32_t kTable = TRAPLINE_CONTEXT_OFFSET(known_codes);
    constexpr int32_t kCsAt =
        TRAPLINE_CONTEXT_OFFSET(cpu.segment) + static_cast<int32_t>(kCs * sizeof(Segment));
    const x86::Gp slot = x86::rax;
    const x86::Gp work = x86::rcx;
    const x86::Gp selector = host::kDelta.r32();
    const auto part = [slot](size_t offset, uint32_t size) {
      return x86::ptr(slot, kTable + static_cast<int32_t>(offset), size);
    };
    Label done = a.newLabel();
    for (const x86::Gp& reg : {slot, work}) a.push(reg);
    static_assert(kKnownCodes == 64 && known_code_slot(0x1234) == (0x34 ^ 0x23 ^ 0x04));
    a.mov(slot.r32(), selector);
    a.shr(slot.r32(), 4);
    a.mov(work.r32(), slot.r32());
    a.shr(work.r32(), 6);
    a.xor_(slot.r32(), work.r32());
    a.xor_(slot.r32(), selector);
    a.and_(slot.r32(), kKnownCodes - 1);
    a.shl(slot.r32(), 5);
    a.add(slot, host::kContext);
    a.cmp(part(offsetof(KnownCode, selector), 4), selector);
    a.jne(done);
    a.cmp(part(offsetof(KnownCode, word), 4), host::kValue.r32());
    a.jne(done);
    a.cmp(part(offsetof(KnownCode, tables), 8), host::kTables);
    a.jne(done);
    a.mov(work.r32(), part(offsetof(KnownCode, attributes), 4));
    a.cmp(field(kCsAt + int32_t{offsetof(Segment, attributes)}, 4), work.r32());
    a.jne(done);
    a.cmp(field(TRAPLINE_CONTEXT_OFFSET(hot.attention), 1), 0);
    a.jne(done);
    a.mov(work, part(offsetof(KnownCode, exec_table), 8));
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.exec_table), 8), work);
    a.mov(field(kCsAt + int32_t{offsetof(Segment, selector)}, 2), selector.r16());
    a.shl(selector, 4);
    a.mov(field(kCsAt + int32_t{offsetof(Segment, base)}, 4), selector);
    a.add(host::kAddress.r32(), selector);
    a.mov(slot.r32(), host::kAddress.r32());
    a.shr(slot.r32(), kPageShift);
    a.mov(work, x86::ptr(work, slot, 3));
    a.mov(selector, x86::Mem(work, host::kAddress, 3, offsetof(EntryPair, saved), 4));
    a.cmp(slot, slot);
    a.bind(done);
    for (const x86::Gp& reg : {work, slot}) a.pop(reg);
    a.ret();
  }

  /// Misaligned accesses that cross no page come here too, and find their entry present.
  void emit_quick_fill(const Label& slow) {
    const x86::Gp info = host::kDelta;
    a.push(host::kValue);
    a.mov(host::kValue.r32(), host::kAddress.r32());
    a.and_(host::kValue.r32(), kPageMask);
    a.push(info);
    a.movzx(info.r32(), info.r8());
    a.add(host::kValue.r32(), info.r32());
    a.cmp(host::kValue.r32(), kPageSize);
    a.pop(info);
    Label crosses = a.newLabel();
    a.ja(crosses);
    // Bit 8 of the information says write: the write table follows the read table.
    a.mov(host::kValue.r32(), info.r32());
    a.and_(host::kValue.r32(), 0x100);
    a.shl(host::kValue.r32(), 12);
    a.push(info);
    a.mov(info.r32(), host::kAddress.r32());
    a.shr(info.r32(), kPageShift);
    a.add(host::kValue, info);
    a.mov(host::kValue, x86::Mem(host::kTables, host::kValue, 3, -int32_t{kPageShift}, 8));
    a.pop(info);
    a.test(host::kValue, host::kValue);
    a.jz(crosses);
    a.mov(host::kDelta, host::kValue);
    a.pop(host::kValue);
    a.ret();
    a.bind(crosses);
    a.pop(host::kValue);
    a.jmp(slow);
  }

  void emit_gate(Gate gate, GateFunction function) {
    Label slow = a.newLabel();
    if (gate == Gate::kFill) emit_quick_fill(slow);
    a.bind(slow);
    spill();
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.gate_address), 8), host::kAddress);
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.gate_value), 8), host::kValue);
    park_fpu(true);
    a.lea(x86::rdi, x86::ptr(host::kContext, -kContextBias));
    a.mov(x86::esi, host::kAddress.r32());
    a.mov(x86::edx, host::kDelta.r32());
    a.mov(x86::rcx, x86::ptr(x86::rsp));
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(gate_from), 8), x86::rcx);
    a.sub(x86::rsp, 8);
    call(reinterpret_cast<const void*>(function));
    a.add(x86::rsp, 8);
    Label leaves = a.newLabel();
    a.test(x86::rdx, x86::rdx);
    a.jnz(leaves);
    a.mov(host::kDelta, x86::rax);
    Label no_fpu = a.newLabel();
    a.cmp(field(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 0);
    a.je(no_fpu);
    a.fxrstor(field(TRAPLINE_CONTEXT_OFFSET(cpu.fpu), 512));
    a.bind(no_fpu);
    reload();
    a.mov(host::kAddress, field(TRAPLINE_CONTEXT_OFFSET(hot.gate_address), 8));
    a.mov(host::kValue, field(TRAPLINE_CONTEXT_OFFSET(hot.gate_value), 8));
    a.ret();
    a.bind(leaves);
    a.mov(host::kDelta, x86::rdx);
    a.mov(field(TRAPLINE_CONTEXT_OFFSET(hot.fpu_loaded), 1), 0);
    reload();
    a.add(x86::rsp, 8);
    a.jmp(host::kDelta);
  }

  uint32_t address_;
  Label save_fpu_pointers_ = a.newLabel();
};

}  // namespace

size_t emit_thunks(const ThunkTargets& targets, uint32_t address, std::span<std::byte> out,
                   Thunks& thunks) {
  CodeHolder code;
  TRAPLINE_ASSERT(code.init(Environment::host(), address) == kErrorOk);
  ThunkEmitter emitter(code, address);
  emitter.emit(targets, thunks);
  const CodeBuffer& buffer = code.sectionById(0)->buffer();
  TRAPLINE_ASSERT(buffer.size() <= out.size());
  std::memcpy(out.data(), buffer.data(), buffer.size());
  return buffer.size();
}

}  // namespace trapline
