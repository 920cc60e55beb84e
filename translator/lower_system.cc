// Instructions that read or change system state. The frequent ones go straight to their own entry
// in C++; the rest to the interpreter.
#include <Zydis/Mnemonic.h>

#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "translator/lower_real.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {
/// Privileged instructions outside ring 0 are #GP(0).
bool refused(BlockEmitter& e, const Instruction& in) {
  if (e.mode().cpl() == 0) return false;
  e.raise(Vector::kGeneralProtection, true, 0, in);
  return true;
}
}  // namespace

void lower_interpreted(BlockEmitter& e, const Instruction& in) {
  e.system(SystemOp::kInterpret, length_payload(in), in);
}

void lower_undefined(BlockEmitter& e, const Instruction& in) {
  e.raise(Vector::kInvalidOpcode, false, 0, in);
}

void lower_int(BlockEmitter& e, const Instruction& in) {
  if (lower_real_interrupt(e, in)) return;
  const auto form = [&](uint32_t vector, InterruptForm which) {
    e.system(SystemOp::kInterrupt, vector | static_cast<uint32_t>(which) << 8 | length_payload(in),
             in);
  };
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_INT3:
      return form(3, InterruptForm::kInt3);
    case ZYDIS_MNEMONIC_INTO:
      return form(4, InterruptForm::kInto);
    case ZYDIS_MNEMONIC_INT1:
      return form(1, InterruptForm::kInt1);
    default:
      return form(static_cast<uint32_t>(in.operand[0].value & 0xff), InterruptForm::kIntN);
  }
}

void lower_iret(BlockEmitter& e, const Instruction& in) {
  if (lower_real_iret(e, in)) return;
  e.system(SystemOp::kIret, in.operand_size | length_payload(in), in);
}

void lower_hlt(BlockEmitter& e, const Instruction& in) {
  if (!refused(e, in)) e.system(SystemOp::kHalt, length_payload(in), in);
}

namespace {
void port_access(BlockEmitter& e, const Instruction& in, SystemOp op, const Operand& port,
                 uint8_t size) {
  e.flush_esp();
  if (port.kind == Operand::Kind::kImmediate)
    e.a.mov(host::kAddress.r32(), static_cast<uint32_t>(port.value & 0xff));
  else
    e.a.movzx(host::kAddress.r32(), x86::dx);
  e.system(op, size | length_payload(in), in);
}
}  // namespace

void lower_in(BlockEmitter& e, const Instruction& in) {
  port_access(e, in, SystemOp::kIn, in.operand[1], in.operand[0].size);
}

void lower_out(BlockEmitter& e, const Instruction& in) {
  port_access(e, in, SystemOp::kOut, in.operand[0], in.operand[1].size);
}

void lower_string_port(BlockEmitter& e, const Instruction& in) {
  const bool reads = in.opcode < 0x6e;
  const uint8_t size = in.opcode & 1 ? in.operand_size : uint8_t{1};
  const StringPort string{size, static_cast<AddressSize>(in.address_size), in.rep || in.repne,
                          in.data_segment};
  e.system(reads ? SystemOp::kInputString : SystemOp::kOutputString,
           StringPortInfo::pack(string) | length_payload(in), in);
}

void lower_direction(BlockEmitter& e, const Instruction& in) {
  const bool down = in.mnemonic == ZYDIS_MNEMONIC_STD;
  if (down == e.mode().has(mode::kDown)) return;
  e.a.mov(host::kAddress.r32(), down ? 1 : 0);
  e.system(SystemOp::kDirection, length_payload(in), in);
}

