// Control, debug and table registers, identification, time and MSRs.
#include "vcpu/debug_registers.h"
#include "vcpu/execution.h"

namespace trapline {
namespace {

bool is_control(const ZydisDecodedOperand& operand) {
  return operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value >= ZYDIS_REGISTER_CR0 &&
         operand.reg.value <= ZYDIS_REGISTER_CR15;
}
bool is_debug(const ZydisDecodedOperand& operand) {
  return operand.type == ZYDIS_OPERAND_TYPE_REGISTER && operand.reg.value >= ZYDIS_REGISTER_DR0 &&
         operand.reg.value <= ZYDIS_REGISTER_DR15;
}

bool has_control(const Cpu& cpu, int number) {
  return number == 0 || number == 2 || number == 3 || (number == 4 && cpu.model.cr4_mask != 0);
}

OrFault<void> write_control(Cpu& cpu, int number, uint32_t value) {
  switch (number) {
    case 0:
      return write_cr0(cpu, value);
    case 3:
      return write_cr3(cpu, value);
    case 4:
      return write_cr4(cpu, value);
    default:
      cpu.state.cr2 = value;
      return {};
  }
}

uint32_t read_control(const CpuState& state, int number) {
  switch (number) {
    case 0:
      return state.cr0;
    case 3:
      return state.cr3;
    case 4:
      return state.cr4;
    default:
      return state.cr2;
  }
}

OrFault<void> move_control(Execution& x, int number, bool to_control, ZydisRegister gpr) {
  if (!has_control(x.cpu, number)) return Fault::invalid_opcode();
  if (x.state.cpl != 0) return Fault::general_protection();
  if (to_control) return write_control(x.cpu, number, x.register_value(gpr));
  x.set_register(gpr, read_control(x.state, number));
  return {};
}

uint32_t debug_value(int number, uint32_t value) {
  switch (number) {
    case 6:
      return (value & 0x0000e00f) | 0xffff0ff0;
    case 7:
      return (value & 0xffff23ff) | 0x00000400;
    default:
      return value;
  }
}

// DR4 and DR5 are other names of DR6 and DR7 for as long as they exist.
OrFault<int> check_debug(CpuState& state, int number) {
  if (number == 4 || number == 5) {
    if (state.cr4 & cr4::kDe) return Fault::invalid_opcode();
    number += 2;
  }
  if (number > 7) return Fault::invalid_opcode();
  if (state.cpl != 0) return Fault::general_protection();
  if (state.dr[7] & dr7::kGeneralDetect) {
    state.dr[6] |= dr6::kGeneralDetect;
    return Fault::plain(Vector::kDebug);
  }
  return number;
}

OrFault<void> move_debug(Execution& x, int number, bool to_debug, ZydisRegister gpr) {
  if (to_debug) return write_debug(x.cpu, number, x.register_value(gpr));
  TRAPLINE_TRY_LET(value, read_debug(x.cpu, number));
  x.set_register(gpr, value);
  return {};
}

// --- Descriptor table registers ------------------------------------------------------------------

OrFault<TableRegister> load_table(Execution& x) {
  const EffectiveAddress at = x.address(0);
  TRAPLINE_TRY_LET(limit, x.load(at, 2));
  TRAPLINE_TRY_LET(base, x.load(at, 4, 2));
  const uint32_t mask = x.operand_size() == OperandSize::k16 ? 0xffffffu : ~0u;
  return TableRegister{static_cast<uint32_t>(base) & mask, static_cast<uint16_t>(limit)};
}

OrFault<void> lgdt(Execution& x) {
  TRAPLINE_TRY_LET(table, load_table(x));
  x.state.gdtr = table;
  return {};
}
OrFault<void> lidt(Execution& x) {
  TRAPLINE_TRY_LET(table, load_table(x));
  x.state.idtr = table;
  return {};
}

OrFault<void> store(Execution& x, const TableRegister& table) {
  const EffectiveAddress at = x.address(0);
  const auto size = x.instruction.address_width == 16 ? AddressSize::k16 : AddressSize::k32;
  return store_table(x.cpu, table, at.segment, at.offset, size);
}

OrFault<void> sgdt(Execution& x) {
  return store(x, x.state.gdtr);
}
OrFault<void> sidt(Execution& x) {
  return store(x, x.state.idtr);
}

OrFault<void> lldt(Execution& x) {
  TRAPLINE_TRY_LET(selector, x.read(0));
  return load_ldtr(x.cpu, static_cast<uint16_t>(selector));
}
OrFault<void> ltr(Execution& x) {
  TRAPLINE_TRY_LET(selector, x.read(0));
  return load_tr(x.cpu, static_cast<uint16_t>(selector));
}
OrFault<void> store_word(Execution& x, uint32_t value) {
  if (x.is_memory(0)) return x.store(x.address(0), 2, value & 0xffff);
  return x.write(0, value);
}
OrFault<void> sldt(Execution& x) {
  return store_word(x, x.state.ldtr.selector);
}
OrFault<void> str(Execution& x) {
  return store_word(x, x.state.tr.selector);
}

// --- The machine status word ---------------------------------------------------------------------

OrFault<void> smsw(Execution& x) {
  return store_word(x, x.state.cr0);
}
OrFault<void> lmsw(Execution& x) {
  TRAPLINE_TRY_LET(value, x.read(0));
  return load_status_word(x.cpu, value);
}
OrFault<void> clts(Execution& x) {
  x.state.cr0 &= ~cr0::kTs;
  return {};
}

// --- The rest ------------------------------------------------------------------------------------

OrFault<void> invlpg(Execution& x) {
  const EffectiveAddress at = x.address(0);
  x.cpu.events.invalidate_page({x.state.segment[at.segment].base + at.offset});
  return {};
}

OrFault<void> nothing(Execution&) {
  return {};
}

OrFault<void> hlt(Execution& x) {
  x.state.halted = true;
  x.step = Step::kHalt;
  return {};
}

OrFault<void> cpuid(Execution& x) {
  identify(x.cpu);
  return {};
}

void set_edx_eax(CpuState& state, uint64_t value) {
  state.gpr[kEax] = static_cast<uint32_t>(value);
  state.gpr[kEdx] = static_cast<uint32_t>(value >> 32);
}

OrFault<void> rdtsc(Execution& x) {
  if ((x.state.cr4 & cr4::kTsd) && x.state.cpl != 0) return Fault::general_protection();
  set_edx_eax(x.state, x.cpu.events.time_stamp() + x.state.tsc_offset);
  return {};
}

OrFault<void> rdmsr(Execution& x) {
  TRAPLINE_TRY_LET(value, read_msr(x.cpu, x.state.gpr[kEcx]));
  set_edx_eax(x.state, value);
  return {};
}
OrFault<void> wrmsr(Execution& x) {
  const auto& gpr = x.state.gpr;
  return write_msr(x.cpu, gpr[kEcx], gpr[kEax] | uint64_t{gpr[kEdx]} << 32);
}

OrFault<void> rdpmc(Execution& x) {
  return read_counter(x.cpu);
}

OrFault<void> clear_if(Execution& x) {
  return cli(x.cpu);
}
OrFault<void> set_if(Execution& x) {
  return sti(x.cpu);
}

constexpr auto kRing0 = InterpreterRow::kRing0;
constexpr auto kProtectedOnly = InterpreterRow::kProtectedOnly;

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_LGDT, lgdt, kRing0},
    {ZYDIS_MNEMONIC_LIDT, lidt, kRing0},
    {ZYDIS_MNEMONIC_SGDT, sgdt},
    {ZYDIS_MNEMONIC_SIDT, sidt},
    {ZYDIS_MNEMONIC_LLDT, lldt, kProtectedOnly | kRing0},
    {ZYDIS_MNEMONIC_LTR, ltr, kProtectedOnly | kRing0},
    {ZYDIS_MNEMONIC_SLDT, sldt, kProtectedOnly},
    {ZYDIS_MNEMONIC_STR, str, kProtectedOnly},
    {ZYDIS_MNEMONIC_SMSW, smsw},
    {ZYDIS_MNEMONIC_LMSW, lmsw, kRing0},
    {ZYDIS_MNEMONIC_CLTS, clts, kRing0},
    {ZYDIS_MNEMONIC_INVLPG, invlpg, kRing0},
    {ZYDIS_MNEMONIC_INVD, nothing, kRing0},
    {ZYDIS_MNEMONIC_WBINVD, nothing, kRing0},
    {ZYDIS_MNEMONIC_HLT, hlt, kRing0},
    {ZYDIS_MNEMONIC_CPUID, cpuid, 0, requires_feature(Feature::kCpuid)},
    {ZYDIS_MNEMONIC_RDTSC, rdtsc, 0, requires_feature(Feature::kTsc)},
    {ZYDIS_MNEMONIC_RDMSR, rdmsr, kRing0, requires_feature(Feature::kMsr)},
    {ZYDIS_MNEMONIC_WRMSR, wrmsr, kRing0, requires_feature(Feature::kMsr)},
    {ZYDIS_MNEMONIC_RDPMC, rdpmc, 0, requires_feature(Feature::kRdpmc)},
    {ZYDIS_MNEMONIC_CLI, clear_if},
    {ZYDIS_MNEMONIC_STI, set_if},
};

}  // namespace

