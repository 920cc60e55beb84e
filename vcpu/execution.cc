#include "vcpu/execution.h"

#include <utility>

#include "vcpu/assert.h"

namespace trapline {
namespace {

OperandSize prefixed_operand_size(const CpuState& state, const ZydisDecodedInstruction& decoded) {
  bool wide = state.segment[kCs].big() && !state.v86();
  for (int i = 0; i < decoded.raw.prefix_count; ++i) {
    if (decoded.raw.prefixes[i].value == 0x66) {
      wide = !wide;
      break;
    }
  }
  return wide ? OperandSize::k32 : OperandSize::k16;
}

constexpr uint32_t low_mask(uint32_t size) {
  return size == 4 ? ~0u : (1u << size * 8) - 1;
}

SegmentName segment_of(ZydisRegister name) {
  TRAPLINE_ASSERT(name >= ZYDIS_REGISTER_ES && name <= ZYDIS_REGISTER_GS);
  return static_cast<SegmentName>(name - ZYDIS_REGISTER_ES);
}
static_assert(ZYDIS_REGISTER_GS - ZYDIS_REGISTER_ES == kGs, "Zydis orders them as we do");

}  // namespace

Execution::Execution(Cpu& guest, const ZydisDecodedInstruction& decoded,
                     const ZydisDecodedOperand* list)
    : cpu(guest),
      state(guest.state),
      instruction(decoded),
      operands(list),
      next_eip(state.eip + decoded.length),
      operand_size_(prefixed_operand_size(state, decoded)) {}

bool Execution::is_segment_register(int i) const {
  return is_register(i) && operands[i].reg.value >= ZYDIS_REGISTER_ES &&
         operands[i].reg.value <= ZYDIS_REGISTER_GS;
}

SegmentName Execution::segment_register(int i) const {
  return segment_of(operands[i].reg.value);
}

uint32_t Execution::register_value(ZydisRegister name) const {
  if (name == ZYDIS_REGISTER_NONE) return 0;
  if (name >= ZYDIS_REGISTER_EAX && name <= ZYDIS_REGISTER_EDI)
    return state.gpr[name - ZYDIS_REGISTER_EAX];
  if (name >= ZYDIS_REGISTER_AX && name <= ZYDIS_REGISTER_DI)
    return state.gpr[name - ZYDIS_REGISTER_AX] & 0xffff;
  TRAPLINE_ASSERT(name >= ZYDIS_REGISTER_AL && name <= ZYDIS_REGISTER_BH);
  const uint32_t number = name - ZYDIS_REGISTER_AL;
  return number < 4 ? state.gpr[number] & 0xff : state.gpr[number - 4] >> 8 & 0xff;
}

void Execution::set_register(ZydisRegister name, uint32_t value) {
  if (name >= ZYDIS_REGISTER_EAX && name <= ZYDIS_REGISTER_EDI) {
    state.gpr[name - ZYDIS_REGISTER_EAX] = value;
    return;
  }
  if (name >= ZYDIS_REGISTER_AX && name <= ZYDIS_REGISTER_DI) {
    set_gpr(static_cast<Gpr>(name - ZYDIS_REGISTER_AX), value, 2);
    return;
  }
  TRAPLINE_ASSERT(name >= ZYDIS_REGISTER_AL && name <= ZYDIS_REGISTER_BH);
  const uint32_t number = name - ZYDIS_REGISTER_AL;
  uint32_t& gpr = state.gpr[number & 3];
  gpr = number < 4 ? (gpr & ~0xffu) | (value & 0xff) : (gpr & ~0xff00u) | (value & 0xff) << 8;
}

void Execution::set_gpr(Gpr name, uint32_t value, uint32_t size) {
  uint32_t& gpr = state.gpr[name];
  gpr = (gpr & ~low_mask(size)) | (value & low_mask(size));
}

OrFault<uint32_t> Execution::read(int i) {
  const ZydisDecodedOperand& operand = operands[i];
  if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) return register_value(operand.reg.value);
  if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
    return static_cast<uint32_t>(operand.imm.value.u);
  TRAPLINE_TRY_LET(value, load(address(i), operand_size_of(i)));
  return static_cast<uint32_t>(value);
}

OrFault<void> Execution::write(int i, uint32_t value) {
  if (is_memory(i)) return store(address(i), operand_size_of(i), value);
  set_register(operands[i].reg.value, value);
  return {};
}

EffectiveAddress Execution::address(int i) const {
  const ZydisDecodedOperandMem& memory = operands[i].mem;
  const uint32_t offset = register_value(memory.base) +
                          register_value(memory.index) * memory.scale +
                          static_cast<uint32_t>(memory.disp.value);
  return {segment_of(memory.segment), offset & address_mask()};
}

SegmentName Execution::data_segment() const {
  constexpr std::pair<ZydisInstructionAttributes, SegmentName> kOverrides[] = {
      {ZYDIS_ATTRIB_HAS_SEGMENT_ES, kEs},
      {ZYDIS_ATTRIB_HAS_SEGMENT_CS, kCs},
      {ZYDIS_ATTRIB_HAS_SEGMENT_SS, kSs},
      {ZYDIS_ATTRIB_HAS_SEGMENT_FS, kFs},
      {ZYDIS_ATTRIB_HAS_SEGMENT_GS, kGs}};
  for (const auto& [attribute, name] : kOverrides)
    if (instruction.attributes & attribute) return name;
  return kDs;
}

OrFault<Linear> Execution::range(const EffectiveAddress& at, uint32_t size, SegmentAccess access,
                                 uint32_t aligned_to) {
  return check_segment(state, at.segment, at.offset, size, access, aligned_to);
}

OrFault<uint64_t> Execution::load(const EffectiveAddress& at, uint32_t size,
                                  uint32_t displacement) {
  const EffectiveAddress part{at.segment, (at.offset + displacement) & address_mask()};
  TRAPLINE_TRY_LET(linear, range(part, size, SegmentAccess::kRead, size));
  return cpu.memory.read(linear, size, Privilege::kCurrent);
}

OrFault<void> Execution::store(const EffectiveAddress& at, uint32_t size, uint64_t value) {
  TRAPLINE_TRY_LET(linear, range(at, size, SegmentAccess::kWrite, size));
  return cpu.memory.write(linear, size, value, Privilege::kCurrent);
}

OrFault<void> Execution::go_to(uint32_t eip) {
  if (operand_size_ == OperandSize::k16) eip &= 0xffff;
  if (eip > state.segment[kCs].limit) return Fault::general_protection();
  state.eip = eip;
  moved = true;
  return {};
}

OrFault<void> Execution::push(uint32_t value) {
  StackFrame frame(operand_size_);
  frame.push(value);
  TRAPLINE_TRY_LET(esp, push_frame(cpu, frame));
  state.gpr[kEsp] = esp;
  return {};
}

void Execution::drop(uint32_t bytes) {
  const uint32_t esp = state.gpr[kEsp];
  state.gpr[kEsp] = merge_sp(state.segment[kSs], esp, esp + bytes);
}

void Execution::set_flags(uint32_t mask, uint32_t values) {
  state.eflags = (state.eflags & ~mask) | (values & mask);
}

}  // namespace trapline
