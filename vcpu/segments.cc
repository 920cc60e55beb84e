#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"
#include "vcpu/host_access.h"

namespace trapline {
namespace {

OrFault<void> load_stack_segment(Cpu& cpu, uint16_t selector) {
  CpuState& state = cpu.state;
  if (null_selector(selector)) return Fault::general_protection();
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (rpl(selector) != state.cpl || !descriptor.writable_data() || descriptor.dpl() != state.cpl)
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kStackFault, selector);
  TRAPLINE_TRY(mark_accessed(cpu, descriptor));
  state.segment[kSs] = descriptor.load(selector);
  return {};
}

OrFault<void> load_data_segment(Cpu& cpu, SegmentName name, uint16_t selector) {
  CpuState& state = cpu.state;
  if (null_selector(selector)) {
    state.segment[name] = Segment{};
    state.segment[name].selector = selector;
    return {};
  }
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (!descriptor.readable()) return selector_fault(Vector::kGeneralProtection, selector);
  const bool any_level = descriptor.code() && descriptor.conforming();
  if (!any_level && (rpl(selector) > descriptor.dpl() || state.cpl > descriptor.dpl()))
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  TRAPLINE_TRY(mark_accessed(cpu, descriptor));
  state.segment[name] = descriptor.load(selector);
  return {};
}

}  // namespace

Segment v86_segment(uint16_t selector, SegmentName name) {
  Segment segment = Segment::real(selector, name == kCs);
  segment.attributes |= segment::kDplMask;
  return segment;
}

void load_real_segment(Segment& segment, uint16_t selector, SegmentName name) {
  constexpr uint32_t kKept = segment::kBig | segment::kGranularity;
  const Segment fresh = Segment::real(selector, name == kCs);
  if (segment.unusable()) {
    segment = fresh;
    return;
  }
  segment.base = fresh.base;
  segment.selector = selector;
  segment.attributes = (segment.attributes & kKept) | fresh.attributes;
  segment.derive();
}

void null_inner_segments(CpuState& state) {
  for (SegmentName name : {kEs, kDs, kFs, kGs}) {
    Segment& segment = state.segment[name];
    const bool conforming_code = segment.code() && (segment.attributes & segment::kConforming);
    // A null selector loses its RPL as well.
    if (segment.unusable() || (!conforming_code && segment.dpl() < state.cpl)) segment = Segment{};
  }
}

OrFault<Linear> check_segment(const CpuState& state, SegmentName name, uint32_t offset,
                              uint32_t size, SegmentAccess access, uint32_t aligned_to) {
  const Segment& segment = state.segment[name];
  // In real mode and V86 mode any segment may be read and written.
  const bool allowed = !uses_descriptors(state)         ? !segment.unusable()
                       : access == SegmentAccess::kRead ? segment.readable()
                                                        : segment.writable();
  if (!allowed || !within_limit(segment, offset, size)) {
    return Fault::with_error(name == kSs ? Vector::kStackFault : Vector::kGeneralProtection, 0);
  }
  const Linear linear{segment.base + offset};
  if (aligned_to > 1 && (linear.value & (aligned_to - 1)) && alignment_checked(state))
    return Fault::with_error(Vector::kAlignment, 0);
  return linear;
}

OrFault<void> load_segment(Cpu& cpu, SegmentName name, uint16_t selector) {
  CpuState& state = cpu.state;
  if (uses_descriptors(state)) {
    return name == kSs ? load_stack_segment(cpu, selector) : load_data_segment(cpu, name, selector);
  }
  if (state.v86())
    state.segment[name] = v86_segment(selector, name);
  else
    load_real_segment(state.segment[name], selector, name);
  return {};
}

OrFault<void> load_ldtr(Cpu& cpu, uint16_t selector) {
  if (cpu.state.cpl != 0) return Fault::general_protection();
  if (selector & kSelectorTableBit) return selector_fault(Vector::kGeneralProtection, selector);
  if (null_selector(selector)) {
    cpu.state.ldtr = Segment{};
    cpu.state.ldtr.selector = selector;
    return {};
  }
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  if (descriptor.code_or_data() || descriptor.system_type() != SystemType::kLdt)
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  cpu.state.ldtr = descriptor.load(selector);
  return {};
}

OrFault<void> load_tr(Cpu& cpu, uint16_t selector) {
  if (cpu.state.cpl != 0 || null_selector(selector)) return Fault::general_protection();
  if (selector & kSelectorTableBit) return selector_fault(Vector::kGeneralProtection, selector);
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kGeneralProtection));
  const SystemType type = descriptor.system_type();
  if (descriptor.code_or_data() || (type != SystemType::kTss16 && type != SystemType::kTss32))
    return selector_fault(Vector::kGeneralProtection, selector);
  if (!descriptor.present()) return selector_fault(Vector::kSegmentNotPresent, selector);
  TRAPLINE_TRY(cpu.memory.write(descriptor.address + kAccessByteOffset, 1,
                                (descriptor.attributes() & 0xff) | tss::kBusy, Privilege::kSystem));
  cpu.state.tr = descriptor.load(selector);
  cpu.state.tr.attributes |= tss::kBusy;
  return {};
}

bool same_descriptor(Cpu& cpu, uint16_t selector, uint64_t raw) {
  const TableRegister& gdtr = cpu.state.gdtr;
  if ((selector & kSelectorTableBit) || (selector | 7u) > gdtr.limit) return false;
  const Linear address{gdtr.base + (selector & ~7u)};
  const std::byte* host = cpu.memory.reach(address, 8, false, Privilege::kSystem);
  return host && load_sized(host, 8) == raw;
}

}  // namespace trapline
