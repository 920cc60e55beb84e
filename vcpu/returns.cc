// Far returns and IRET.
#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"
#include "vcpu/flags.h"
#include "vcpu/host_access.h"
#include "vcpu/stack.h"
#include "vcpu/tasks.h"

namespace trapline {
namespace {

constexpr uint32_t bytes(OperandSize size) {
  return static_cast<uint32_t>(size);
}

// Where a return goes to in protected mode.
struct Target {
  Segment cs;
  uint32_t eip = 0;
  Descriptor descriptor;
};

// The checks of a return's CS, which are the same for RETF and IRET.
OrFault<Target> return_target(Cpu& cpu, uint16_t selector, uint32_t eip) {
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  const uint8_t level = rpl(selector);
  const bool allowed =
      descriptor.code() && level >= cpu.state.cpl &&
      (descriptor.conforming() ? descriptor.dpl() <= level : descriptor.dpl() == level);
  if (!allowed) return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  return Target{descriptor.load(selector), eip, descriptor};
}

struct OuterStack {
  Segment ss;
  Descriptor descriptor;
};

OrFault<OuterStack> outer_stack(Cpu& cpu, uint16_t selector, uint8_t level) {
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (rpl(selector) != level || !descriptor.writable_data() || descriptor.dpl() != level)
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kStackFault, selector);
  return OuterStack{descriptor.load(selector), descriptor};
}

OrFault<void> check_eip(const Target& target) {
  if (target.eip > target.cs.limit) return Fault::general_protection();
  return {};
}

// The target's ring is this one: `popped` bytes leave the stack.
OrFault<void> return_within(Cpu& cpu, const Target& target, uint32_t popped) {
  CpuState& state = cpu.state;
  TRAPLINE_TRY(check_eip(target));
  TRAPLINE_TRY(mark_accessed(cpu, target.descriptor));
  state.gpr[kEsp] = merge_sp(state.segment[kSs], state.gpr[kEsp], state.gpr[kEsp] + popped);
  state.segment[kCs] = target.cs;
  state.eip = target.eip;
  return {};
}

// The target's ring is an outer one, whose SS:ESP lie `skip` bytes above the top of the stack;
// `release` more bytes leave that stack.
OrFault<void> return_outward(Cpu& cpu, const Target& target, OperandSize size, uint32_t skip,
                             uint32_t release) {
  CpuState& state = cpu.state;
  const uint8_t level = rpl(target.cs.selector);
  std::array<uint32_t, 2> pointer;
  TRAPLINE_TRY(peek_stack(cpu, skip, size, pointer));
  TRAPLINE_TRY_LET(stack, outer_stack(cpu, static_cast<uint16_t>(pointer[1]), level));
  TRAPLINE_TRY(check_eip(target));
  TRAPLINE_TRY(mark_accessed(cpu, target.descriptor));
  TRAPLINE_TRY(mark_accessed(cpu, stack.descriptor));

  state.segment[kCs] = target.cs;
  state.eip = target.eip;
  state.cpl = level;
  state.segment[kSs] = stack.ss;
  state.gpr[kEsp] = merge_sp(stack.ss, state.gpr[kEsp], pointer[0] + release);
  null_inner_segments(state);
  return {};
}

// Real mode and V86 mode: no descriptors.
OrFault<void> return_unprotected(Cpu& cpu, uint32_t eip, uint16_t selector, uint32_t popped) {
  CpuState& state = cpu.state;
  Segment& cs = state.segment[kCs];
  if (eip > cs.limit) return Fault::general_protection();
  state.gpr[kEsp] = merge_sp(state.segment[kSs], state.gpr[kEsp], state.gpr[kEsp] + popped);
  if (state.v86())
    cs = v86_segment(selector, kCs);
  else
    load_real_segment(cs, selector, kCs);
  state.eip = eip;
  return {};
}

void end_of_iret(CpuState& state, uint32_t flags) {
  state.eflags = flags | eflags::kFixed1;
  state.shadow = InterruptShadow::kNone;
}

OrFault<void> iret_real(Cpu& cpu, OperandSize size) {
  CpuState& state = cpu.state;
  std::array<uint32_t, 3> frame;  // EIP, CS, EFLAGS.
  TRAPLINE_TRY(peek_stack(cpu, 0, size, frame));
  const uint32_t mask = changeable_flags(state, bytes(size)) & supported_flags(cpu.model);
  const uint32_t restored = size == OperandSize::k32 ? mask | eflags::kRf : mask;
  const uint32_t flags = replace_flags(state.eflags & ~eflags::kRf, frame[2], restored);
  TRAPLINE_TRY(return_unprotected(cpu, frame[0], static_cast<uint16_t>(frame[1]), 3 * bytes(size)));
  end_of_iret(state, flags);
  return {};
}

OrFault<void> iret_v86(Cpu& cpu, OperandSize size) {
  CpuState& state = cpu.state;
  const bool virtualized = virtual_if(state) && size == OperandSize::k16;
  if (state.iopl() < 3 && !virtualized) return Fault::general_protection();
  std::array<uint32_t, 3> frame;
  TRAPLINE_TRY(peek_stack(cpu, 0, size, frame));
  const uint32_t old = state.eflags & ~eflags::kRf;
  if (virtualized && !virtual_flags_allowed(old, frame[2])) return Fault::general_protection();
  const uint32_t mask = changeable_flags(state, bytes(size)) & supported_flags(cpu.model);
  const uint32_t restored = size == OperandSize::k32 ? mask | eflags::kRf : mask;
  const uint32_t flags =
      virtualized ? replace_virtual_flags(old, frame[2]) : replace_flags(old, frame[2], restored);
  TRAPLINE_TRY(return_unprotected(cpu, frame[0], static_cast<uint16_t>(frame[1]), 3 * bytes(size)));
  end_of_iret(state, flags);
  return {};
}

OrFault<void> iret_to_v86(Cpu& cpu, uint32_t eip, uint16_t cs, uint32_t image) {
  CpuState& state = cpu.state;
  std::array<uint32_t, 6> frame;  // ESP, SS, ES, DS, FS, GS.
  TRAPLINE_TRY(peek_stack(cpu, 12, OperandSize::k32, frame));
  if (eip > 0xffff) return Fault::general_protection();
  const uint32_t mask = supported_flags(cpu.model);
  constexpr SegmentName kOrder[] = {kSs, kEs, kDs, kFs, kGs};
  for (size_t i = 0; i < std::size(kOrder); ++i)
    state.segment[kOrder[i]] = v86_segment(static_cast<uint16_t>(frame[i + 1]), kOrder[i]);
  state.segment[kCs] = v86_segment(cs, kCs);
  state.gpr[kEsp] = frame[0];
  state.eip = eip;
  state.cpl = 3;
  end_of_iret(state, image & mask);
  return {};
}

uint32_t flags_after_iret(const Cpu& cpu, OperandSize size, uint32_t image) {
  const CpuState& state = cpu.state;
  const bool wide = size == OperandSize::k32;
  uint32_t mask = changeable_flags(state, bytes(size));
  if (wide) mask |= eflags::kRf;
  if (wide && state.cpl == 0) mask |= eflags::kVif | eflags::kVip;
  return replace_flags(state.eflags & ~eflags::kRf, image, mask & supported_flags(cpu.model));
}

// See KnownTransfers. False: nothing has changed.
bool iret_as_before(Cpu& cpu) {
  CpuState& state = cpu.state;
  const Segment& ss = state.segment[kSs];
  if (ss.klass != SegmentClass::kFlat || !ss.big() || alignment_checked(state)) return false;
  const std::byte* frame = cpu.memory.reach({state.gpr[kEsp]}, 12, false, Privilege::kCurrent);
  if (!frame) return false;
  const auto eip = static_cast<uint32_t>(load_sized(frame, 4));
  const auto selector = static_cast<uint16_t>(load_sized(frame + 4, 2));
  const auto image = static_cast<uint32_t>(load_sized(frame + 8, 4));
  const KnownTransfers::Target& known = cpu.known.target(selector);
  if (!known.descriptor || known.cs.selector != selector || rpl(selector) != state.cpl ||
      (image & eflags::kVm) || eip > known.cs.limit ||
      !same_descriptor(cpu, selector, known.descriptor))
    return false;
  const uint32_t flags = flags_after_iret(cpu, OperandSize::k32, image);
  state.gpr[kEsp] += 12;
  state.segment[kCs] = known.cs;
  state.eip = eip;
  end_of_iret(state, flags);
  return true;
}

void remember_target(Cpu& cpu, const Target& target) {
  const uint16_t selector = target.cs.selector;
  if ((selector & kSelectorTableBit) || !(target.descriptor.attributes() & segment::kAccessed))
    return;
  cpu.known.target(selector) = {target.descriptor.raw, target.cs};
}

}  // namespace

