#include "vcpu/tasks.h"

#include <array>

#include "vcpu/flags.h"
#include "vcpu/host_access.h"
#include "vcpu/stack.h"

namespace trapline {
namespace {

constexpr uint32_t kDr6TaskSwitch = 1u << 15;
constexpr uint32_t kDr7LocalEnables = 0x155;
constexpr uint16_t kWideTss = 8;  // The type's bit that tells 32-bit from 16-bit.

bool wide(const Descriptor& tss) {
  return tss.type() & kWideTss;
}
bool wide(const Segment& tr) {
  return tr.attributes & kWideTss;
}

// Where the fields of a TSS lie. Registers in the order of Gpr, selectors in that of SegmentName;
// the 16-bit one has four of them.
struct Layout {
  uint32_t step, eip, flags, registers, selectors, ldt, min_limit;
  uint32_t selector_count;
};
constexpr Layout kLayout32 = {4, 0x20, 0x24, 0x28, 0x48, 0x60, 0x67, 6};
constexpr Layout kLayout16 = {2, 0x0e, 0x10, 0x12, 0x22, 0x2a, 0x2b, 4};
constexpr uint32_t kCr3Offset = 0x1c;
constexpr uint32_t kTrapOffset = 0x64;

const Layout& layout(bool is_wide) {
  return is_wide ? kLayout32 : kLayout16;
}

struct TaskImage {
  uint32_t cr3 = 0;
  uint32_t eip = 0;
  uint32_t flags = 0;
  std::array<uint32_t, 8> gpr{};
  std::array<uint16_t, kSegmentCount> selector{};
  uint16_t ldt = 0;
  bool trap = false;
};

OrFault<TaskImage> read_task(Cpu& cpu, const Descriptor& tss) {
  const Layout& at = layout(wide(tss));
  const Linear base{tss.base()};
  const std::byte* host = cpu.memory.reach(base, at.min_limit + 1, false, Privilege::kSystem);
  const auto field = [&](uint32_t offset) -> OrFault<uint64_t> {
    if (!host) return cpu.memory.read(base + offset, at.step, Privilege::kSystem);
    return load_sized(host + offset, at.step);
  };
  TaskImage image;
  TRAPLINE_TRY_LET(eip, field(at.eip));
  TRAPLINE_TRY_LET(flags, field(at.flags));
  TRAPLINE_TRY_LET(ldt, field(at.ldt));
  image.eip = static_cast<uint32_t>(eip);
  image.flags = static_cast<uint32_t>(flags);
  image.ldt = static_cast<uint16_t>(ldt);
  for (uint32_t i = 0; i < 8; ++i) {
    TRAPLINE_TRY_LET(value, field(at.registers + i * at.step));
    image.gpr[i] = static_cast<uint32_t>(value) | (wide(tss) ? 0 : 0xffff0000u);
  }
  for (uint32_t i = 0; i < at.selector_count; ++i) {
    TRAPLINE_TRY_LET(value, field(at.selectors + i * at.step));
    image.selector[i] = static_cast<uint16_t>(value);
  }
  if (!wide(tss)) return image;
  TRAPLINE_TRY_LET(cr3, field(kCr3Offset));
  TRAPLINE_TRY_LET(trap, field(kTrapOffset));
  image.cr3 = static_cast<uint32_t>(cr3);
  image.trap = trap & 1;
  return image;
}

// Everything the switch will write in the old task's world, so that it cannot fault half-way.
OrFault<void> probe(Cpu& cpu, const Descriptor& tss, const TaskSwitch& how) {
  const Segment& tr = cpu.state.tr;
  const Layout& old = layout(wide(tr));
  const uint32_t saved = old.selectors + old.selector_count * old.step - old.eip;
  const auto writable = [&](Linear address, uint32_t size) {
    return cpu.memory.probe_write(address, size, Privilege::kSystem);
  };
  if (old.eip + saved - 1 > tr.limit)
    return selector_fault(Vector::kInvalidTss, tr.selector, how.ext);
  TRAPLINE_TRY(writable({tr.base + old.eip}, saved));
  TRAPLINE_TRY(writable({cpu.state.gdtr.base + (tr.selector & ~7u) + kAccessByteOffset}, 1));
  TRAPLINE_TRY(writable(tss.address + kAccessByteOffset, 1));
  return writable({tss.base()}, 2);
}

OrFault<void> save_task(Cpu& cpu, const TaskSwitch& how) {
  const CpuState& state = cpu.state;
  const Layout& at = layout(wide(state.tr));
  const Linear base{state.tr.base};
  std::byte* host = cpu.memory.reach(base, at.min_limit + 1, true, Privilege::kSystem);
  const auto put = [&](uint32_t offset, uint32_t size, uint32_t value) -> OrFault<void> {
    if (!host) return cpu.memory.write(base + offset, size, value, Privilege::kSystem);
    store_sized(host + offset, size, value);
    return {};
  };
  const bool returns = how.kind == TaskSwitchKind::kReturn;
  TRAPLINE_TRY(put(at.eip, at.step, how.next_eip));
  TRAPLINE_TRY(put(at.flags, at.step, returns ? how.flags & ~eflags::kNt : how.flags));
  for (uint32_t i = 0; i < 8; ++i)
    TRAPLINE_TRY(put(at.registers + i * at.step, at.step, state.gpr[i]));
  for (uint32_t i = 0; i < at.selector_count; ++i)
    TRAPLINE_TRY(put(at.selectors + i * at.step, 2, state.segment[i].selector));
  return {};
}

// The busy bits and the link between the two tasks.
OrFault<void> link_tasks(Cpu& cpu, const Descriptor& tss, const TaskSwitch& how) {
  const Segment& tr = cpu.state.tr;
  const bool nests = how.kind == TaskSwitchKind::kCall || how.kind == TaskSwitchKind::kInterrupt;
  if (!nests) {
    const Linear access{cpu.state.gdtr.base + (tr.selector & ~7u) + kAccessByteOffset};
    // The rest of the descriptor may have changed since it was loaded.
    TRAPLINE_TRY_LET(now, cpu.memory.read(access, 1, Privilege::kSystem));
    TRAPLINE_TRY(cpu.memory.write(access, 1, now & ~uint64_t{tss::kBusy}, Privilege::kSystem));
  }
  if (how.kind != TaskSwitchKind::kReturn)
    TRAPLINE_TRY(cpu.memory.write(tss.address + kAccessByteOffset, 1,
                                  (tss.attributes() & 0xff) | tss::kBusy, Privilege::kSystem));
  if (nests) TRAPLINE_TRY(cpu.memory.write({tss.base()}, 2, tr.selector, Privilege::kSystem));
  return {};
}

// --- The new task's segments. Faults from here on are the new task's. ----------------------------

Fault invalid(uint16_t selector, uint32_t ext) {
  return selector_fault(Vector::kInvalidTss, selector, ext);
}

OrFault<void> load_task_ldt(Cpu& cpu, uint16_t selector, uint32_t ext) {
  cpu.state.ldtr = Segment{};
  cpu.state.ldtr.selector = selector;
  if (null_selector(selector)) return {};
  if (selector & kSelectorTableBit) return invalid(selector, ext);
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kInvalidTss, ext));
  if (descriptor.code_or_data() || descriptor.system_type() != SystemType::kLdt ||
      !descriptor.present())
    return invalid(selector, ext);
  cpu.state.ldtr = descriptor.load(selector);
  return {};
}

