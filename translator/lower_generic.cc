// Instructions that the host executes as they are.
#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "translator/guest_encoding.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "vcpu/assert.h"

namespace trapline {

namespace x86 = asmjit::x86;

x86::Gp general_register(const Operand& operand) {
  switch (operand.register_kind) {
    case RegisterKind::kGpr8Low:
      return x86::gpb_lo(operand.number);
    case RegisterKind::kGpr8High:
      return x86::gpb_hi(operand.number);
    case RegisterKind::kGpr16:
      return host::guest(operand.number).r16();
    default:
      return host::guest(operand.number);
  }
}

asmjit::Operand host_register(const Operand& operand) {
  switch (operand.register_kind) {
    case RegisterKind::kMmx:
      return x86::mm(operand.number);
    case RegisterKind::kXmm:
      return x86::xmm(operand.number);
    default:
      return general_register(operand);
  }
}

OperandSize prefixed_size(const BlockEmitter& e, const Instruction& in) {
  const auto prefixes = e.bytes_of(in).first(in.encoding.opcode);
  const bool other = std::ranges::find(prefixes, 0x66) != prefixes.end();
  return e.mode().code32() == other ? OperandSize::k16 : OperandSize::k32;
}

asmjit::Imm host_immediate(const Operand& operand) {
  switch (operand.size) {
    case 1:
      return asmjit::imm(static_cast<int8_t>(operand.value));
    case 2:
      return asmjit::imm(static_cast<int16_t>(operand.value));
    default:
      return asmjit::imm(static_cast<int32_t>(operand.value));
  }
}

x86::Gp unused_legacy_register(const Instruction& in) {
  // EAX is an implicit operand of too many.
  for (uint8_t number : {kEbx, kEsi, kEdi, kEbp})
    if (!in.uses_register(number)) return x86::gpq(number);
  TRAPLINE_ASSERT(!"an instruction names four registers");
  return {};
}

namespace {

void emit(BlockEmitter& e, const Instruction& in, const asmjit::Operand* operands) {
  if (in.lock) e.a.lock();
  const asmjit::Error error =
      e.a.emitOpArray(in.row->host_id, reinterpret_cast<const asmjit::Operand_*>(operands),
                      static_cast<size_t>(in.operand_count));
  if (error == asmjit::kErrorOk) return;
  // A form that the assembler has no name for: without memory and ESP its bytes mean the same here.
  TRAPLINE_ASSERT(!in.memory() && !names_esp(in));
  const auto bytes = e.bytes_of(in);
  e.a.put(bytes);
}

asmjit::Operand host_operand(const Operand& operand, const x86::Mem& memory) {
  switch (operand.kind) {
    case Operand::Kind::kRegister:
      return host_register(operand);
    case Operand::Kind::kMemory:
      return memory;
    default:
      return host_immediate(operand);
  }
}

bool emit_as_encoded(BlockEmitter& e, const Instruction& in, const x86::Mem* memory) {
  return e.switches().guest_encoding && e.mode().code32() &&
         emit_guest_encoding(e.a, in, e.bytes_of(in), memory);
}

/// With AH, CH, DH or BH there can be no REX prefix, so neither our address registers nor ESP's.
void emit_without_rex(BlockEmitter& e, const Instruction& in, asmjit::Operand* operands,
                      const x86::Mem& memory) {
  const x86::Gp stand_in = unused_legacy_register(in);
  const bool via_memory = in.memory() != nullptr;
  e.a.mov(host::kValue, stand_in);
  if (via_memory)
    e.a.lea(stand_in, memory);
  else
    e.a.mov(stand_in.r32(), host::kStack.r32());
  bool esp = false;
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& o = in.operand[i];
    if (o.kind == Operand::Kind::kMemory) {
      operands[i] = x86::Mem(stand_in, 0, o.size);
    } else if (!via_memory && o.is_stack_pointer()) {
      operands[i] = host::sized(stand_in, o.size);
      esp = true;
    }
  }
  emit(e, in, operands);
  if (esp) e.a.mov(host::kStack.r32(), stand_in.r32());
  e.a.mov(stand_in, host::kValue);
}

}  // namespace

