// Exceptions and interrupts: through the IDT, the IVT, or a V86 task's redirection.
#include "vcpu/cpu.h"
#include "vcpu/debug_registers.h"
#include "vcpu/descriptor.h"
#include "vcpu/flags.h"
#include "vcpu/host_access.h"
#include "vcpu/stack.h"
#include "vcpu/tasks.h"

namespace trapline {
namespace {

// One event on its way into its handler.
struct Event {
  uint8_t vector = 0;
  bool software = false;  ///< INT n, INT3, INTO: the gate's DPL counts, EXT is clear.
  bool has_error_code = false;
  uint32_t error_code = 0;
  uint32_t eip = 0;    ///< To be pushed, with
  uint32_t flags = 0;  ///< these flags.

  uint32_t ext() const { return software ? 0 : 1; }
};

// What every delivery ends with.
void enter_handler(CpuState& state, uint32_t cleared_flags) {
  state.eflags &= ~(cleared_flags | eflags::kTf | eflags::kRf);
  state.shadow = InterruptShadow::kNone;
  state.halted = false;
}

OrFault<Descriptor> read_gate(Cpu& cpu, const Event& event) {
  const CpuState& state = cpu.state;
  const uint32_t offset = event.vector * 8u;
  const uint32_t error = offset | 2 | event.ext();
  if (offset + 7 > state.idtr.limit) return Fault::general_protection(error);
  const Linear address{state.idtr.base + offset};
  TRAPLINE_TRY_LET(raw, cpu.memory.read(address, 8, Privilege::kSystem));
  const Descriptor gate{raw, address};

  constexpr uint32_t kGateTypes = 1u << 5 | 1u << 6 | 1u << 7 | 1u << 14 | 1u << 15;
  if (gate.code_or_data() || !(kGateTypes >> gate.type() & 1))
    return Fault::general_protection(error);
  if (event.software && gate.dpl() < state.cpl) return Fault::general_protection(error);
  if (!gate.present()) return Fault::with_error(Vector::kSegmentNotPresent, error);
  return gate;
}

OrFault<Descriptor> read_handler(Cpu& cpu, const Descriptor& gate, uint32_t ext) {
  const uint16_t selector = gate.gate_selector();
  if (null_selector(selector)) return Fault::general_protection(ext);
  TRAPLINE_TRY_LET(code, read_descriptor(cpu, selector, Vector::kGeneralProtection, ext));
  if (!code.code() || code.dpl() > cpu.state.cpl)
    return selector_fault(Vector::kGeneralProtection, selector, ext);
  if (!code.present()) return selector_fault(Vector::kSegmentNotPresent, selector, ext);
  // V86 code can only be left for ring 0.
  if (cpu.state.v86() && (code.conforming() || code.dpl() != 0))
    return selector_fault(Vector::kGeneralProtection, selector, ext);
  return code;
}

void push_return(const CpuState& state, const Event& event, StackFrame& frame) {
  frame.push(event.flags);
  frame.push(state.segment[kCs].selector);
  frame.push(event.eip);
  if (event.has_error_code) frame.push(event.error_code);
}

void push_v86_segments(const CpuState& state, StackFrame& frame) {
  for (SegmentName name : {kGs, kFs, kDs, kEs}) frame.push(state.segment[name].selector);
}

OrFault<void> deliver_to_inner(Cpu& cpu, const Event& event, const Descriptor& gate,
                               const Descriptor& code, StackFrame& frame) {
  CpuState& state = cpu.state;
  const uint32_t ext = event.ext();
  const uint8_t level = code.dpl();
  const bool from_v86 = state.v86();
  TRAPLINE_TRY_LET(stack, load_inner_stack(cpu, level, ext));
  const Segment cs = code.load(with_rpl(gate.gate_selector(), level));
  const StackPlace place{stack.ss, stack.esp, Privilege::kInnerStack,
                         (stack.ss.selector & 0xfffcu) | ext};
  if (from_v86) push_v86_segments(state, frame);
  frame.push(state.segment[kSs].selector);
  frame.push(state.gpr[kEsp]);
  push_return(state, event, frame);
  TRAPLINE_TRY(check_frame(frame, place));
  if (gate.gate_offset() > cs.limit) return Fault::general_protection(ext);
  TRAPLINE_TRY(mark_accessed(cpu, stack.descriptor));
  TRAPLINE_TRY(mark_accessed(cpu, code));
  TRAPLINE_TRY_LET(esp, write_frame(cpu, frame, place));

  if (from_v86)
    for (SegmentName name : {kGs, kFs, kDs, kEs}) state.segment[name] = Segment{};
  state.segment[kSs] = stack.ss;
  state.gpr[kEsp] = esp;
  state.segment[kCs] = cs;
  state.cpl = level;
  return {};
}

// Pushes of a delivery that stays in ring 3 are checked like others.
OrFault<void> check_alignment(const CpuState& state, const StackFrame& frame, uint32_t ext) {
  const uint32_t top = state.segment[kSs].base + state.gpr[kEsp];
  if ((top & (frame.size - 1)) && alignment_checked(state))
    return Fault::with_error(Vector::kAlignment, ext);
  return {};
}

OrFault<void> deliver_to_same(Cpu& cpu, const Event& event, const Descriptor& gate,
                              const Descriptor& code, StackFrame& frame) {
  CpuState& state = cpu.state;
  const uint32_t ext = event.ext();
  const Segment cs = code.load(with_rpl(gate.gate_selector(), state.cpl));
  const StackPlace place{state.segment[kSs], state.gpr[kEsp], Privilege::kCurrent, ext};
  push_return(state, event, frame);
  TRAPLINE_TRY(check_frame(frame, place));
  if (gate.gate_offset() > cs.limit) return Fault::general_protection(ext);
  TRAPLINE_TRY(check_alignment(state, frame, ext));
  TRAPLINE_TRY(mark_accessed(cpu, code));
  TRAPLINE_TRY_LET(esp, write_frame(cpu, frame, place));
  state.gpr[kEsp] = esp;
  state.segment[kCs] = cs;
  return {};
}

/// Flat, and with nothing to check but its pages.
bool plain_stack(const CpuState& state) {
  const Segment& ss = state.segment[kSs];
  return ss.klass == SegmentClass::kFlat && ss.big() && !alignment_checked(state);
}

// See KnownTransfers. False: nothing has changed.
bool deliver_as_before(Cpu& cpu, const Event& event) {
  CpuState& state = cpu.state;
  const KnownTransfers::Handler& known = cpu.known.handler(event.vector);
  const uint32_t offset = event.vector * 8u;
  if (offset + 7 > state.idtr.limit || known.cpl != state.cpl || state.v86() || !plain_stack(state))
    return false;
  const std::byte* raw = cpu.memory.reach({state.idtr.base + offset}, 8, false, Privilege::kSystem);
  if (!raw || load_sized(raw, 8) != known.gate) return false;
  const Descriptor gate{known.gate, {}};
  if (!gate.present() || (event.software && gate.dpl() < state.cpl) ||
      !same_descriptor(cpu, gate.gate_selector(), known.descriptor))
    return false;
  const uint32_t total = event.has_error_code ? 16 : 12;
  const uint32_t bottom = state.gpr[kEsp] - total;
  std::byte* frame = cpu.memory.reach({bottom}, total, true, Privilege::kCurrent);
  if (!frame) return false;
  if (event.has_error_code) {
    store_sized(frame, 4, event.error_code);
    frame += 4;
  }
  store_sized(frame, 4, event.eip);
  store_sized(frame + 4, 4, state.segment[kCs].selector);
  store_sized(frame + 8, 4, event.flags);
  state.gpr[kEsp] = bottom;
  state.segment[kCs] = known.cs;
  state.eip = gate.gate_offset();
  enter_handler(state, eflags::kNt | eflags::kVm | (gate.type() & 1 ? 0u : eflags::kIf));
  return true;
}

void remember_handler(Cpu& cpu, const Event& event, const Descriptor& gate,
                      const Descriptor& code) {
  const bool known = gate.gate32() && !(gate.gate_selector() & kSelectorTableBit) &&
                     (code.attributes() & segment::kAccessed);
  if (!known || cpu.state.v86()) return;
  cpu.known.handler(event.vector) = {gate.raw, code.raw, cpu.state.cpl, cpu.state.segment[kCs]};
}

OrFault<void> deliver_protected(Cpu& cpu, const Event& event) {
  if (deliver_as_before(cpu, event)) return {};
  CpuState& state = cpu.state;
  TRAPLINE_TRY_LET(gate, read_gate(cpu, event));
  if (gate.system_type() == SystemType::kTaskGate) {
    TaskSwitch how{.kind = TaskSwitchKind::kInterrupt,
                   .next_eip = event.eip,
                   .flags = event.flags,
                   .ext = event.ext()};
    if (event.has_error_code) how.error_code = event.error_code;
    TRAPLINE_TRY(interrupt_to_task(cpu, gate, how));
    state.shadow = InterruptShadow::kNone;
    state.halted = false;
    return {};
  }

  TRAPLINE_TRY_LET(code, read_handler(cpu, gate, event.ext()));
  StackFrame frame(gate.gate32() ? OperandSize::k32 : OperandSize::k16);
  if (!code.conforming() && code.dpl() < state.cpl)
    TRAPLINE_TRY(deliver_to_inner(cpu, event, gate, code, frame));
  else {
    TRAPLINE_TRY(deliver_to_same(cpu, event, gate, code, frame));
    remember_handler(cpu, event, gate, code);
  }
  state.eip = gate.gate_offset();
  const bool trap = gate.type() & 1;
  enter_handler(state, eflags::kNt | eflags::kVm | (trap ? 0u : eflags::kIf));
  return {};
}

// The IVT's way, in real mode and for a redirected INT n of a V86 task.
OrFault<void> deliver_through_ivt(Cpu& cpu, const Event& event, Linear table) {
  CpuState& state = cpu.state;
  TRAPLINE_TRY_LET(entry, cpu.memory.read(table + event.vector * 4u, 4,
                                          state.v86() ? Privilege::kUser : Privilege::kSystem));
  StackFrame frame(OperandSize::k16);
  frame.push(event.flags);
  frame.push(state.segment[kCs].selector);
  frame.push(event.eip);
  TRAPLINE_TRY(check_alignment(state, frame, event.ext()));
  TRAPLINE_TRY_LET(
      esp, push_frame(cpu, frame, {state.segment[kSs], state.gpr[kEsp], Privilege::kCurrent, 0}));
  const auto selector = static_cast<uint16_t>(entry >> 16);
  state.gpr[kEsp] = esp;
  if (state.v86())
    state.segment[kCs] = v86_segment(selector, kCs);
  else
    load_real_segment(state.segment[kCs], selector, kCs);
  state.eip = entry & 0xffff;
  return {};
}

OrFault<void> deliver_real(Cpu& cpu, const Event& event) {
  CpuState& state = cpu.state;
  if (event.vector * 4u + 3 > state.idtr.limit)
    return Fault::general_protection(event.vector * 8u | 2 | event.ext());
  TRAPLINE_TRY(deliver_through_ivt(cpu, event, {state.idtr.base}));
  enter_handler(state, eflags::kIf | eflags::kAc);
  return {};
}

/// The handler of a debug exception may use the debug registers.
void lift_debug_guard(CpuState& state, Vector vector) {
  if (vector == Vector::kDebug) state.dr[7] &= ~dr7::kGeneralDetect;
}

OrFault<void> deliver(Cpu& cpu, const Event& event) {
  return cpu.state.protected_mode() ? deliver_protected(cpu, event) : deliver_real(cpu, event);
}

bool contributory(Vector vector) {
  switch (vector) {
    case Vector::kDivide:
    case Vector::kInvalidTss:
    case Vector::kSegmentNotPresent:
    case Vector::kStackFault:
    case Vector::kGeneralProtection:
      return true;
    default:
      return false;
  }
}

// Whether a fault met while delivering another makes a double fault of them.
bool doubles(Vector first, Vector second) {
  if (contributory(first)) return contributory(second);
  if (first == Vector::kPageFault) return contributory(second) || second == Vector::kPageFault;
  return false;
}

Event event_of(const CpuState& state, const Fault& fault) {
  Event event;
  event.vector = static_cast<uint8_t>(fault.vector);
  event.has_error_code = fault.has_error_code;
  event.error_code = fault.error_code;
  event.eip = state.eip;
  // Restarting must not meet the same instruction breakpoint again. #DB itself and aborts push
  // what there is.
  const bool restarts = fault.vector != Vector::kDebug && fault.vector != Vector::kDoubleFault &&
                        fault.vector != Vector::kMachineCheck;
  event.flags = restarts ? state.eflags | eflags::kRf : state.eflags;
  return event;
}

Delivered deliver_or_escalate(Cpu& cpu, const Event& event) {
  const OrFault<void> result = deliver(cpu, event);
  return result.ok() ? Delivered::kOk : deliver_fault(cpu, result.fault());
}

Event plain_event(const CpuState& state, uint8_t vector) {
  Event event;
  event.vector = vector;
  event.eip = state.eip;
  event.flags = state.eflags;
  return event;
}

// CR4.VME: whether the bit map below the I/O permission map keeps this INT n in the V86 task.
OrFault<bool> redirected(Cpu& cpu, uint8_t vector) {
  constexpr uint32_t kMapBaseOffset = 0x66;
  constexpr uint32_t kMapBytes = 32;
  const Segment& tr = cpu.state.tr;
  if (tr.limit < kMapBaseOffset + 1) return Fault::general_protection();
  TRAPLINE_TRY_LET(io_map, cpu.memory.read({tr.base + kMapBaseOffset}, 2, Privilege::kSystem));
  if (io_map < kMapBytes) return Fault::general_protection();
  const auto offset = static_cast<uint32_t>(io_map - kMapBytes + vector / 8);
  if (offset > tr.limit) return Fault::general_protection();
  TRAPLINE_TRY_LET(bits, cpu.memory.read({tr.base + offset}, 1, Privilege::kSystem));
  return !(bits >> (vector & 7) & 1);
}

OrFault<void> redirect_interrupt(Cpu& cpu, const Event& event) {
  CpuState& state = cpu.state;
  Event shown = event;
  const bool virtualized = state.iopl() < 3;
  if (virtualized) {
    shown.flags = (event.flags & ~eflags::kIf) | eflags::kIopl;
    if (event.flags & eflags::kVif) shown.flags |= eflags::kIf;
  }
  TRAPLINE_TRY(deliver_through_ivt(cpu, shown, {0}));
  enter_handler(state, virtualized ? eflags::kVif : eflags::kIf);
  return {};
}

}  // namespace

Delivered deliver_fault(Cpu& cpu, const Fault& fault) {
  Fault current = fault;
  // #AC for the frame of #AC's own handler would come for ever: the machine is as good as shut
  // down.
  constexpr int kEnough = 16;
  for (int attempt = 0; attempt < kEnough; ++attempt) {
    if (current.vector == Vector::kPageFault) cpu.state.cr2 = current.linear;
    lift_debug_guard(cpu.state, current.vector);
    const OrFault<void> result = deliver(cpu, event_of(cpu.state, current));
    if (result.ok()) return Delivered::kOk;
    const Fault& next = result.fault();
    // A debug exception is the task's that the gate has led to.
    if (current.vector == Vector::kDoubleFault && next.vector != Vector::kDebug)
      return Delivered::kTripleFault;
    if (!doubles(current.vector, next.vector)) {
      current = next;
      continue;
    }
    if (next.vector == Vector::kPageFault) cpu.state.cr2 = next.linear;
    current = Fault::with_error(Vector::kDoubleFault, 0);
  }
  return Delivered::kTripleFault;
}

OrFault<void> software_interrupt(Cpu& cpu, uint8_t vector, uint32_t next_eip,
                                 SoftwareInterrupt form) {
  CpuState& state = cpu.state;
  Event event = plain_event(state, vector);
  event.software = form != SoftwareInterrupt::kInt1;
  event.eip = next_eip;
  event.flags &= ~eflags::kRf;
  if (state.v86() && form == SoftwareInterrupt::kIntN) {
    if (state.cr4 & cr4::kVme) {
      TRAPLINE_TRY_LET(stays, redirected(cpu, vector));
      if (stays) return redirect_interrupt(cpu, event);
    }
    if (state.iopl() < 3) return Fault::general_protection();
  }
  return deliver(cpu, event);
}

Delivered deliver_trap(Cpu& cpu, Vector vector) {
  lift_debug_guard(cpu.state, vector);
  return deliver_or_escalate(cpu, plain_event(cpu.state, static_cast<uint8_t>(vector)));
}

Delivered deliver_interrupt(Cpu& cpu, uint8_t vector) {
  return deliver_or_escalate(cpu, plain_event(cpu.state, vector));
}

Delivered deliver_nmi(Cpu& cpu) {
  cpu.state.nmi_blocked = true;
  return deliver_or_escalate(cpu, plain_event(cpu.state, static_cast<uint8_t>(Vector::kNmi)));
}

}  // namespace trapline
