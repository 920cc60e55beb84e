#include "translator/mode.h"

#include "vcpu/debug_registers.h"

namespace trapline {

namespace {
/// In real mode and V86 mode k64K also says that a load changes nothing but selector and base.
uint32_t class_in(const CpuState& state, SegmentName name) {
  const Segment& segment = state.segment[name];
  const bool loads_plainly = (state.cr0 & cr0::kPe) == 0 || state.v86();
  const bool plain = !loads_plainly || unprotected_attributes(segment.attributes, state.v86());
  const auto klass =
      segment.klass == SegmentClass::k64K && !plain ? SegmentClass::kChecked : segment.klass;
  return static_cast<uint32_t>(klass);
}
}  // namespace

ModeKey ModeKey::from(const CpuState& state, bool counted) {
  const Segment& cs = state.segment[kCs];
  uint32_t word = state.cpl;
  const auto set = [&word](bool condition, uint32_t bit) { word |= condition ? bit : 0; };
  const bool flat = cs.base == 0 && cs.limit == 0xffffffffu;
  set(cs.big(), mode::kCode32);
  set(state.segment[kSs].big(), mode::kStack32);
  set(flat, mode::kFlatCode);
  set(state.cr0 & cr0::kPe, mode::kProtected);
  set(state.eflags & eflags::kVm, mode::kV86);
  set(state.cpl <= state.iopl(), mode::kSensitiveOk);
  set(state.eflags & eflags::kTf, mode::kTrap);
  set(state.eflags & eflags::kDf, mode::kDown);
  set(state.cr0 & (cr0::kEm | cr0::kTs), mode::kX87Traps);
  set((state.cr0 & cr0::kMp) && (state.cr0 & cr0::kTs), mode::kWaitTraps);
  set(state.cr0 & cr0::kEm, mode::kEmulated);
  set(state.cr0 & cr0::kTs, mode::kTaskSwitched);
  set(!(state.cr4 & cr4::kOsfxsr), mode::kSseOff);
  set((state.eflags & eflags::kAc) && (state.cr0 & cr0::kAm) && state.cpl == 3, mode::kAlignment);
  set(counted, mode::kCounted);
  const DebugRegisters debug(state);
  set(debug.any() && debug.watches_data(), mode::kWatched);
  word |= class_in(state, kDs) << mode::kDsShift;
  word |= class_in(state, kEs) << mode::kEsShift;
  word |= class_in(state, kSs) << mode::kSsShift;
  return {word, flat ? 0 : cs.base, flat ? 0xffffffffu : cs.limit, 0};
}

}  // namespace trapline