OrFault<uint32_t> read_debug(Cpu& cpu, int number) {
  TRAPLINE_TRY_LET(checked, check_debug(cpu.state, number));
  return cpu.state.dr[static_cast<size_t>(checked)];
}

OrFault<void> write_debug(Cpu& cpu, int number, uint32_t value) {
  TRAPLINE_TRY_LET(checked, check_debug(cpu.state, number));
  cpu.state.dr[static_cast<size_t>(checked)] = debug_value(checked, value);
  return {};
}

OrFault<void> store_table(Cpu& cpu, const TableRegister& table, SegmentName segment,
                          uint32_t offset, AddressSize size) {
  const uint32_t mask = size == AddressSize::k16 ? 0xffffu : ~0u;
  TRAPLINE_TRY_LET(limit, check_segment(cpu.state, segment, offset, 2, SegmentAccess::kWrite, 2));
  TRAPLINE_TRY_LET(
      base, check_segment(cpu.state, segment, (offset + 2) & mask, 4, SegmentAccess::kWrite, 4));
  TRAPLINE_TRY(cpu.memory.probe_write(limit, 2, Privilege::kCurrent));
  TRAPLINE_TRY(cpu.memory.write(base, 4, table.base, Privilege::kCurrent));
  return cpu.memory.write(limit, 2, table.limit, Privilege::kCurrent);
}

