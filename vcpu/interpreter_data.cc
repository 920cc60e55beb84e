// Moves, the stack, and pointers to segments.
#include "vcpu/execution.h"
#include "vcpu/interpreter_table.h"

namespace trapline {
namespace {

void shadow_after_ss(Execution& x, SegmentName name) {
  if (name == kSs) x.state.shadow = InterruptShadow::kMovSs;
}

OrFault<void> mov(Execution& x) {
  if (is_control_or_debug_move(x)) return move_control_or_debug(x);
  if (x.is_segment_register(0)) {
    const SegmentName name = x.segment_register(0);
    TRAPLINE_TRY_LET(selector, x.read(1));
    TRAPLINE_TRY(load_segment(x.cpu, name, static_cast<uint16_t>(selector)));
    shadow_after_ss(x, name);
    return {};
  }
  if (x.is_segment_register(1)) {
    const uint16_t selector = x.state.segment[x.segment_register(1)].selector;
    if (x.is_memory(0)) return x.store(x.address(0), 2, selector);
    return x.write(0, selector);
  }
  TRAPLINE_TRY_LET(value, x.read(1));
  return x.write(0, value);
}

// Only the selector is written: the upper half of a 32-bit slot keeps what was there.
OrFault<void> push_selector(Execution& x, uint16_t selector) {
  const Segment& ss = x.state.segment[kSs];
  const uint32_t esp = merge_sp(ss, x.state.gpr[kEsp], x.state.gpr[kEsp] - x.operand_bytes());
  TRAPLINE_TRY(x.store({kSs, esp & stack_mask(ss)}, 2, selector));
  x.state.gpr[kEsp] = esp;
  return {};
}

OrFault<void> push(Execution& x) {
  if (x.is_segment_register(0))
    return push_selector(x, x.state.segment[x.segment_register(0)].selector);
  TRAPLINE_TRY_LET(value, x.read(0));
  return x.push(value);
}

OrFault<void> pop(Execution& x) {
  std::array<uint32_t, 1> top;
  TRAPLINE_TRY(peek_stack(x.cpu, 0, x.operand_size(), top));
  if (x.is_segment_register(0)) {
    const SegmentName name = x.segment_register(0);
    // A new SS decides how ESP counts only afterwards.
    const uint32_t esp =
        merge_sp(x.state.segment[kSs], x.state.gpr[kEsp], x.state.gpr[kEsp] + x.operand_bytes());
    TRAPLINE_TRY(load_segment(x.cpu, name, static_cast<uint16_t>(top[0])));
    x.state.gpr[kEsp] = esp;
    shadow_after_ss(x, name);
    return {};
  }
  // An address that uses ESP sees it after the pop.
  const uint32_t esp = x.state.gpr[kEsp];
  x.drop(x.operand_bytes());
  const OrFault<void> written = x.write(0, top[0]);
  if (!written.ok()) x.state.gpr[kEsp] = esp;
  return written;
}

OrFault<void> pusha(Execution& x) {
  return push_all(x.cpu, x.operand_size());
}
OrFault<void> popa(Execution& x) {
  return pop_all(x.cpu, x.operand_size());
}

OrFault<void> push_flags(Execution& x) {
  TRAPLINE_TRY_LET(image, read_flags(x.cpu, x.operand_size()));
  return x.push(image);
}

OrFault<void> pop_flags(Execution& x) {
  std::array<uint32_t, 1> image;
  TRAPLINE_TRY(peek_stack(x.cpu, 0, x.operand_size(), image));
  TRAPLINE_TRY(write_flags(x.cpu, image[0], x.operand_size()));
  x.drop(x.operand_bytes());
  return {};
}

template <SegmentName Name>
OrFault<void> load_pointer(Execution& x) {
  const EffectiveAddress at = x.address(1);
  TRAPLINE_TRY_LET(offset, x.load(at, x.operand_bytes()));
  TRAPLINE_TRY_LET(selector, x.load(at, 2, x.operand_bytes()));
  TRAPLINE_TRY(load_segment(x.cpu, Name, static_cast<uint16_t>(selector)));
  return x.write(0, static_cast<uint32_t>(offset));
}

OrFault<void> enter(Execution& x) {
  return enter_frame(x.cpu, static_cast<uint32_t>(x.operands[0].imm.value.u & 0xffff),
                     static_cast<uint32_t>(x.operands[1].imm.value.u & 31), x.operand_size());
}

OrFault<void> leave(Execution& x) {
  CpuState& state = x.state;
  const Segment& ss = state.segment[kSs];
  const uint32_t top = merge_sp(ss, state.gpr[kEsp], state.gpr[kEbp]);
  TRAPLINE_TRY_LET(value, x.load({kSs, top & stack_mask(ss)}, x.operand_bytes()));
  state.gpr[kEsp] = merge_sp(ss, top, top + x.operand_bytes());
  x.set_gpr(kEbp, static_cast<uint32_t>(value), x.operand_bytes());
  return {};
}

OrFault<void> xlat(Execution& x) {
  const uint32_t offset = (x.state.gpr[kEbx] + (x.state.gpr[kEax] & 0xff)) & x.address_mask();
  TRAPLINE_TRY_LET(value, x.load({x.data_segment(), offset}, 1));
  x.set_gpr(kEax, static_cast<uint32_t>(value), 1);
  return {};
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_MOV, mov},
    {ZYDIS_MNEMONIC_PUSH, push},
    {ZYDIS_MNEMONIC_POP, pop},
    {ZYDIS_MNEMONIC_PUSHA, pusha},
    {ZYDIS_MNEMONIC_PUSHAD, pusha},
    {ZYDIS_MNEMONIC_POPA, popa},
    {ZYDIS_MNEMONIC_POPAD, popa},
    {ZYDIS_MNEMONIC_PUSHF, push_flags},
    {ZYDIS_MNEMONIC_PUSHFD, push_flags},
    {ZYDIS_MNEMONIC_POPF, pop_flags},
    {ZYDIS_MNEMONIC_POPFD, pop_flags},
    {ZYDIS_MNEMONIC_LDS, load_pointer<kDs>},
    {ZYDIS_MNEMONIC_LES, load_pointer<kEs>},
    {ZYDIS_MNEMONIC_LSS, load_pointer<kSs>},
    {ZYDIS_MNEMONIC_LFS, load_pointer<kFs>},
    {ZYDIS_MNEMONIC_LGS, load_pointer<kGs>},
    {ZYDIS_MNEMONIC_ENTER, enter},
    {ZYDIS_MNEMONIC_LEAVE, leave},
    {ZYDIS_MNEMONIC_XLAT, xlat},
};

}  // namespace

