#include "translator/mode.h"

#include <array>
#include <bit>

#include "vcpu/debug_registers.h"
#include "vcpu/descriptor.h"

namespace trapline {

namespace {
/// One bit of `value`, moved from one place to another.
constexpr uint32_t moved(uint32_t value, uint32_t from, uint32_t to) {
  const auto at = [](uint32_t bit) { return std::countr_zero(bit); };
  return at(from) < at(to) ? (value & from) << (at(to) - at(from))
                           : (value & from) >> (at(from) - at(to));
}

/// What CR0's lowest four bits, PE, MP, EM and TS, decide.
constexpr std::array<uint32_t, 16> kFromCr0 = [] {
  std::array<uint32_t, 16> words{};
  for (uint32_t bits = 0; bits < words.size(); ++bits) {
    const auto set = [&](bool condition, uint32_t bit) { words[bits] |= condition ? bit : 0; };
    set(bits & cr0::kPe, mode::kProtected);
    set(bits & (cr0::kEm | cr0::kTs), mode::kX87Traps);
    set((bits & cr0::kMp) && (bits & cr0::kTs), mode::kWaitTraps);
    set(bits & cr0::kEm, mode::kEmulated);
    set(bits & cr0::kTs, mode::kTaskSwitched);
  }
  return words;
}();

constexpr uint32_t class_bits(SegmentClass ds, SegmentClass es, SegmentClass ss) {
  return static_cast<uint32_t>(ds) << mode::kDsShift | static_cast<uint32_t>(es) << mode::kEsShift |
         static_cast<uint32_t>(ss) << mode::kSsShift;
}

/// In real mode and V86 mode k64K also says that a load changes nothing but selector and base.
SegmentClass plain_class(const Segment& segment, bool v86) {
  const bool plain = unprotected_attributes(segment.attributes, v86);
  return segment.klass == SegmentClass::k64K && !plain ? SegmentClass::kChecked : segment.klass;
}
}  // namespace

ModeKey ModeKey::from(const CpuState& state, bool counted) {
  const Segment& cs = state.segment[kCs];
  const Segment& ds = state.segment[kDs];
  const Segment& es = state.segment[kEs];
  const Segment& ss = state.segment[kSs];
  const uint32_t flags = state.eflags;
  const bool flat = cs.base == 0 && cs.limit == 0xffffffffu;
  uint32_t word = state.cpl | kFromCr0[state.cr0 & 15];
  word |= moved(cs.attributes, segment::kBig, mode::kCode32);
  word |= moved(ss.attributes, segment::kBig, mode::kStack32);
  word |= moved(flags, eflags::kVm, mode::kV86);
  word |= moved(flags, eflags::kTf, mode::kTrap);
  word |= moved(flags, eflags::kDf, mode::kDown);
  word |= moved(~state.cr4, cr4::kOsfxsr, mode::kSseOff);
  if (flat) word |= mode::kFlatCode;
  if (state.cpl <= state.iopl()) word |= mode::kSensitiveOk;
  if (counted) word |= mode::kCounted;
  if ((flags & eflags::kAc) && (state.cr0 & cr0::kAm) && state.cpl == 3) word |= mode::kAlignment;
  const DebugRegisters debug(state);
  if (debug.any() && debug.watches_data()) word |= mode::kWatched;
  if (uses_descriptors(state)) {
    word |= class_bits(ds.klass, es.klass, ss.klass);
  } else {
    const bool v86 = state.v86();
    word |= class_bits(plain_class(ds, v86), plain_class(es, v86), plain_class(ss, v86));
  }
  return {word, flat ? 0 : cs.base, flat ? 0xffffffffu : cs.limit, 0};
}

}  // namespace trapline
