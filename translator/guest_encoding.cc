#include "translator/guest_encoding.h"

#include <array>

#include "translator/host_registers.h"
#include "translator/instruction_table.h"

namespace trapline {
namespace {

constexpr uint8_t kOperandSize = 0x66;
constexpr uint8_t kRexR = 0x44;  ///< ModRM's reg names one of r8 to r15.
constexpr uint8_t kRexB = 0x41;  ///< Its rm does, or the opcode's last three bits.

/// Opcodes of the one-byte map that mean the same in 64-bit mode. Not among them: INC and DEC,
/// which have become REX prefixes; 82, which has gone; MOV with an address in it, which has grown;
/// and 90.
constexpr std::array<bool, 256> kSameOneByte = [] {
  std::array<bool, 256> same{};
  const auto range = [&same](uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; ++i) same[i] = true;
  };
  for (uint32_t base = 0; base < 0x40; base += 8) range(base, base + 5);
  for (uint32_t i :
       {0x69, 0x6b, 0x80, 0x81, 0xa8, 0xa9, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff})
    same[i] = true;
  range(0x83, 0x8b);
  range(0x91, 0x97);
  range(0xb0, 0xbf);
  range(0xd0, 0xd3);
  range(0xd8, 0xdf);
  return same;
}();

/// The host's register for ESP has ESP's number, and a bit more in a REX prefix.
static_assert((host::kStack.id() & 7) == kEsp && host::kStack.id() >= 8);

struct StackFields {
  bool possible = true;  ///< ESP is in such a field wherever the instruction names it.
  bool reg = false;
  bool rm = false;
};

StackFields stack_fields(const Instruction& in) {
  StackFields fields;
  if (!(in.traits & trait::kNamesEsp)) return fields;
  for (int8_t i = 0; i < static_cast<int8_t>(in.operand_count); ++i) {
    if (!in.operand[static_cast<size_t>(i)].is_stack_pointer()) continue;
    if (i == in.encoding.reg_operand)
      fields.reg = true;
    else if (i == in.encoding.rm_operand)
      fields.rm = true;
    else
      fields.possible = false;
  }
  return fields;
}

/// INC and DEC of a register have been one byte.
void emit_increment(HostAssembler& a, const Instruction& in, bool of_stack) {
  if (of_stack) a.put(kRexB);
  a.put(0xff);
  a.put(static_cast<uint8_t>(0xc0 | (in.opcode & 0x0f)));
}

}  // namespace

bool emit_guest_encoding(HostAssembler& a, const Instruction& in, std::span<const uint8_t> bytes,
                         const asmjit::x86::Mem* memory) {
  const Encoding& encoding = in.encoding;
  const bool increment = in.opcode_map == 0 && in.opcode >= 0x40 && in.opcode < 0x50;
  if (in.opcode_map == 0 && !kSameOneByte[in.opcode] && !increment) return false;
  if (memory && !encoding.modrm) return false;
  const bool vector = in.row->fpu == FpuUse::kMmx || in.row->fpu == FpuUse::kSse;
  if (encoding.mandatory_prefix && !vector) return false;
  const StackFields stack = stack_fields(in);
  if (!stack.possible) return false;
  // Any other F2 or F3 is dropped: it may mean something to newer processors.
  if (in.lock) a.lock();
  if (encoding.mandatory_prefix) a.put(encoding.mandatory_prefix);
  if (in.row->fpu == FpuUse::kNone && in.operand_size == 2) a.put(kOperandSize);
  if (increment) {
    emit_increment(a, in, stack.rm);
    return true;
  }
  if (!memory) {
    if (stack.reg || stack.rm)
      a.put(static_cast<uint8_t>((stack.reg ? kRexR : 0) | (stack.rm ? kRexB : 0)));
    a.put(bytes.subspan(encoding.opcode));
    return true;
  }
  a.put_with_memory(bytes.subspan(encoding.opcode, encoding.modrm - encoding.opcode),
                    stack.reg ? host::kStack.id() : in.modrm >> 3 & 7, *memory);
  if (encoding.immediate_size[0]) a.put(bytes.subspan(encoding.immediate[0]));
  return true;
}

}  // namespace trapline