void lower_generic(BlockEmitter& e, const Instruction& in) {
  const bool esp = names_esp(in);
  if (esp) e.flush_esp();
  x86::Mem memory;
  const Operand* guest_memory = in.memory();
  if (guest_memory)
    memory = e.open(*guest_memory, in, guest_memory->size, access_kind(*guest_memory));
  e.prepare_flags(in);
  const bool no_rex = uses_high_byte(in) && (guest_memory || esp);
  if (no_rex || !emit_as_encoded(e, in, guest_memory ? &memory : nullptr)) {
    asmjit::Operand operands[3];
    for (size_t i = 0; i < in.operand_count; ++i) operands[i] = host_operand(in.operand[i], memory);
    if (no_rex)
      emit_without_rex(e, in, operands, memory);
    else
      emit(e, in, operands);
  }
  if (in.flags_written) e.flags_are_in_host();
  e.commit();
}

void lower_no_operand(BlockEmitter& e, const Instruction& in) {
  e.prepare_flags(in);
  e.a.emit(in.row->host_id);
  if (in.flags_written) e.flags_are_in_host();
}

namespace {
/// The host's own data pointer is a host address, and many hosts keep it for exceptions only.
bool moves_fpu_pointers(const Instruction& in) {
  return in.mnemonic != ZYDIS_MNEMONIC_FLDCW && in.mnemonic != ZYDIS_MNEMONIC_FNSTCW &&
         in.mnemonic != ZYDIS_MNEMONIC_FNSTSW;
}
}  // namespace

/// Many hosts move the opcode for unmasked exceptions only. It then belongs to the instruction that
/// the instruction pointer names, until FNCLEX lets others come after it.
void settle_fpu_pointers(BlockEmitter& e) {
  const x86::Mem status = host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 2);
  e.clobber_flags();
  BlockEmitter::Cold& cold = e.add_cold(BlockEmitter::Cold::Kind::kGate);
  cold.gate = Gate::kFpuSync;
  e.a.fnstsw(status);
  e.a.test(host::context(TRAPLINE_CONTEXT_OFFSET(hot.scratch), 1), 0x80);
  e.a.jnz(cold.entry);
  e.a.bind(cold.resume);
}

void lower_x87(BlockEmitter& e, const Instruction& in) {
  const Operand* memory = in.memory();
  if (!memory) {
    if (in.mnemonic == ZYDIS_MNEMONIC_FNCLEX) settle_fpu_pointers(e);
    // Two bytes that mean the same in 64-bit mode.
    e.prepare_flags(in);
    const auto bytes = e.bytes_of(in);
    const size_t prefixes =
        bytes.size() >= 2 && in.opcode != 0x9b ? bytes.size() - 2 : bytes.size() - 1;
    e.a.put(bytes.subspan(prefixes));
    if (in.mnemonic == ZYDIS_MNEMONIC_FNINIT)
      e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.fpu_operand), 4), 0);
    if (in.flags_written) e.flags_are_in_host();
    return;
  }
  // An unmasked exception suppresses a store; a careful block then writes back what was there.
  const AccessKind kind =
      e.careful() && memory->written ? AccessKind::kModify : access_kind(*memory);
  const x86::Mem host_memory = e.open(*memory, in, memory->size, kind);
  if (!emit_as_encoded(e, in, &host_memory))
    TRAPLINE_ASSERT(e.a.emit(in.row->host_id, host_memory) == asmjit::kErrorOk);
  if (moves_fpu_pointers(in)) {  // After it: it may have reported an earlier one's exception.
    e.load_offset(*memory, in, 0, host::kValue);
    if (const ModeKey& mode = e.request().mode;
        !mode.has(mode::kProtected) || mode.has(mode::kV86)) {
      e.clobber_flags();
      const auto base = memory->segment * sizeof(Segment) + offsetof(Segment, base);
      e.a.add(host::kValue.r32(),
              host::context(TRAPLINE_CONTEXT_OFFSET(cpu.segment) + static_cast<int32_t>(base), 4));
    }
    e.a.mov(host::context(TRAPLINE_CONTEXT_OFFSET(hot.fpu_operand), 4), host::kValue.r32());
  }
  e.commit();
}