OrFault<void> load_status_word(Cpu& cpu, uint32_t value) {
  constexpr uint32_t kLoaded = cr0::kMp | cr0::kEm | cr0::kTs;
  // PE can be set this way but not cleared.
  return write_cr0(cpu, (cpu.state.cr0 & ~kLoaded) | (value & (kLoaded | cr0::kPe)));
}

void identify(Cpu& cpu) {
  constexpr uint32_t kApicBit = 1u << 9;
  auto& gpr = cpu.state.gpr;
  CpuidResult result = cpu.model.cpuid(gpr[kEax], gpr[kEcx]);
  const bool apic = cpu.events.has_local_apic() && (cpu.state.msr.apic_base & apic_base::kEnable);
  if (gpr[kEax] == 1 && cpu.model.family >= 6 && apic) result.edx |= kApicBit;
  gpr[kEax] = result.eax;
  gpr[kEbx] = result.ebx;
  gpr[kEcx] = result.ecx;
  gpr[kEdx] = result.edx;
}

// Two counters, which stand still.
OrFault<void> read_counter(Cpu& cpu) {
  constexpr uint32_t kCounters = 2;
  const CpuState& state = cpu.state;
  const bool allowed = state.cpl == 0 || (state.cr4 & cr4::kPce);
  if (!allowed || state.gpr[kEcx] >= kCounters) return Fault::general_protection();
  set_edx_eax(cpu.state, 0);
  return {};
}

bool is_control_or_debug_move(const Execution& x) {
  return is_control(x.operands[0]) || is_control(x.operands[1]) || is_debug(x.operands[0]) ||
         is_debug(x.operands[1]);
}

OrFault<void> move_control_or_debug(Execution& x) {
  const bool to = is_control(x.operands[0]) || is_debug(x.operands[0]);
  const ZydisRegister special = x.operands[to ? 0 : 1].reg.value;
  const ZydisRegister gpr = x.operands[to ? 1 : 0].reg.value;
  if (is_control(x.operands[to ? 0 : 1]))
    return move_control(x, special - ZYDIS_REGISTER_CR0, to, gpr);
  return move_debug(x, special - ZYDIS_REGISTER_DR0, to, gpr);
}

std::span<const InterpreterRow> system_rows() {
  return kRows;
}

}  // namespace trapline
