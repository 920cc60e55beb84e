// Descriptors as they lie in the GDT, the LDT and the IDT, and what loading one makes of it.
#pragma once

#include <cstdint>

#include "vcpu/cpu.h"

namespace trapline {

inline constexpr uint16_t kSelectorIndexMask = 0xfffc;  ///< Index and TI: what errors report.
inline constexpr uint16_t kSelectorTableBit = 4;

constexpr bool null_selector(uint16_t selector) {
  return (selector & kSelectorIndexMask) == 0;
}
constexpr uint8_t rpl(uint16_t selector) {
  return selector & 3;
}
constexpr uint16_t with_rpl(uint16_t selector, uint8_t level) {
  return static_cast<uint16_t>((selector & kSelectorIndexMask) | level);
}

/// Types of descriptors whose S bit is clear.
enum class SystemType : uint8_t {
  kTss16 = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTss32 = 9,
  kTss32Busy = 11,
  kCallGate32 = 12,
  kInterruptGate32 = 14,
  kTrapGate32 = 15,
};

struct Descriptor {
  uint64_t raw = 0;
  Linear address;  ///< Where it lies.

  constexpr uint32_t base() const {
    return static_cast<uint32_t>((raw >> 16 & 0xffffff) | (raw >> 56 << 24));
  }
  constexpr uint32_t limit() const {
    const auto limit = static_cast<uint32_t>((raw & 0xffff) | (raw >> 32 & 0xf0000));
    return attributes() & segment::kGranularity ? limit << 12 | 0xfff : limit;
  }
  /// As in Segment::attributes.
  constexpr uint32_t attributes() const { return static_cast<uint32_t>(raw >> 40) & 0xf0ff; }
  constexpr uint8_t type() const { return raw >> 40 & 0xf; }
  constexpr SystemType system_type() const { return static_cast<SystemType>(type()); }
  constexpr uint8_t dpl() const { return raw >> 45 & 3; }
  constexpr bool present() const { return attributes() & segment::kPresent; }
  constexpr bool code_or_data() const { return attributes() & segment::kCodeOrData; }
  constexpr bool code() const { return code_or_data() && (attributes() & segment::kCode); }
  constexpr bool conforming() const { return attributes() & segment::kConforming; }
  constexpr bool writable_data() const {
    return code_or_data() && !(attributes() & segment::kCode) &&
           (attributes() & segment::kWritable);
  }
  constexpr bool readable() const {
    return code_or_data() &&
           (!(attributes() & segment::kCode) || (attributes() & segment::kReadable));
  }

  // Gates.
  constexpr uint16_t gate_selector() const { return raw >> 16 & 0xffff; }
  constexpr bool gate32() const { return type() & 8; }
  constexpr uint32_t gate_offset() const {
    const auto low = static_cast<uint32_t>(raw & 0xffff);
    return gate32() ? low | static_cast<uint32_t>(raw >> 48 << 16) : low;
  }
  constexpr uint8_t gate_parameters() const { return raw >> 32 & 0x1f; }

  /// The segment register that a load of this descriptor makes.
  constexpr Segment load(uint16_t selector) const {
    Segment segment;
    segment.base = base();
    segment.limit = limit();
    segment.attributes = attributes() | (code_or_data() ? segment::kAccessed : 0);
    segment.selector = selector;
    segment.derive();
    return segment;
  }
};

/// Where a descriptor has its type, S, DPL and P.
inline constexpr uint32_t kAccessByteOffset = 5;
namespace tss {
inline constexpr uint32_t kBusy = 2;  ///< In the type.
}

/// Sets the accessed bit in memory when it is not set yet.
inline OrFault<void> mark_accessed(Cpu& cpu, const Descriptor& descriptor) {
  const uint32_t access = descriptor.attributes() & 0xff;
  if (access & segment::kAccessed) return {};
  return cpu.memory.write(descriptor.address + kAccessByteOffset, 1, access | segment::kAccessed,
                          Privilege::kSystem);
}

constexpr Fault selector_fault(Vector vector, uint16_t selector, uint32_t ext = 0) {
  return Fault::with_error(vector, (selector & kSelectorIndexMask) | ext);
}

/// One descriptor, or the fault `vector` with the selector (and `ext`, which is 0 or 1) as its
/// error code when the selector points beyond its table. Task switches make many of them.
[[gnu::always_inline]] inline OrFault<Descriptor> read_descriptor(Cpu& cpu, uint16_t selector,
                                                                  Vector vector, uint32_t ext = 0) {
  const CpuState& state = cpu.state;
  const bool local = selector & kSelectorTableBit;
  const uint32_t base = local ? state.ldtr.base : state.gdtr.base;
  const uint32_t limit = local ? state.ldtr.limit : state.gdtr.limit;
  if ((selector | 7u) > limit || (local && state.ldtr.unusable()))
    return selector_fault(vector, selector, ext);
  const Linear address{base + (selector & ~7u)};
  TRAPLINE_TRY_LET(raw, cpu.memory.read(address, 8, Privilege::kSystem));
  return Descriptor{raw, address};
}

/// Whether an access of `size` bytes lies inside the segment, whatever its type.
constexpr bool within_limit(const Segment& segment, uint32_t offset, uint32_t size) {
  const uint64_t last = uint64_t{offset} + size - 1;
  if (segment.expand_down())
    return offset > segment.limit && last <= (segment.big() ? ~0u : 0xffffu);
  // An access at the end of a flat segment wraps. Processors differ in that; ours refuse it where
  // there is a base.
  return last <= segment.limit || (segment.limit == ~0u && segment.base == 0);
}

/// #AC for misaligned accesses.
constexpr bool alignment_checked(const CpuState& state) {
  return state.cpl == 3 && (state.eflags & eflags::kAc) && (state.cr0 & cr0::kAm);
}

/// Whether the GDT still has this descriptor for the selector.
bool same_descriptor(Cpu& cpu, uint16_t selector, uint64_t raw);

/// Neither real mode nor V86: selectors index descriptor tables.
constexpr bool uses_descriptors(const CpuState& state) {
  return (state.cr0 & cr0::kPe) && !(state.eflags & eflags::kVm);
}

/// What a selector stands for in V86 mode, and what it changes of a register in real mode, where
/// limit and size stay as they are.
Segment v86_segment(uint16_t selector, SegmentName name);
void load_real_segment(Segment& segment, uint16_t selector, SegmentName name);

/// After a return to an outer ring: data segments that it may not use become null.
void null_inner_segments(CpuState& state);

}  // namespace trapline
