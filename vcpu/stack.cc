#include "vcpu/stack.h"

#include "vcpu/host_access.h"

namespace trapline {
namespace {

// The whole frame lies in one page: when its first write succeeds, all do.
OrFault<void> write_in_page(Cpu& cpu, const StackFrame& frame, Linear bottom, Privilege privilege) {
  const uint32_t total = frame.count * frame.size;
  if (std::byte* host = cpu.memory.reach(bottom, total, true, privilege)) {
    host += total;
    for (uint32_t i = 0; i < frame.count; ++i)
      store_sized(host -= frame.size, frame.size, frame.values[i]);
    return {};
  }
  Linear address = bottom + total;
  for (uint32_t i = 0; i < frame.count; ++i) {
    address.value -= frame.size;
    TRAPLINE_TRY(cpu.memory.write(address, frame.size, frame.values[i], privilege));
  }
  return {};
}

// Pages or the end of a 16-bit stack in between: look first, then write.
OrFault<void> write_scattered(Cpu& cpu, const StackFrame& frame, const StackPlace& place) {
  const uint32_t mask = stack_mask(place.ss);
  for (const bool probing : {true, false}) {
    uint32_t offset = place.esp;
    for (uint32_t i = 0; i < frame.count; ++i) {
      offset = (offset - frame.size) & mask;
      const Linear address{place.ss.base + offset};
      if (probing)
        TRAPLINE_TRY(cpu.memory.probe_write(address, frame.size, place.privilege));
      else
        TRAPLINE_TRY(cpu.memory.write(address, frame.size, frame.values[i], place.privilege));
    }
  }
  return {};
}

bool every_push_fits(const StackFrame& frame, const StackPlace& place) {
  const uint32_t mask = stack_mask(place.ss);
  uint32_t offset = place.esp;
  for (uint32_t i = 0; i < frame.count; ++i) {
    offset = (offset - frame.size) & mask;
    if (!within_limit(place.ss, offset, frame.size)) return false;
  }
  return true;
}

// No wrap at the end of the stack's offsets.
bool contiguous(uint32_t bottom, uint32_t total, uint32_t mask) {
  return uint64_t{bottom} + total <= uint64_t{mask} + 1;
}

bool crosses_page(Linear address, uint32_t size) {
  return address.offset() + size > kPageSize;
}

}  // namespace

OrFault<void> check_frame(const StackFrame& frame, const StackPlace& place) {
  const uint32_t mask = stack_mask(place.ss);
  const uint32_t total = frame.count * frame.size;
  const uint32_t bottom = (place.esp - total) & mask;
  const bool fits = contiguous(bottom, total, mask) ? within_limit(place.ss, bottom, total)
                                                    : every_push_fits(frame, place);
  if (place.ss.unusable() || !fits) return Fault::with_error(Vector::kStackFault, place.error);
  return {};
}

OrFault<uint32_t> write_frame(Cpu& cpu, const StackFrame& frame, const StackPlace& place) {
  const Segment& ss = place.ss;
  const uint32_t mask = stack_mask(ss);
  const uint32_t total = frame.count * frame.size;
  const uint32_t bottom = (place.esp - total) & mask;
  const Linear linear{ss.base + bottom};
  if (contiguous(bottom, total, mask) && !crosses_page(linear, total))
    TRAPLINE_TRY(write_in_page(cpu, frame, linear, place.privilege));
  else
    TRAPLINE_TRY(write_scattered(cpu, frame, place));
  return merge_sp(ss, place.esp, bottom);
}

OrFault<uint32_t> push_frame(Cpu& cpu, const StackFrame& frame, const StackPlace& place) {
  TRAPLINE_TRY(check_frame(frame, place));
  return write_frame(cpu, frame, place);
}

OrFault<uint32_t> push_frame(Cpu& cpu, const StackFrame& frame) {
  const CpuState& state = cpu.state;
  const Segment& ss = state.segment[kSs];
  if (((ss.base + state.gpr[kEsp]) & (frame.size - 1)) && alignment_checked(state))
    return Fault::with_error(Vector::kAlignment, 0);
  return push_frame(cpu, frame, {ss, state.gpr[kEsp], Privilege::kCurrent, 0});
}

OrFault<void> peek_stack(Cpu& cpu, uint32_t skip, OperandSize operand, std::span<uint32_t> out) {
  const CpuState& state = cpu.state;
  const Segment& ss = state.segment[kSs];
  const auto size = static_cast<uint32_t>(operand);
  const uint32_t mask = stack_mask(ss);
  const uint32_t total = static_cast<uint32_t>(out.size()) * size;
  uint32_t offset = (state.gpr[kEsp] + skip) & mask;

  const bool plain = offset <= mask - total && ss.readable() && within_limit(ss, offset, total) &&
                     !alignment_checked(state);
  if (plain) {
    const Linear at{ss.base + offset};
    if (const std::byte* host = cpu.memory.reach(at, total, false, Privilege::kCurrent)) {
      for (uint32_t& value : out) {
        value = static_cast<uint32_t>(load_sized(host, size));
        host += size;
      }
      return {};
    }
  }
  for (uint32_t& value : out) {
    TRAPLINE_TRY_LET(linear, check_segment(state, kSs, offset, size, SegmentAccess::kRead, size));
    TRAPLINE_TRY_LET(read, cpu.memory.read(linear, size, Privilege::kCurrent));
    value = static_cast<uint32_t>(read);
    offset = (offset + size) & mask;
  }
  return {};
}

OrFault<InnerStack> load_inner_stack(Cpu& cpu, uint8_t level, uint32_t ext) {
  const Segment& tr = cpu.state.tr;
  const bool wide = (tr.attributes & segment::kTypeMask) & 8;
  const uint32_t offset = wide ? level * 8u + 4 : level * 4u + 2;
  const uint32_t size = wide ? 8 : 4;
  const uint32_t used = wide ? 6 : 4;
  if (offset + used - 1 > tr.limit) return selector_fault(Vector::kInvalidTss, tr.selector, ext);
  TRAPLINE_TRY_LET(raw, cpu.memory.read({tr.base + offset}, size, Privilege::kSystem));
  const auto selector = static_cast<uint16_t>(raw >> (wide ? 32 : 16));

  if (null_selector(selector)) return Fault::with_error(Vector::kInvalidTss, ext);
  TRAPLINE_TRY_LET(descriptor, read_descriptor(cpu, selector, Vector::kInvalidTss, ext));
  if (rpl(selector) != level || descriptor.dpl() != level || !descriptor.writable_data())
    return selector_fault(Vector::kInvalidTss, selector, ext);
  if (!descriptor.present()) return selector_fault(Vector::kStackFault, selector, ext);
  const auto esp = static_cast<uint32_t>(wide ? raw : raw & 0xffff);
  return InnerStack{descriptor.load(selector), esp, descriptor};
}

}  // namespace trapline