OrFault<void> push_all(Cpu& cpu, OperandSize size) {
  StackFrame frame(size);
  for (uint32_t value : cpu.state.gpr) frame.push(value);
  TRAPLINE_TRY_LET(esp, push_frame(cpu, frame));
  cpu.state.gpr[kEsp] = esp;
  return {};
}

OrFault<void> pop_all(Cpu& cpu, OperandSize size) {
  CpuState& state = cpu.state;
  std::array<uint32_t, 8> values;  // EDI first.
  TRAPLINE_TRY(peek_stack(cpu, 0, size, values));
  const uint32_t low = size == OperandSize::k16 ? 0xffff : ~0u;
  for (int i = 0; i < 8; ++i)
    if (i != kEsp) state.gpr[i] = (state.gpr[i] & ~low) | (values[7 - i] & low);
  const uint32_t esp = state.gpr[kEsp];
  state.gpr[kEsp] = merge_sp(state.segment[kSs], esp, esp + 8 * static_cast<uint32_t>(size));
  return {};
}

// Memory is written as the pushes come, before a later one can fault: the display that is copied
// may lie in the frame that is being built, in part or by another mapping. Registers change at the
// end only.
OrFault<void> enter_frame(Cpu& cpu, uint32_t bytes, uint32_t level, OperandSize operand_size) {
  CpuState& state = cpu.state;
  const auto size = static_cast<uint32_t>(operand_size);
  const Segment& ss = state.segment[kSs];
  const uint32_t mask = stack_mask(ss);
  uint32_t esp = state.gpr[kEsp];
  const auto push_value = [&](uint64_t value) -> OrFault<void> {
    esp = merge_sp(ss, esp, esp - size);
    TRAPLINE_TRY_LET(linear,
                     check_segment(state, kSs, esp & mask, size, SegmentAccess::kWrite, size));
    return cpu.memory.write(linear, size, value, Privilege::kCurrent);
  };
  TRAPLINE_TRY(push_value(state.gpr[kEbp]));
  // Processors borrow from the upper half here, also where SP alone wraps.
  const uint32_t frame_pointer = state.gpr[kEsp] - size;
  for (uint32_t i = 1; i < level; ++i) {
    const uint32_t outer = (state.gpr[kEbp] - i * size) & mask;
    TRAPLINE_TRY_LET(linear, check_segment(state, kSs, outer, size, SegmentAccess::kRead, size));
    TRAPLINE_TRY_LET(entry, cpu.memory.read(linear, size, Privilege::kCurrent));
    TRAPLINE_TRY(push_value(entry));
  }
  if (level > 0) TRAPLINE_TRY(push_value(frame_pointer));

  // The bottom of the new frame is probed too.
  const uint32_t bottom = merge_sp(ss, esp, esp - bytes);
  TRAPLINE_TRY_LET(linear, check_segment(state, kSs, bottom & mask, size, SegmentAccess::kWrite));
  TRAPLINE_TRY(cpu.memory.probe_write(linear, size, Privilege::kCurrent));
  state.gpr[kEsp] = bottom;
  const uint32_t low = size == 2 ? 0xffff : ~0u;
  state.gpr[kEbp] = (state.gpr[kEbp] & ~low) | (frame_pointer & low);
  return {};
}

std::span<const InterpreterRow> data_rows() {
  return kRows;
}

}  // namespace trapline
