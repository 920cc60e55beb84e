// Far jumps and far calls.
#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"
#include "vcpu/stack.h"
#include "vcpu/tasks.h"

namespace trapline {
namespace {

constexpr uint32_t truncate(uint32_t offset, OperandSize size) {
  return size == OperandSize::k16 ? offset & 0xffff : offset;
}

bool inside(const Segment& segment, uint32_t offset) {
  return offset <= segment.limit;
}

// A code segment named directly, or reached at the same privilege: checked and loaded, with CPL as
// its RPL.
OrFault<Segment> direct_target(Cpu& cpu, uint16_t selector, const Descriptor& descriptor) {
  const uint8_t cpl = cpu.state.cpl;
  const bool allowed = descriptor.conforming() ? descriptor.dpl() <= cpl
                                               : rpl(selector) <= cpl && descriptor.dpl() == cpl;
  if (!descriptor.code() || !allowed) return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  return descriptor.load(with_rpl(selector, cpl));
}

OrFault<void> check_gate(const Cpu& cpu, uint16_t selector, const Descriptor& gate) {
  if (gate.dpl() < cpu.state.cpl || gate.dpl() < rpl(selector))
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!gate.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  return {};
}

OrFault<Descriptor> gate_target(Cpu& cpu, const Descriptor& gate) {
  const uint16_t selector = gate.gate_selector();
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(target, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (!target.code() || target.dpl() > cpu.state.cpl)
    return selector_fault(Vector::kGeneralProtection, selector);
  return target;
}

OrFault<void> enter(Cpu& cpu, const Descriptor& descriptor, const Segment& cs, uint32_t eip) {
  if (!inside(cs, eip)) return Fault::general_protection();
  TRAPLINE_TRY(mark_accessed(cpu, descriptor));
  cpu.state.segment[kCs] = cs;
  cpu.state.eip = eip;
  return {};
}

OrFault<void> enter_with_frame(Cpu& cpu, const Descriptor& descriptor, const Segment& cs,
                               uint32_t eip, OperandSize size, uint32_t next_eip) {
  CpuState& state = cpu.state;
  StackFrame frame(size);
  frame.push(state.segment[kCs].selector);
  frame.push(next_eip);
  if (!inside(cs, eip)) {
    // A stack that has no room comes first.
    const StackPlace place{state.segment[kSs], state.gpr[kEsp], Privilege::kCurrent, 0};
    TRAPLINE_TRY(check_frame(frame, place));
    return Fault::general_protection();
  }
  TRAPLINE_TRY(mark_accessed(cpu, descriptor));
  TRAPLINE_TRY_LET(esp, push_frame(cpu, frame));
  state.gpr[kEsp] = esp;
  state.segment[kCs] = cs;
  state.eip = eip;
  return {};
}

OrFault<void> jump_through_gate(Cpu& cpu, uint16_t selector, const Descriptor& gate) {
  TRAPLINE_TRY(check_gate(cpu, selector, gate));
  TRAPLINE_TRY_LET(target, gate_target(cpu, gate));
  const uint16_t target_selector = gate.gate_selector();
  if (!target.conforming() && target.dpl() != cpu.state.cpl)
    return selector_fault(Vector::kGeneralProtection, target_selector);
  if (!target.present()) return selector_fault(Vector::kSegmentNotPresent, target_selector);
  return enter(cpu, target, target.load(with_rpl(target_selector, cpu.state.cpl)),
               gate.gate_offset());
}

// The parameters that a call gate copies, the last one pushed first.
OrFault<void> push_parameters(Cpu& cpu, const Descriptor& gate, OperandSize size,
                              StackFrame& frame) {
  std::array<uint32_t, 31> parameters;
  const std::span<uint32_t> used(parameters.data(), gate.gate_parameters());
  if (used.empty()) return {};
  TRAPLINE_TRY(peek_stack(cpu, 0, size, used));
  for (size_t i = used.size(); i-- > 0;) frame.push(used[i]);
  return {};
}

OrFault<void> call_inner(Cpu& cpu, const Descriptor& gate, const Descriptor& target,
                         uint32_t next_eip) {
  CpuState& state = cpu.state;
  const uint8_t level = target.dpl();
  const OperandSize size = gate.gate32() ? OperandSize::k32 : OperandSize::k16;
  TRAPLINE_TRY_LET(stack, load_inner_stack(cpu, level, 0));
  const Segment cs = target.load(with_rpl(gate.gate_selector(), level));

  StackFrame frame(size);
  frame.push(state.segment[kSs].selector);
  frame.push(state.gpr[kEsp]);
  const StackPlace place{stack.ss, stack.esp, Privilege::kInnerStack, stack.ss.selector & 0xfffcu};
  frame.count += gate.gate_parameters() + 2u;
  TRAPLINE_TRY(check_frame(frame, place));
  if (!inside(cs, gate.gate_offset())) return Fault::general_protection();
  frame.count = 2;
  TRAPLINE_TRY(push_parameters(cpu, gate, size, frame));
  frame.push(state.segment[kCs].selector);
  frame.push(next_eip);
  TRAPLINE_TRY(mark_accessed(cpu, stack.descriptor));
  TRAPLINE_TRY(mark_accessed(cpu, target));
  TRAPLINE_TRY_LET(esp, write_frame(cpu, frame, place));

  state.segment[kSs] = stack.ss;
  state.gpr[kEsp] = esp;
  state.segment[kCs] = cs;
  state.eip = gate.gate_offset();
  state.cpl = level;
  return {};
}

OrFault<void> call_through_gate(Cpu& cpu, uint16_t selector, const Descriptor& gate,
                                uint32_t next_eip) {
  TRAPLINE_TRY(check_gate(cpu, selector, gate));
  TRAPLINE_TRY_LET(target, gate_target(cpu, gate));
  const uint16_t target_selector = gate.gate_selector();
  if (!target.present()) return selector_fault(Vector::kSegmentNotPresent, target_selector);
  if (!target.conforming() && target.dpl() < cpu.state.cpl)
    return call_inner(cpu, gate, target, next_eip);
  return enter_with_frame(cpu, target, target.load(with_rpl(target_selector, cpu.state.cpl)),
                          gate.gate_offset(), gate.gate32() ? OperandSize::k32 : OperandSize::k16,
                          next_eip);
}

void load_unprotected_cs(CpuState& state, uint16_t selector) {
  Segment& cs = state.segment[kCs];
  if (state.v86())
    cs = v86_segment(selector, kCs);
  else
    load_real_segment(cs, selector, kCs);
}

OrFault<void> unprotected_jump(Cpu& cpu, uint16_t selector, uint32_t eip) {
  if (!inside(cpu.state.segment[kCs], eip)) return Fault::general_protection();
  load_unprotected_cs(cpu.state, selector);
  cpu.state.eip = eip;
  return {};
}

OrFault<void> unprotected_call(Cpu& cpu, uint16_t selector, uint32_t eip, OperandSize size,
                               uint32_t next_eip) {
  CpuState& state = cpu.state;
  StackFrame frame(size);
  frame.push(state.segment[kCs].selector);
  frame.push(next_eip);
  if (!inside(state.segment[kCs], eip)) return Fault::general_protection();
  TRAPLINE_TRY_LET(esp, push_frame(cpu, frame));
  state.gpr[kEsp] = esp;
  load_unprotected_cs(state, selector);
  state.eip = eip;
  return {};
}

}  // namespace

OrFault<void> far_jump(Cpu& cpu, uint16_t selector, uint32_t offset, OperandSize size,
                       uint32_t next_eip) {
  const uint32_t eip = truncate(offset, size);
  if (!uses_descriptors(cpu.state)) return unprotected_jump(cpu, selector, eip);
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (descriptor.code_or_data()) {
    TRAPLINE_TRY_LET(cs, direct_target(cpu, selector, descriptor));
    return enter(cpu, descriptor, cs, eip);
  }
  switch (descriptor.system_type()) {
    case SystemType::kCallGate16:
    case SystemType::kCallGate32:
      return jump_through_gate(cpu, selector, descriptor);
    case SystemType::kTaskGate:
    case SystemType::kTss16:
    case SystemType::kTss32:
      return transfer_to_task(
          cpu, selector, descriptor,
          {.kind = TaskSwitchKind::kJump, .next_eip = next_eip, .flags = cpu.state.eflags});
    default:
      return selector_fault(Vector::kGeneralProtection, selector);
  }
}

OrFault<void> far_call(Cpu& cpu, uint16_t selector, uint32_t offset, OperandSize size,
                       uint32_t next_eip) {
  const uint32_t eip = truncate(offset, size);
  if (!uses_descriptors(cpu.state)) return unprotected_call(cpu, selector, eip, size, next_eip);
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (descriptor.code_or_data()) {
    TRAPLINE_TRY_LET(cs, direct_target(cpu, selector, descriptor));
    return enter_with_frame(cpu, descriptor, cs, eip, size, next_eip);
  }
  switch (descriptor.system_type()) {
    case SystemType::kCallGate16:
    case SystemType::kCallGate32:
      return call_through_gate(cpu, selector, descriptor, next_eip);
    case SystemType::kTaskGate:
    case SystemType::kTss16:
    case SystemType::kTss32:
      return transfer_to_task(
          cpu, selector, descriptor,
          {.kind = TaskSwitchKind::kCall, .next_eip = next_eip, .flags = cpu.state.eflags});
    default:
      return selector_fault(Vector::kGeneralProtection, selector);
  }
}

}  // namespace trapline
