// Model-specific registers: one row each, with the family it belongs to and the feature that has
// it.
#include <algorithm>

#include "vcpu/cpu.h"

namespace trapline {
namespace {

using Read = uint64_t (*)(Cpu& cpu, uint32_t index);
using Write = OrFault<void> (*)(Cpu& cpu, uint32_t index, uint64_t value);

// A row is there when the model has one of `features` and its family is at least
// `min_family` and at most `max_family`.
struct Row {
  uint32_t first, last;
  uint32_t features;
  uint8_t min_family, max_family;
  Read read;    // nullptr: write-only.
  Write write;  // nullptr: read-only.
};

constexpr uint32_t any(Feature feature) {
  return static_cast<uint32_t>(feature);
}

uint64_t read_zero(Cpu&, uint32_t) {
  return 0;
}
OrFault<void> ignore(Cpu&, uint32_t, uint64_t) {
  return {};
}
// Status registers that software may only clear.
OrFault<void> only_zero(Cpu&, uint32_t, uint64_t value) {
  if (value != 0) return Fault::general_protection();
  return {};
}

template <uint64_t ModelSpecificRegisters::*Member>
uint64_t read_member(Cpu& cpu, uint32_t) {
  return cpu.state.msr.*Member;
}
template <uint64_t ModelSpecificRegisters::*Member>
OrFault<void> write_low_half(Cpu& cpu, uint32_t, uint64_t value) {
  cpu.state.msr.*Member = static_cast<uint32_t>(value);
  return {};
}

uint64_t read_tsc(Cpu& cpu, uint32_t) {
  return cpu.events.time_stamp() + cpu.state.tsc_offset;
}
OrFault<void> write_tsc(Cpu& cpu, uint32_t, uint64_t value) {
  // Up to the Pentium III the upper half is cleared, whatever is written.
  if (!cpu.model.has(Feature::kSse2)) value = static_cast<uint32_t>(value);
  cpu.state.tsc_offset = value - cpu.events.time_stamp();
  return {};
}

uint64_t read_apic_base(Cpu& cpu, uint32_t) {
  const uint64_t value = cpu.state.msr.apic_base;
  return cpu.events.has_local_apic() ? value : value & ~apic_base::kEnable;
}
OrFault<void> write_apic_base(Cpu& cpu, uint32_t, uint64_t value) {
  constexpr uint64_t kBootProcessor = 1u << 8;
  const uint64_t allowed = ((uint64_t{1} << cpu.model.physical_bits) - 1) & ~uint64_t{0xfff};
  if (value & ~(allowed | apic_base::kEnable | kBootProcessor)) return Fault::general_protection();
  cpu.state.msr.apic_base = value;
  cpu.events.local_apic_base_written(value);
  return {};
}

OrFault<void> write_misc_enable(Cpu& cpu, uint32_t, uint64_t value) {
  // Fast strings alone can be switched, and it makes no difference.
  cpu.state.msr.misc_enable = (cpu.state.msr.misc_enable & ~uint64_t{1}) | (value & 1);
  return {};
}

// --- Memory types. They are kept and shown; nothing here caches. --------------------------------

constexpr uint32_t kMtrrVariableFirst = 0x200;
constexpr uint32_t kMtrrFix64k = 0x250;
constexpr uint32_t kMtrrFix16k = 0x258;
constexpr uint32_t kMtrrFix4k = 0x268;

constexpr bool memory_type(uint64_t type) {
  return type <= 6 && type != 2 && type != 3;
}

template <typename Valid>
constexpr bool every_byte(uint64_t value, Valid valid) {
  for (int i = 0; i < 8; ++i, value >>= 8)
    if (!valid(value & 0xff)) return false;
  return true;
}

size_t fixed_index(uint32_t index) {
  if (index == kMtrrFix64k) return 0;
  return index < kMtrrFix4k ? 1 + index - kMtrrFix16k : 3 + index - kMtrrFix4k;
}

uint64_t read_mtrr_cap(Cpu&, uint32_t) {
  constexpr uint64_t kVariable = 8, kFixed = 1u << 8, kWriteCombining = 1u << 10;
  return kVariable | kFixed | kWriteCombining;
}
uint64_t read_mtrr_variable(Cpu& cpu, uint32_t index) {
  return cpu.state.msr.mtrr_variable[index - kMtrrVariableFirst];
}
OrFault<void> write_mtrr_variable(Cpu& cpu, uint32_t index, uint64_t value) {
  const bool is_mask = index & 1;
  const uint64_t frames = ((uint64_t{1} << cpu.model.physical_bits) - 1) & ~uint64_t{0xfff};
  const uint64_t allowed = frames | (is_mask ? 1u << 11 : 0xffu);
  if ((value & ~allowed) || (!is_mask && !memory_type(value & 0xff)))
    return Fault::general_protection();
  cpu.state.msr.mtrr_variable[index - kMtrrVariableFirst] = value;
  return {};
}
uint64_t read_mtrr_fixed(Cpu& cpu, uint32_t index) {
  return cpu.state.msr.mtrr_fixed[fixed_index(index)];
}
OrFault<void> write_mtrr_fixed(Cpu& cpu, uint32_t index, uint64_t value) {
  if (!every_byte(value, memory_type)) return Fault::general_protection();
  cpu.state.msr.mtrr_fixed[fixed_index(index)] = value;
  return {};
}
OrFault<void> write_mtrr_default(Cpu& cpu, uint32_t, uint64_t value) {
  if ((value & ~uint64_t{0xcff}) || !memory_type(value & 0xff)) return Fault::general_protection();
  cpu.state.msr.mtrr_default_type = value;
  return {};
}
OrFault<void> write_pat(Cpu& cpu, uint32_t, uint64_t value) {
  constexpr uint64_t kUncachedMinus = 7;
  const auto valid = [](uint64_t type) { return memory_type(type) || type == kUncachedMinus; };
  if (!every_byte(value, valid)) return Fault::general_protection();
  cpu.state.msr.pat = value;
  return {};
}

// ------------------------------------------------------------------------------------------------

OrFault<void> write_efer(Cpu& cpu, uint32_t, uint64_t value) {
  if (value & ~efer::kNxe) return Fault::general_protection();
  const bool changed = value != cpu.state.msr.efer;
  cpu.state.msr.efer = value;
  if (changed) cpu.events.paging_changed(true);
  return {};
}

using Msr = ModelSpecificRegisters;
constexpr uint8_t kAnyFamily = 255;

// Sorted by index. The performance counters, the debug control and the L2 control registers read
// as zero: nothing counts, records or can be configured.
constexpr Row kRows[] = {
    {0x00, 0x01, any(Feature::kMsr), 5, 5, read_zero, ignore},  // P5_MC_ADDR, P5_MC_TYPE
    {0x0e, 0x0e, any(Feature::kMsr), 5, 5, read_zero, ignore},  // TR12
    {0x10, 0x10, any(Feature::kTsc), 0, kAnyFamily, read_tsc, write_tsc},
    {0x11, 0x13, any(Feature::kMsr), 5, 5, read_zero, ignore},            // CESR, CTR0, CTR1
    {0x17, 0x17, any(Feature::kMsr), 6, kAnyFamily, read_zero, nullptr},  // PLATFORM_ID
    {0x1b, 0x1b, any(Feature::kMsr), 6, kAnyFamily, read_apic_base, write_apic_base},
    {0x2a, 0x2a, any(Feature::kMsr), 6, kAnyFamily, read_zero, ignore},    // EBL_CR_POWERON
    {0x79, 0x79, any(Feature::kMsr), 6, kAnyFamily, nullptr, ignore},      // BIOS_UPDT_TRIG
    {0x8b, 0x8b, any(Feature::kMsr), 6, kAnyFamily, read_zero, ignore},    // BIOS_SIGN_ID
    {0xc1, 0xc2, any(Feature::kRdpmc), 6, kAnyFamily, read_zero, ignore},  // PERFCTR
    {0xfe, 0xfe, any(Feature::kMtrr), 0, kAnyFamily, read_mtrr_cap, nullptr},
    {0x119, 0x119, any(Feature::kMsr), 6, kAnyFamily, read_zero, ignore},  // BBL_CR_CTL
    {0x11e, 0x11e, any(Feature::kMsr), 6, kAnyFamily, read_zero, ignore},  // BBL_CR_CTL3
    {0x174, 0x174, any(Feature::kSep), 0, kAnyFamily, read_member<&Msr::sysenter_cs>,
     write_low_half<&Msr::sysenter_cs>},
    {0x175, 0x175, any(Feature::kSep), 0, kAnyFamily, read_member<&Msr::sysenter_esp>,
     write_low_half<&Msr::sysenter_esp>},
    {0x176, 0x176, any(Feature::kSep), 0, kAnyFamily, read_member<&Msr::sysenter_eip>,
     write_low_half<&Msr::sysenter_eip>},
    {0x179, 0x179, any(Feature::kMca), 0, kAnyFamily, read_zero, nullptr},   // MCG_CAP: no banks
    {0x17a, 0x17a, any(Feature::kMca), 0, kAnyFamily, read_zero, ignore},    // MCG_STATUS
    {0x186, 0x187, any(Feature::kRdpmc), 6, kAnyFamily, read_zero, ignore},  // EVNTSEL
    {0x1a0, 0x1a0, any(Feature::kSse2), 6, kAnyFamily, read_member<&Msr::misc_enable>,
     write_misc_enable},
    {0x1d9, 0x1d9, any(Feature::kMsr), 6, kAnyFamily, read_zero, ignore},   // DEBUGCTL
    {0x1db, 0x1de, any(Feature::kMsr), 6, kAnyFamily, read_zero, nullptr},  // last branches
    {0x200, 0x20f, any(Feature::kMtrr), 0, kAnyFamily, read_mtrr_variable, write_mtrr_variable},
    {0x250, 0x250, any(Feature::kMtrr), 0, kAnyFamily, read_mtrr_fixed, write_mtrr_fixed},
    {0x258, 0x259, any(Feature::kMtrr), 0, kAnyFamily, read_mtrr_fixed, write_mtrr_fixed},
    {0x268, 0x26f, any(Feature::kMtrr), 0, kAnyFamily, read_mtrr_fixed, write_mtrr_fixed},
    {0x277, 0x277, any(Feature::kPat), 0, kAnyFamily, read_member<&Msr::pat>, write_pat},
    {0x2ff, 0x2ff, any(Feature::kMtrr), 0, kAnyFamily, read_member<&Msr::mtrr_default_type>,
     write_mtrr_default},
    {0x400, 0x403, any(Feature::kMca), 0, kAnyFamily, read_zero, only_zero},  // MC0
    {0xc0000080, 0xc0000080, any(Feature::kNx), 0, kAnyFamily, read_member<&Msr::efer>, write_efer},
};
static_assert(std::ranges::is_sorted(kRows, {}, &Row::first), "find_row searches it");

const Row* find_row(const CpuModel& model, uint32_t index) {
  const Row* row = std::ranges::lower_bound(kRows, index, {}, &Row::last);
  if (row == std::end(kRows) || index < row->first) return nullptr;
  const bool there = (model.features & row->features) && model.family >= row->min_family &&
                     model.family <= row->max_family;
  return there ? row : nullptr;
}

}  // namespace

OrFault<uint64_t> read_msr(Cpu& cpu, uint32_t index) {
  if (!cpu.model.has(Feature::kMsr)) return Fault::invalid_opcode();
  const Row* row = find_row(cpu.model, index);
  if (cpu.state.cpl != 0 || !row || !row->read) return Fault::general_protection();
  return row->read(cpu, index);
}

OrFault<void> write_msr(Cpu& cpu, uint32_t index, uint64_t value) {
  if (!cpu.model.has(Feature::kMsr)) return Fault::invalid_opcode();
  const Row* row = find_row(cpu.model, index);
  if (cpu.state.cpl != 0 || !row || !row->write) return Fault::general_protection();
  return row->write(cpu, index, value);
}

}  // namespace trapline