bool acceptable(const CpuState& state, SegmentName name, uint16_t selector,
                const Descriptor& descriptor) {
  const uint8_t level = rpl(selector);
  switch (name) {
    case kCs:
      return descriptor.code() &&
             (descriptor.conforming() ? descriptor.dpl() <= level : descriptor.dpl() == level);
    case kSs:
      return descriptor.writable_data() && level == state.cpl && descriptor.dpl() == state.cpl;
    default:
      return descriptor.readable() &&
             ((descriptor.code() && descriptor.conforming()) ||
              (level <= descriptor.dpl() && state.cpl <= descriptor.dpl()));
  }
}

OrFault<void> load_task_segment(Cpu& cpu, SegmentName name, uint32_t ext) {
  CpuState& state = cpu.state;
  const uint16_t selector = state.segment[name].selector;
  if (null_selector(selector)) {
    if (name == kCs || name == kSs) return invalid(selector, ext);
    return {};
  }
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kInvalidTss, ext));
  if (!acceptable(state, name, selector, descriptor)) return invalid(selector, ext);
  if (!descriptor.present()) {
    return selector_fault(name == kSs ? Vector::kStackFault : Vector::kSegmentNotPresent, selector,
                          ext);
  }
  TRAPLINE_TRY(mark_accessed(cpu, descriptor));
  state.segment[name] = descriptor.load(selector);
  return {};
}

OrFault<void> load_task_segments(Cpu& cpu, uint16_t ldt, uint32_t ext) {
  TRAPLINE_TRY(load_task_ldt(cpu, ldt, ext));
  if (cpu.state.v86()) return {};
  for (SegmentName name : {kCs, kSs, kDs, kEs, kFs, kGs})
    TRAPLINE_TRY(load_task_segment(cpu, name, ext));
  return {};
}

void take_image(Cpu& cpu, const TaskImage& image, const TaskSwitch& how) {
  CpuState& state = cpu.state;
  state.eip = image.eip;
  state.eflags = (image.flags & supported_flags(cpu.model)) | eflags::kFixed1;
  if (how.kind == TaskSwitchKind::kCall || how.kind == TaskSwitchKind::kInterrupt)
    state.eflags |= eflags::kNt;
  state.gpr = image.gpr;
  state.cr0 |= cr0::kTs;
  state.dr[7] &= ~kDr7LocalEnables;
  state.cpl = state.v86() ? 3 : rpl(image.selector[kCs]);
  for (int i = 0; i < kSegmentCount; ++i) {
    const auto name = static_cast<SegmentName>(i);
    Segment unloaded;
    unloaded.selector = image.selector[i];
    state.segment[i] = state.v86() ? v86_segment(image.selector[i], name) : unloaded;
  }
}