/// C++ does them with the state that it has saved; the host's own would show host pointers.
void lower_fpu_state(BlockEmitter& e, const Instruction& in) {
  const auto op = [&] {
    switch (in.mnemonic) {
      case ZYDIS_MNEMONIC_FLDENV:
        return FpuStateOp::kFldenv;
      case ZYDIS_MNEMONIC_FNSTENV:
        return FpuStateOp::kFnstenv;
      case ZYDIS_MNEMONIC_FNSAVE:
        return FpuStateOp::kFnsave;
      case ZYDIS_MNEMONIC_FRSTOR:
        return FpuStateOp::kFrstor;
      case ZYDIS_MNEMONIC_FXSAVE:
        return FpuStateOp::kFxsave;
      default:
        return FpuStateOp::kFxrstor;
    }
  }();
  e.flush_esp();
  e.load_offset(*in.memory(), in);
  e.system(SystemOp::kFpuState,
           FpuStateInfo{op, in.memory()->segment, prefixed_size(e, in)}.pack() | length_payload(in),
           in);
}

void lower_nothing(BlockEmitter& e, const Instruction&) {
  if (e.mutated(Mutation::kWildAccess)) e.a.mov(host::kDelta, x86::ptr(uint64_t{0x10}));
}

/// CLFLUSH: the address must be accessible; caches are the host's business.
void lower_touch(BlockEmitter& e, const Instruction& in) {
  e.open(*in.memory(), in, 1, AccessKind::kRead);
}

/// The host refuses only what it lacks itself.
void lower_mxcsr_load(BlockEmitter& e, const Instruction& in) {
  const uint32_t host_only = 0xffff & ~e.request().mxcsr_mask;
  if (host_only == 0) {
    lower_generic(e, in);
    return;
  }
  const x86::Mem memory = e.open(*in.memory(), in, 4, AccessKind::kRead);
  e.clobber_flags();
  BlockEmitter::Cold& cold = e.add_cold(BlockEmitter::Cold::Kind::kRaise);
  cold.fault = Fault::general_protection();
  e.a.test(memory, host_only);
  e.a.jnz(cold.entry);
  e.a.ldmxcsr(memory);
}

/// MASKMOVQ and MASKMOVDQU store to [EDI] under a mask.
void lower_masked_store(BlockEmitter& e, const Instruction& in) {
  const bool xmm = in.operand[0].register_kind == RegisterKind::kXmm ||
                   in.operand[1].register_kind == RegisterKind::kXmm;
  Operand target;
  target.kind = Operand::Kind::kMemory;
  target.segment = in.data_segment;
  target.base = kEdi;
  const uint8_t size = xmm ? 16 : 8;
  e.flush_esp();
  const x86::Mem memory = e.open(target, in, size, AccessKind::kModify);
  if (!xmm) e.a.fwait();  // Reports a pending x87 exception while EDI is still the guest's.
  e.a.mov(host::kValue, x86::rdi);
  e.a.lea(x86::rdi, memory);
  uint8_t source[2] = {0, 0};
  int found = 0;
  for (int i = 0; i < in.operand_count && found < 2; ++i)
    if (in.operand[i].kind == Operand::Kind::kRegister &&
        (in.operand[i].register_kind == RegisterKind::kXmm ||
         in.operand[i].register_kind == RegisterKind::kMmx))
      source[found++] = in.operand[i].number;
  if (xmm)
    e.a.maskmovdqu(x86::xmm(source[0]), x86::xmm(source[1]), x86::ptr(x86::rdi));
  else
    e.a.maskmovq(x86::mm(source[0]), x86::mm(source[1]), x86::ptr(x86::rdi));
  e.a.mov(x86::rdi, host::kValue);
  e.commit();
}

}  // namespace trapline
