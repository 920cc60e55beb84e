// Ports, one access or one iteration at a time.
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

uint32_t address_register(const Execution& x, Gpr name) {
  return x.state.gpr[name] & x.address_mask();
}
void advance(Execution& x, Gpr name, uint32_t by) {
  const uint32_t mask = x.address_mask();
  uint32_t& gpr = x.state.gpr[name];
  gpr = (gpr & ~mask) | ((gpr + by) & mask);
}
uint32_t stride(const Execution& x, uint32_t size) {
  return x.state.eflags & eflags::kDf ? 0 - size : size;
}

bool repeated(const Execution& x) {
  constexpr ZydisInstructionAttributes kAny =
      ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
  return x.instruction.attributes & kAny;
}

// EIP stays until the count has run out.
void count_down(Execution& x) {
  if (!repeated(x)) return;
  advance(x, kEcx, ~0u);
  x.moved = address_register(x, kEcx) != 0;
}

template <uint32_t Size>
OrFault<void> ins(Execution& x) {
  const auto port = static_cast<uint16_t>(x.state.gpr[kEdx]);
  TRAPLINE_TRY(check_port(x.cpu, port, Size));
  if (repeated(x) && address_register(x, kEcx) == 0) return {};
  TRAPLINE_TRY_LET(linear,
                   x.range({kEs, address_register(x, kEdi)}, Size, SegmentAccess::kWrite, Size));
  // A port must not be read for nothing.
  TRAPLINE_TRY(x.cpu.memory.probe_write(linear, Size, Privilege::kCurrent));
  const uint32_t value = x.cpu.ports.in(port, Size);
  TRAPLINE_TRY(x.cpu.memory.write(linear, Size, value, Privilege::kCurrent));
  advance(x, kEdi, stride(x, Size));
  count_down(x);
  return {};
}

template <uint32_t Size>
OrFault<void> outs(Execution& x) {
  const auto port = static_cast<uint16_t>(x.state.gpr[kEdx]);
  TRAPLINE_TRY(check_port(x.cpu, port, Size));
  if (repeated(x) && address_register(x, kEcx) == 0) return {};
  TRAPLINE_TRY_LET(value, x.load({x.data_segment(), address_register(x, kEsi)}, Size));
  x.cpu.ports.out(port, Size, static_cast<uint32_t>(value));
  advance(x, kEsi, stride(x, Size));
  count_down(x);
  return {};
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_IN, in},         {ZYDIS_MNEMONIC_OUT, out},
    {ZYDIS_MNEMONIC_INSB, ins<1>},   {ZYDIS_MNEMONIC_INSW, ins<2>},
    {ZYDIS_MNEMONIC_INSD, ins<4>},   {ZYDIS_MNEMONIC_OUTSB, outs<1>},
    {ZYDIS_MNEMONIC_OUTSW, outs<2>}, {ZYDIS_MNEMONIC_OUTSD, outs<4>},
};

}  // namespace

std::span<const InterpreterRow> io_rows() {
  return kRows;
}

}  // namespace trapline