OrFault<void> far_return(Cpu& cpu, OperandSize size, uint16_t release) {
  std::array<uint32_t, 2> pointer;  // EIP, CS.
  TRAPLINE_TRY(peek_stack(cpu, 0, size, pointer));
  const auto selector = static_cast<uint16_t>(pointer[1]);
  const uint32_t popped = 2 * bytes(size) + release;
  if (!uses_descriptors(cpu.state)) return return_unprotected(cpu, pointer[0], selector, popped);
  TRAPLINE_TRY_LET(target, return_target(cpu, selector, pointer[0]));
  if (rpl(selector) == cpu.state.cpl) return return_within(cpu, target, popped);
  return return_outward(cpu, target, size, popped, release);
}

OrFault<void> iret(Cpu& cpu, OperandSize size, uint32_t next_eip) {
  CpuState& state = cpu.state;
  state.nmi_blocked = false;  // Also when it faults.
  if (!state.protected_mode()) return iret_real(cpu, size);
  if (state.v86()) return iret_v86(cpu, size);
  if (state.eflags & eflags::kNt) return return_from_task(cpu, next_eip);
  const bool wide = size == OperandSize::k32;
  if (wide && iret_as_before(cpu)) return {};

  std::array<uint32_t, 3> frame;  // EIP, CS, EFLAGS.
  TRAPLINE_TRY(peek_stack(cpu, 0, size, frame));
  const auto selector = static_cast<uint16_t>(frame[1]);
  if (wide && (frame[2] & eflags::kVm) && state.cpl == 0)
    return iret_to_v86(cpu, frame[0], selector, frame[2]);

  const uint32_t flags = flags_after_iret(cpu, size, frame[2]);
  TRAPLINE_TRY_LET(target, return_target(cpu, selector, frame[0]));
  if (rpl(selector) == state.cpl) {
    TRAPLINE_TRY(return_within(cpu, target, 3 * bytes(size)));
    remember_target(cpu, target);
  } else {
    TRAPLINE_TRY(return_outward(cpu, target, size, 3 * bytes(size), 0));
  }
  end_of_iret(state, flags);
  return {};
}

}  // namespace trapline