void lower_control_register(BlockEmitter& e, const Instruction& in) {
  if (refused(e, in)) return;
  const Operand& to = in.operand[0];
  const Operand& from = in.operand[1];
  const bool writes = to.register_kind == RegisterKind::kControl;
  const uint8_t number = writes ? to.number : from.number;
  if (number == 1) {
    lower_undefined(e, in);
    return;
  }
  e.flush_esp();
  if (writes) {
    e.a.mov(host::kAddress.r32(), host::guest(from.number));
    e.system(SystemOp::kMoveToCr, number | length_payload(in), in);
    return;
  }
  if (number == 4) {  // Not every model has it.
    e.system(SystemOp::kMoveFromCr4, to.number | length_payload(in), in);
    return;
  }
  constexpr int32_t kFields[] = {TRAPLINE_CONTEXT_OFFSET(cpu.cr0), 0,
                                 TRAPLINE_CONTEXT_OFFSET(cpu.cr2),
                                 TRAPLINE_CONTEXT_OFFSET(cpu.cr3)};
  e.a.mov(host::guest(to.number), host::context(kFields[number], 4));
}

void lower_debug_register(BlockEmitter& e, const Instruction& in) {
  const bool writes = in.operand[0].register_kind == RegisterKind::kDebug;
  const Operand& debug = in.operand[writes ? 0 : 1];
  const Operand& general = in.operand[writes ? 1 : 0];
  e.system(
      SystemOp::kMoveDebug,
      debug.number | uint32_t{general.number} << 4 | (writes ? 0x80u : 0u) | length_payload(in),
      in);
}

void lower_without_operands(BlockEmitter& e, const Instruction& in) {
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
      return e.system(SystemOp::kIdentify, length_payload(in), in);
    case ZYDIS_MNEMONIC_RDPMC:
      return e.system(SystemOp::kReadCounter, length_payload(in), in);
    default:
      break;
  }
  if (refused(e, in)) return;
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_RDMSR:
      return e.system(SystemOp::kReadMsr, length_payload(in), in);
    case ZYDIS_MNEMONIC_WRMSR:
      return e.system(SystemOp::kWriteMsr, length_payload(in), in);
    default:
      return e.system(SystemOp::kClearTaskSwitched, length_payload(in), in);
  }
}

/// INVD and WBINVD: there are no caches that the guest could see.
void lower_cache_flush(BlockEmitter& e, const Instruction& in) {
  refused(e, in);
}

/// LMSW.
void lower_status_word_load(BlockEmitter& e, const Instruction& in) {
  if (refused(e, in)) return;
  load_word(e, in, in.operand[0]);
  e.system(SystemOp::kLoadStatusWord, length_payload(in), in);
}

void lower_rdtsc(BlockEmitter& e, const Instruction& in) {
  // Where instructions are counted, they may be the clock.
  if (e.switches().inline_system && !e.mode().has(mode::kCounted)) {
    e.clobber_flags();
    if (e.mode().cpl() != 0) {
      e.a.test(host::context(TRAPLINE_CONTEXT_OFFSET(cpu.cr4), 4), asmjit::imm(cr4::kTsd));
      e.a.jnz(e.system_elsewhere(SystemOp::kReadTsc, length_payload(in)));
    }
    e.a.rdtsc();
    e.a.shl(x86::rdx, 32);
    e.a.or_(x86::rax, x86::rdx);
    e.a.add(x86::rax, host::context(TRAPLINE_CONTEXT_OFFSET(cpu.tsc_offset), 8));
    e.a.mov(x86::rdx, x86::rax);
    e.a.shr(x86::rdx, 32);
    e.a.mov(x86::eax, x86::eax);
    return;
  }
  e.system(SystemOp::kReadTsc, length_payload(in), in);
}

/// Views follow the guest's tables by themselves, so there is nothing to invalidate.
void lower_invlpg(BlockEmitter& e, const Instruction& in) {
  refused(e, in);
}

void lower_sysenter(BlockEmitter& e, const Instruction& in) {
  e.system(SystemOp::kSysenter, length_payload(in), in);
}

void lower_sysexit(BlockEmitter& e, const Instruction& in) {
  e.system(SystemOp::kSysexit, length_payload(in), in);
}

}  // namespace trapline
