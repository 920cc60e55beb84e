#include "vcpu/state.h"

namespace trapline {

CpuState CpuState::reset() {
  CpuState state;
  for (int name = 0; name < kSegmentCount; ++name)
    state.segment[name] = Segment::real(0, name == kCs);
  state.segment[kCs].selector = 0xf000;
  state.segment[kCs].base = 0xffff0000u;
  state.segment[kCs].derive();
  state.ldtr.attributes = segment::kPresent | 0x2;
  state.ldtr.limit = 0xffff;
  state.tr.attributes = segment::kPresent | 0xb;
  state.tr.limit = 0xffff;
  state.eip = 0xfff0;
  state.cr0 = cr0::kEt | cr0::kNw | cr0::kCd;
  return state;
}

CpuState CpuState::flat32(uint8_t cpl) {
  CpuState state;
  for (int name = 0; name < kSegmentCount; ++name) {
    const bool code = name == kCs;
    state.segment[name] =
        Segment::flat(static_cast<uint16_t>((code ? 0x08 : 0x10) | cpl), code, cpl);
  }
  state.ldtr.attributes = segment::kUnusable;
  state.tr.attributes = segment::kPresent | 0xb;
  state.tr.limit = 0x67;
  state.cpl = cpl;
  state.cr0 = cr0::kEt | cr0::kPe | cr0::kNe;
  state.cr4 = cr4::kOsfxsr | cr4::kOsxmmexcpt;
  state.eflags = eflags::kFixed1;
  return state;
}

}  // namespace trapline
