// Control registers, EFLAGS and ports.
#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"
#include "vcpu/flags.h"

namespace trapline {
namespace {

constexpr uint32_t kCr0Bits = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs | cr0::kEt | cr0::kNe |
                              cr0::kWp | cr0::kAm | cr0::kNw | cr0::kCd | cr0::kPg;
constexpr uint32_t kPagingCr0 = cr0::kPg | cr0::kWp | cr0::kPe;
constexpr uint32_t kPdpteReloadCr0 = cr0::kPg | cr0::kCd | cr0::kNw;
constexpr uint32_t kFlushingCr4 = cr4::kPse | cr4::kPae | cr4::kPge;

constexpr bool pae_paging(uint32_t cr0, uint32_t cr4) {
  return (cr0 & cr0::kPg) && (cr4 & cr4::kPae);
}

OrFault<void> load_pdptes(Cpu& cpu, uint32_t cr3) {
  constexpr uint64_t kReservedLow = 0x1e6;
  const uint64_t reserved = kReservedLow | ~uint64_t{0} << cpu.model.physical_bits;
  const Physical table{cr3 & ~0x1fu};
  std::array<uint64_t, 4> entries;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    entries[i] = cpu.events.read_physical(table + i * 8u);
    if ((entries[i] & 1) && (entries[i] & reserved)) return Fault::general_protection();
  }
  cpu.state.pdpte = entries;
  return {};
}

}  // namespace

OrFault<void> write_cr0(Cpu& cpu, uint32_t value) {
  CpuState& state = cpu.state;
  if (state.cpl != 0) return Fault::general_protection();
  value = (value & kCr0Bits) | cr0::kEt;
  if ((value & cr0::kPg) && !(value & cr0::kPe)) return Fault::general_protection();
  if ((value & cr0::kNw) && !(value & cr0::kCd)) return Fault::general_protection();
  const uint32_t changed = value ^ state.cr0;
  if ((changed & kPdpteReloadCr0) && pae_paging(value, state.cr4))
    TRAPLINE_TRY(load_pdptes(cpu, state.cr3));
  state.cr0 = value;
  if (changed & kPagingCr0) cpu.events.paging_changed(changed & cr0::kPg);
  return {};
}

OrFault<void> write_cr3(Cpu& cpu, uint32_t value) {
  CpuState& state = cpu.state;
  if (state.cpl != 0) return Fault::general_protection();
  if (pae_paging(state.cr0, state.cr4)) TRAPLINE_TRY(load_pdptes(cpu, value));
  state.cr3 = value;
  cpu.events.paging_changed(true);
  return {};
}

OrFault<void> write_cr4(Cpu& cpu, uint32_t value) {
  CpuState& state = cpu.state;
  if (state.cpl != 0 || (value & ~cpu.model.cr4_mask)) return Fault::general_protection();
  const uint32_t changed = value ^ state.cr4;
  if ((changed & kFlushingCr4) && pae_paging(state.cr0, value))
    TRAPLINE_TRY(load_pdptes(cpu, state.cr3));
  state.cr4 = value;
  if (changed & kFlushingCr4) cpu.events.paging_changed(true);
  return {};
}

OrFault<void> write_flags(Cpu& cpu, uint32_t image, OperandSize size) {
  CpuState& state = cpu.state;
  const uint32_t old = state.eflags & ~eflags::kRf;
  if (state.v86() && state.iopl() < 3) {
    if (!virtual_if(state) || size == OperandSize::k32 || !virtual_flags_allowed(old, image))
      return Fault::general_protection();
    state.eflags = replace_virtual_flags(old, image);
    return {};
  }
  const uint32_t mask =
      changeable_flags(state, static_cast<uint32_t>(size)) & supported_flags(cpu.model);
  state.eflags = replace_flags(old, image, mask);
  return {};
}

OrFault<uint32_t> read_flags(const Cpu& cpu, OperandSize size) {
  const CpuState& state = cpu.state;
  const uint32_t image = state.eflags & ~(eflags::kRf | eflags::kVm);
  if (!state.v86() || state.iopl() == 3) return size == OperandSize::k16 ? image & 0xffff : image;
  if (!virtual_if(state) || size == OperandSize::k32) return Fault::general_protection();
  const uint32_t shown = (image & 0xffff & ~eflags::kIf) | eflags::kIopl;
  return state.eflags & eflags::kVif ? shown | eflags::kIf : shown;
}

OrFault<void> cli(Cpu& cpu) {
  CpuState& state = cpu.state;
  if (state.cpl <= state.iopl())
    state.eflags &= ~eflags::kIf;
  else if (virtual_cli(state))
    state.eflags &= ~eflags::kVif;
  else
    return Fault::general_protection();
  return {};
}

OrFault<void> sti(Cpu& cpu) {
  CpuState& state = cpu.state;
  if (state.cpl <= state.iopl()) {
    if (!(state.eflags & eflags::kIf)) state.shadow = InterruptShadow::kSti;
    state.eflags |= eflags::kIf;
    return {};
  }
  if (!virtual_cli(state) || (state.eflags & eflags::kVip)) return Fault::general_protection();
  state.eflags |= eflags::kVif;
  return {};
}

OrFault<void> check_port(Cpu& cpu, uint16_t port, uint32_t size) {
  const CpuState& state = cpu.state;
  if (!state.protected_mode() || (state.cpl <= state.iopl() && !state.v86())) return {};
  constexpr uint32_t kMapBaseOffset = 0x66;
  const Segment& tr = state.tr;
  const bool tss32 = !tr.unusable() && (tr.attributes & segment::kTypeMask & 8);
  if (!tss32 || tr.limit < kMapBaseOffset + 1) return Fault::general_protection();
  TRAPLINE_TRY_LET(map, cpu.memory.read({tr.base + kMapBaseOffset}, 2, Privilege::kSystem));
  const auto offset = static_cast<uint32_t>(map + port / 8u);
  if (offset + 1 > tr.limit) return Fault::general_protection();
  TRAPLINE_TRY_LET(bits, cpu.memory.read({tr.base + offset}, 2, Privilege::kSystem));
  const uint32_t wanted = (1u << size) - 1;
  if (bits >> (port & 7) & wanted) return Fault::general_protection();
  return {};
}

OrFault<uint32_t> port_in(Cpu& cpu, uint16_t port, uint32_t size) {
  TRAPLINE_TRY(check_port(cpu, port, size));
  return cpu.ports.in(port, size);
}

OrFault<void> port_out(Cpu& cpu, uint16_t port, uint32_t size, uint32_t value) {
  TRAPLINE_TRY(check_port(cpu, port, size));
  cpu.ports.out(port, size, value);
  return {};
}

}  // namespace trapline
