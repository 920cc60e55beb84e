// Stack frames: pushed and popped whole, so that a fault in the middle has had no effect.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"

namespace trapline {

/// What one instruction pushes, in the order of the pushes.
struct StackFrame {
  static constexpr uint32_t kCapacity = 40;  ///< A call gate's 31 parameters and two far pointers.

  // The values stay uninitialised: clearing them would cost more than a delivery's pushes.
  explicit StackFrame(OperandSize operand) : size(static_cast<uint32_t>(operand)) {}
  void push(uint32_t value) { values[count++] = value; }

  uint32_t size;
  uint32_t count = 0;
  std::array<uint32_t, kCapacity> values;  ///< The first `count` are set.
};

/// A stack that is not yet, or not any more, the current one.
struct StackPlace {
  const Segment& ss;
  uint32_t esp;
  Privilege privilege;
  uint32_t error;  ///< #SS's error code when the frame does not fit.
};

constexpr uint32_t stack_mask(const Segment& ss) {
  return ss.big() ? ~0u : 0xffffu;
}
/// ESP after the stack pointer proper became `value`: a 16-bit stack keeps the upper half.
constexpr uint32_t merge_sp(const Segment& ss, uint32_t esp, uint32_t value) {
  return (esp & ~stack_mask(ss)) | (value & stack_mask(ss));
}

/// Whether the frame's bytes lie inside the stack segment; `values` are not looked at.
OrFault<void> check_frame(const StackFrame& frame, const StackPlace& place);
/// Writes all of the frame, which check_frame has seen, or nothing; the result is the new ESP.
OrFault<uint32_t> write_frame(Cpu& cpu, const StackFrame& frame, const StackPlace& place);
/// Both.
OrFault<uint32_t> push_frame(Cpu& cpu, const StackFrame& frame, const StackPlace& place);
/// The same on the current stack, with the current privilege and #SS(0).
OrFault<uint32_t> push_frame(Cpu& cpu, const StackFrame& frame);

/// Reads consecutive values of the current stack, the first one `skip` bytes above its top.
OrFault<void> peek_stack(Cpu& cpu, uint32_t skip, OperandSize size, std::span<uint32_t> out);

/// The stack that the TSS holds for a more privileged level, checked and loaded.
struct InnerStack {
  Segment ss;
  uint32_t esp = 0;
  Descriptor descriptor;  ///< Still to be marked accessed.
};
OrFault<InnerStack> load_inner_stack(Cpu& cpu, uint8_t level, uint32_t ext);

}  // namespace trapline
