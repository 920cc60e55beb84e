// Ports, one access or one element at a time.
#include "vcpu/execution.h"

namespace trapline {
namespace {

uint16_t port_of(Execution& x, int i) {
  return static_cast<uint16_t>(x.operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
                                   ? x.operands[i].imm.value.u
                                   : x.state.gpr[kEdx]);
}

OrFault<void> in(Execution& x) {
  TRAPLINE_TRY_LET(value, port_in(x.cpu, port_of(x, 1), x.operand_size_of(0)));
  x.set_register(x.operands[0].reg.value, value);
  return {};
}

OrFault<void> out(Execution& x) {
  return port_out(x.cpu, port_of(x, 0), x.operand_size_of(1),
                  x.register_value(x.operands[1].reg.value));
}

uint32_t address_mask(const StringPort& string) {
  return string.address == AddressSize::k16 ? 0xffffu : ~0u;
}
void advance(CpuState& state, const StringPort& string, Gpr name, uint32_t by) {
  const uint32_t mask = address_mask(string);
  uint32_t& gpr = state.gpr[name];
  gpr = (gpr & ~mask) | ((gpr + by) & mask);
}
uint32_t stride(const CpuState& state, const StringPort& string) {
  return state.eflags & eflags::kDf ? 0u - string.size : string.size;
}
bool none_left(const CpuState& state, const StringPort& string) {
  return string.repeated && (state.gpr[kEcx] & address_mask(string)) == 0;
}
StringStep count_down(CpuState& state, const StringPort& string) {
  if (!string.repeated) return StringStep::kThrough;
  advance(state, string, kEcx, ~0u);
  return none_left(state, string) ? StringStep::kThrough : StringStep::kAgain;
}

StringPort string_of(const Execution& x, uint8_t size) {
  constexpr ZydisInstructionAttributes kAny =
      ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
  return {size, x.instruction.address_width == 16 ? AddressSize::k16 : AddressSize::k32,
          (x.instruction.attributes & kAny) != 0, x.data_segment()};
}

// EIP stays until the count has run out.
template <uint8_t Size>
OrFault<void> ins(Execution& x) {
  TRAPLINE_TRY_LET(step, input_string(x.cpu, string_of(x, Size)));
  x.moved = step == StringStep::kAgain;
  return {};
}

template <uint8_t Size>
OrFault<void> outs(Execution& x) {
  TRAPLINE_TRY_LET(step, output_string(x.cpu, string_of(x, Size)));
  x.moved = step == StringStep::kAgain;
  return {};
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_IN, in},         {ZYDIS_MNEMONIC_OUT, out},
    {ZYDIS_MNEMONIC_INSB, ins<1>},   {ZYDIS_MNEMONIC_INSW, ins<2>},
    {ZYDIS_MNEMONIC_INSD, ins<4>},   {ZYDIS_MNEMONIC_OUTSB, outs<1>},
    {ZYDIS_MNEMONIC_OUTSW, outs<2>}, {ZYDIS_MNEMONIC_OUTSD, outs<4>},
};

}  // namespace

OrFault<StringStep> input_string(Cpu& cpu, const StringPort& string) {
  CpuState& state = cpu.state;
  const auto port = static_cast<uint16_t>(state.gpr[kEdx]);
  TRAPLINE_TRY(check_port(cpu, port, string.size));
  if (none_left(state, string)) return StringStep::kThrough;
  const uint32_t offset = state.gpr[kEdi] & address_mask(string);
  TRAPLINE_TRY_LET(
      linear, check_segment(state, kEs, offset, string.size, SegmentAccess::kWrite, string.size));
  // A port must not be read for nothing.
  TRAPLINE_TRY(cpu.memory.probe_write(linear, string.size, Privilege::kCurrent));
  const uint32_t value = cpu.ports.in(port, string.size);
  TRAPLINE_TRY(cpu.memory.write(linear, string.size, value, Privilege::kCurrent));
  advance(state, string, kEdi, stride(state, string));
  return count_down(state, string);
}

OrFault<StringStep> output_string(Cpu& cpu, const StringPort& string) {
  CpuState& state = cpu.state;
  const auto port = static_cast<uint16_t>(state.gpr[kEdx]);
  TRAPLINE_TRY(check_port(cpu, port, string.size));
  if (none_left(state, string)) return StringStep::kThrough;
  const uint32_t offset = state.gpr[kEsi] & address_mask(string);
  TRAPLINE_TRY_LET(linear, check_segment(state, string.source, offset, string.size,
                                         SegmentAccess::kRead, string.size));
  TRAPLINE_TRY_LET(value, cpu.memory.read(linear, string.size, Privilege::kCurrent));
  cpu.ports.out(port, string.size, static_cast<uint32_t>(value));
  advance(state, string, kEsi, stride(state, string));
  return count_down(state, string);
}

std::span<const InterpreterRow> io_rows() {
  return kRows;
}

}  // namespace trapline