OrFault<void> load_task_cr3(Cpu& cpu, const Descriptor& tss, uint32_t cr3) {
  if (!wide(tss) || !cpu.state.paging() || cr3 == cpu.state.cr3) return {};
  const uint8_t cpl = cpu.state.cpl;
  cpu.state.cpl = 0;  // The switch may load it, whoever asked.
  const OrFault<void> result = write_cr3(cpu, cr3);
  cpu.state.cpl = cpl;
  return result;
}

OrFault<void> push_error_code(Cpu& cpu, const Descriptor& tss, const TaskSwitch& how) {
  if (!how.error_code) return {};
  CpuState& state = cpu.state;
  StackFrame frame(wide(tss) ? OperandSize::k32 : OperandSize::k16);
  frame.push(*how.error_code);
  TRAPLINE_TRY_LET(
      esp,
      push_frame(cpu, frame, {state.segment[kSs], state.gpr[kEsp], Privilege::kCurrent, how.ext}));
  state.gpr[kEsp] = esp;
  return {};
}

OrFault<void> switch_task(Cpu& cpu, uint16_t selector, const Descriptor& tss,
                          const TaskSwitch& how) {
  CpuState& state = cpu.state;
  if (tss.limit() < layout(wide(tss)).min_limit) return invalid(selector, how.ext);
  TRAPLINE_TRY(probe(cpu, tss, how));
  TRAPLINE_TRY_LET(image, read_task(cpu, tss));
  TRAPLINE_TRY(save_task(cpu, how));
  TRAPLINE_TRY(link_tasks(cpu, tss, how));

  state.tr = tss.load(selector);
  state.tr.attributes |= tss::kBusy;
  take_image(cpu, image, how);
  TRAPLINE_TRY(load_task_cr3(cpu, tss, image.cr3));
  TRAPLINE_TRY(load_task_segments(cpu, image.ldt, how.ext));
  TRAPLINE_TRY(push_error_code(cpu, tss, how));
  if (state.eip > state.segment[kCs].limit) return Fault::general_protection(how.ext);
  if (!image.trap) return {};
  state.dr[6] |= kDr6TaskSwitch;
  return Fault::plain(Vector::kDebug);
}

// --- Finding the new task ------------------------------------------------------------------------

OrFault<Descriptor> available_tss(Cpu& cpu, uint16_t selector, uint32_t ext) {
  const Fault bad = selector_fault(Vector::kGeneralProtection, selector, ext);
  if (selector & kSelectorTableBit) return bad;
  TRAPLINE_TRY_LET(tss, read_descriptor(cpu, selector, Vector::kGeneralProtection, ext));
  const SystemType type = tss.system_type();
  if (tss.code_or_data() || (type != SystemType::kTss16 && type != SystemType::kTss32)) return bad;
  if (!tss.present()) return selector_fault(Vector::kSegmentNotPresent, selector, ext);
  return tss;
}

}  // namespace

OrFault<void> transfer_to_task(Cpu& cpu, uint16_t selector, const Descriptor& descriptor,
                               const TaskSwitch& how) {
  if (descriptor.dpl() < cpu.state.cpl || descriptor.dpl() < rpl(selector))
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  if (descriptor.system_type() != SystemType::kTaskGate)
    return selector & kSelectorTableBit ? selector_fault(Vector::kGeneralProtection, selector)
                                        : switch_task(cpu, selector, descriptor, how);
  const uint16_t target = descriptor.gate_selector();
  TRAPLINE_TRY_LET(tss, available_tss(cpu, target, 0));
  return switch_task(cpu, target, tss, how);
}

OrFault<void> interrupt_to_task(Cpu& cpu, const Descriptor& gate, const TaskSwitch& how) {
  const uint16_t target = gate.gate_selector();
  TRAPLINE_TRY_LET(tss, available_tss(cpu, target, how.ext));
  return switch_task(cpu, target, tss, how);
}

OrFault<void> return_from_task(Cpu& cpu, uint32_t next_eip) {
  CpuState& state = cpu.state;
  TRAPLINE_TRY_LET(link, cpu.memory.read({state.tr.base}, 2, Privilege::kSystem));
  const auto selector = static_cast<uint16_t>(link);
  if (selector & kSelectorTableBit) return invalid(selector, 0);
  TRAPLINE_TRY_LET(tss, read_descriptor(cpu, selector, Vector::kInvalidTss));
  const SystemType type = tss.system_type();
  if (tss.code_or_data() || (type != SystemType::kTss16Busy && type != SystemType::kTss32Busy))
    return invalid(selector, 0);
  if (!tss.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  const TaskSwitch how{
      .kind = TaskSwitchKind::kReturn, .next_eip = next_eip, .flags = state.eflags};
  TRAPLINE_TRY(switch_task(cpu, selector, tss, how));
  state.shadow = InterruptShadow::kNone;
  return {};
}

}  // namespace trapline
