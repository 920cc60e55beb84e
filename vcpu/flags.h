// Which bits of EFLAGS exist and who may change them.
#pragma once

#include <cstdint>

#include "vcpu/cpu_model.h"
#include "vcpu/state.h"

namespace trapline {

constexpr uint32_t supported_flags(const CpuModel& model) {
  uint32_t mask = eflags::kDefined & ~eflags::kFixed1;
  if (!model.has(Feature::kCpuid)) mask &= ~eflags::kId;
  if (!model.has(Feature::kVme)) mask &= ~(eflags::kVif | eflags::kVip);
  return mask;
}

/// What POPF and IRET may change at any privilege, given the operand's size in bytes.
constexpr uint32_t user_flags(uint32_t size) {
  constexpr uint32_t kLow = eflags::kArithmetic | eflags::kTf | eflags::kDf | eflags::kNt;
  return size == 4 ? kLow | eflags::kAc | eflags::kId : kLow;
}

/// user_flags, and IF and IOPL where CPL and IOPL allow.
inline uint32_t changeable_flags(const CpuState& state, uint32_t size) {
  uint32_t mask = user_flags(size);
  if (state.cpl <= state.iopl()) mask |= eflags::kIf;
  if (state.cpl == 0) mask |= eflags::kIopl;
  return mask;
}

constexpr uint32_t replace_flags(uint32_t old, uint32_t image, uint32_t mask) {
  return (old & ~mask) | (image & mask);
}

/// V86 mode with IOPL below 3, where CR4.VME virtualizes IF for 16-bit forms.
inline bool virtual_if(const CpuState& state) {
  return state.v86() && state.iopl() < 3 && (state.cr4 & cr4::kVme);
}
/// CLI and STI change VIF in place of IF: then too, and at CPL 3 by CR4.PVI.
inline bool virtual_cli(const CpuState& state) {
  return virtual_if(state) ||
         (!state.v86() && state.cpl == 3 && state.iopl() < 3 && (state.cr4 & cr4::kPvi));
}
/// VIF and VIP are both set where they count, as an IRET or a task switch may leave them: the next
/// instruction is #GP(0).
inline bool virtual_interrupt_due(const CpuState& state) {
  constexpr uint32_t kBoth = eflags::kVif | eflags::kVip;
  return (state.eflags & kBoth) == kBoth && virtual_cli(state);
}
/// What a 16-bit POPF or IRET does with CR4.VME: VIF stands for IF.
constexpr uint32_t replace_virtual_flags(uint32_t old, uint32_t image) {
  const uint32_t flags = replace_flags(old, image, user_flags(2)) & ~eflags::kVif;
  return image & eflags::kIf ? flags | eflags::kVif : flags;
}
/// ... unless it would enable an interrupt that is pending, or set TF: that is #GP(0).
constexpr bool virtual_flags_allowed(uint32_t old, uint32_t image) {
  return !(image & eflags::kTf) && !((image & eflags::kIf) && (old & eflags::kVip));
}

}  // namespace trapline
