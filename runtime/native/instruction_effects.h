// What 32-bit instructions do, as far as it matters to whoever lets them run natively: what the
// decoder and the instruction table say, and have said about the same form before.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/native/instruction_form.h"
#include "translator/instruction.h"
#include "vcpu/cpu_model.h"

namespace trapline {

/// May be the first byte, behind prefixes, of what silently differs. Those that have operands are
/// told apart by decoding.
constexpr bool first_byte_of_sensitive(uint8_t byte) {
  switch (byte) {
    case 0x06:  // PUSH and POP of segment registers
    case 0x07:
    case 0x0e:
    case 0x16:
    case 0x17:
    case 0x1e:
    case 0x1f:
    case 0x0f:
    case 0x8c:  // MOV from and to segment registers
    case 0x8e:
    case 0x9a:  // far CALL, JMP, RET and IRET
    case 0xca:
    case 0xcb:
    case 0xcf:
    case 0xea:
    case 0xff:
    case 0xc4:  // LES and LDS
    case 0xc5:
      return true;
    default:
      return false;
  }
}

/// The same of the byte after 0F: system tables, LAR, LSL, SYSCALL, RDPMC, SYSENTER, PUSH and POP
/// of FS and GS, CPUID, LSS, LFS and LGS, and what no model has.
constexpr bool sensitive_second_byte(uint8_t byte) {
  switch (byte) {
    case 0x00:
    case 0x01:
    case 0x02:
    case 0x03:
    case 0x05:
    case 0x07:
    case 0x33:
    case 0x34:
    case 0x35:
    case 0xa0:
    case 0xa1:
    case 0xa2:
    case 0xa8:
    case 0xa9:
    case 0xae:
    case 0xb2:
    case 0xb4:
    case 0xb5:
    case 0xc7:
      return true;
    default:
      return false;
  }
}

constexpr bool is_prefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

/// Whether the processor in user mode does something else than the guest's would, without a fault.
/// CPUID is not counted.
bool silently_differs(const Instruction& in);

struct InstructionEffect {
  uint16_t length : 4 = 0;    ///< 0: not looked at.
  uint16_t distance : 3 = 0;  ///< How many bytes of it, the last ones, tell where it branches to.
  uint16_t valid : 1 = 0;
  uint16_t differs : 1 = 0;     ///< Silently, in any case.
  uint16_t sse : 1 = 0;         ///< Where the guest's kernel does not let SSE execute, too.
  uint16_t only_loads : 1 = 0;  ///< It loads a segment register, and stores none before.
  uint16_t cpuid : 1 = 0;
  uint16_t ends : 1 = 0;        ///< The flow does not go on behind it.
  uint16_t calls : 1 = 0;       ///< It goes elsewhere first, and may never come back.
  uint16_t system : 1 = 0;      ///< Enters the guest's kernel the fast way: SYSENTER, SYSCALL.
  uint16_t only_known : 1 = 0;  ///< It differs, but counts only where it is known.

  bool operator==(const InstructionEffect&) const = default;
};
static_assert(sizeof(InstructionEffect) == 2, "thousands of them are remembered");

class InstructionEffects {
 public:
  explicit InstructionEffects(const CpuModel& model) : model_(model) {}

  /// Of the instruction that the bytes begin with. One that goes on behind them is valid, ends with
  /// them, and differs if it begins like one that does.
  InstructionEffect of(std::span<const uint8_t> bytes) {
    InstructionForm form;
    if (bytes.size() < InstructionForm::kLongest || !form_of(bytes.data(), form)) return ask(bytes);
    return remembered(bytes, form);
  }
  /// Without remembering.
  InstructionEffect ask(std::span<const uint8_t> bytes) const { return decoded(bytes).effect; }

 private:
  struct Known {
    InstructionEffect effect;
    bool sib = false;  ///< There is a SIB byte; where this is remembered, without what it adds.
  };

  InstructionEffect remembered(std::span<const uint8_t> bytes, const InstructionForm& form) {
    const Known& known = memo_.at(form);
    if (known.effect.length == 0) learn(bytes, form);
    InstructionEffect out = known.effect;
    if (out.valid && form.length && !out.only_known)  // The same, and at hand sooner.
      out.length = form.length & 0xf;
    else if (known.sib && form.displacement)
      out.length += InstructionForm::kDisplacement;
    return out;
  }
  Known decoded(std::span<const uint8_t> bytes) const;
  void learn(std::span<const uint8_t> bytes, const InstructionForm& form);

  const CpuModel& model_;
  FormMemo<Known> memo_;
};

}  // namespace trapline
