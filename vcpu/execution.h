// One instruction on its way through the interpreter, and the rows that say how each is executed.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <span>

#include "vcpu/cpu.h"
#include "vcpu/stack.h"

namespace trapline {

/// A memory operand's address before segmentation.
struct EffectiveAddress {
  SegmentName segment = kDs;
  uint32_t offset = 0;
};

class Execution {
 public:
  Execution(Cpu& guest, const ZydisDecodedInstruction& decoded, const ZydisDecodedOperand* list);

  Cpu& cpu;
  CpuState& state;
  const ZydisDecodedInstruction& instruction;
  const ZydisDecodedOperand* operands;
  const uint32_t next_eip;  ///< Never wraps at 64 KiB: what runs over the end faults there.
  Step step = Step::kRetired;
  bool moved = false;     ///< The handler has set EIP; otherwise it becomes next_eip.
  bool keeps_rf = false;  ///< Retiring does not clear RF: the instruction has loaded it.

  /// By CS.D and the operand size prefix alone.
  OperandSize operand_size() const { return operand_size_; }
  uint32_t operand_bytes() const { return static_cast<uint32_t>(operand_size_); }
  uint32_t address_mask() const { return instruction.address_width == 16 ? 0xffffu : ~0u; }

  bool is_register(int i) const { return operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER; }
  bool is_memory(int i) const { return operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY; }
  bool is_segment_register(int i) const;
  SegmentName segment_register(int i) const;
  uint32_t operand_size_of(int i) const { return operands[i].size / 8u; }

  /// General registers, memory and immediates of 1, 2 or 4 bytes.
  OrFault<uint32_t> read(int i);
  OrFault<void> write(int i, uint32_t value);

  EffectiveAddress address(int i) const;
  /// DS, or what a prefix says: for implied operands.
  SegmentName data_segment() const;
  /// A checked access of `size` bytes, `displacement` bytes into the operand.
  OrFault<uint64_t> load(const EffectiveAddress& at, uint32_t size, uint32_t displacement = 0);
  OrFault<void> store(const EffectiveAddress& at, uint32_t size, uint64_t value);
  /// The linear address of a range that is about to be read or written.
  OrFault<Linear> range(const EffectiveAddress& at, uint32_t size, SegmentAccess access,
                        uint32_t aligned_to = 1);

  uint32_t register_value(ZydisRegister name) const;
  void set_register(ZydisRegister name, uint32_t value);
  /// The low `operand_bytes()` of a general register.
  void set_gpr(Gpr name, uint32_t value, uint32_t size);

  /// Near transfers: EIP must lie inside CS.
  OrFault<void> go_to(uint32_t eip);
  OrFault<void> push(uint32_t value);
  void drop(uint32_t bytes);  ///< From the top of the stack.

  void set_flags(uint32_t mask, uint32_t values);

 private:
  OperandSize operand_size_;
};

struct InterpreterRow {
  using Handler = OrFault<void> (*)(Execution&);
  /// Conditions that are checked before the handler runs, in this order.
  enum Condition : uint8_t {
    kNone = 0,
    kProtectedOnly = 1,  ///< #UD in real mode and V86 mode.
    kRing0 = 2,          ///< #GP(0) at other levels.
  };

  ZydisMnemonic mnemonic;
  Handler handler;
  uint8_t conditions = kNone;
  uint32_t features = 0;  ///< #UD when the model lacks one.
};

constexpr uint32_t requires_feature(Feature feature) {
  return static_cast<uint32_t>(feature);
}

/// MOV from and to control and debug registers, a part of the row of MOV.
bool is_control_or_debug_move(const Execution& x);
OrFault<void> move_control_or_debug(Execution& x);

// One table per chapter.
std::span<const InterpreterRow> data_rows();
std::span<const InterpreterRow> transfer_rows();
std::span<const InterpreterRow> system_rows();
std::span<const InterpreterRow> protection_rows();
std::span<const InterpreterRow> io_rows();
std::span<const InterpreterRow> bcd_rows();
std::span<const InterpreterRow> fpu_state_rows();

}  // namespace trapline
