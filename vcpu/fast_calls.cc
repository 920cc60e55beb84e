// SYSENTER and SYSEXIT.
#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"

namespace trapline {
namespace {

OrFault<uint16_t> selector_base(const Cpu& cpu) {
  if (!cpu.model.has(Feature::kSep)) return Fault::invalid_opcode();
  const auto selector = static_cast<uint16_t>(cpu.state.msr.sysenter_cs & kSelectorIndexMask);
  if (!cpu.state.protected_mode() || selector == 0) return Fault::general_protection();
  return selector;
}

void enter_flat(CpuState& state, uint16_t selector, uint8_t level, uint32_t eip, uint32_t esp) {
  state.segment[kCs] = Segment::flat(with_rpl(selector, level), true, level);
  state.segment[kSs] =
      Segment::flat(with_rpl(static_cast<uint16_t>(selector + 8), level), false, level);
  state.cpl = level;
  state.eip = eip;
  state.gpr[kEsp] = esp;
}

}  // namespace

OrFault<void> sysenter(Cpu& cpu) {
  CpuState& state = cpu.state;
  TRAPLINE_TRY_LET(selector, selector_base(cpu));
  state.eflags &= ~(eflags::kVm | eflags::kIf | eflags::kRf);
  enter_flat(state, selector, 0, static_cast<uint32_t>(state.msr.sysenter_eip),
             static_cast<uint32_t>(state.msr.sysenter_esp));
  return {};
}

OrFault<void> sysexit(Cpu& cpu) {
  CpuState& state = cpu.state;
  TRAPLINE_TRY_LET(selector, selector_base(cpu));
  if (state.cpl != 0) return Fault::general_protection();
  enter_flat(state, static_cast<uint16_t>(selector + 16), 3, state.gpr[kEdx], state.gpr[kEcx]);
  return {};
}

}  // namespace trapline
