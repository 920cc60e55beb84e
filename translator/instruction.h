// A decoded guest instruction, compact: what the lowering functions and the liveness pass read.
#pragma once

#include <array>
#include <cstdint>

#include "vcpu/state.h"

namespace trapline {

struct InstructionRow;

enum class RegisterKind : uint8_t {
  kGpr8Low,
  kGpr8High,
  kGpr16,
  kGpr32,
  kX87,
  kMmx,
  kXmm,
  kSegment,
  kControl,
  kDebug,
  kOther
};

struct Operand {
  enum class Kind : uint8_t { kNone, kRegister, kMemory, kImmediate, kRelative, kFar };
  static constexpr uint8_t kNoRegister = 0xff;

  /// Displacement, immediate (sign-extended), relative target's offset, or far offset.
  int64_t value = 0;
  Kind kind = Kind::kNone;
  uint8_t size = 0;  ///< Bytes.
  bool read = false;
  bool written = false;
  // Registers: high bytes have the number of the whole register (AH is 0).
  RegisterKind register_kind = RegisterKind::kOther;
  uint8_t number = 0;
  // Memory.
  SegmentName segment = kDs;
  uint8_t base = kNoRegister;
  uint8_t index = kNoRegister;
  uint8_t scale = 1;
  bool address_only = false;  ///< LEA, NOP: no access.
  uint16_t selector = 0;      ///< Far pointers.

  bool operator==(const Operand&) const = default;

  /// ESP or SP as a register.
  bool is_stack_pointer() const {
    return kind == Kind::kRegister && number == kEsp &&
           (register_kind == RegisterKind::kGpr32 || register_kind == RegisterKind::kGpr16);
  }
};

/// Where the parts of an instruction lie, counted from its first byte. What comes before the first
/// displacement or immediate decides about everything else.
struct Encoding {
  uint8_t opcode = 0;            ///< Behind the prefixes; of the escape byte 0F, if there is one.
  uint8_t modrm = 0;             ///< 0: it has none.
  uint8_t mandatory_prefix = 0;  ///< 66, F2 or F3 where it is part of the opcode; not a place.
  uint8_t displacement = 0;
  uint8_t displacement_size = 0;  ///< Bytes; 0: it has none.
  std::array<uint8_t, 2> immediate{};
  std::array<uint8_t, 2> immediate_size{};
  std::array<bool, 2> immediate_signed{};
  int8_t reg_operand = -1;  ///< Index of the register operand that ModRM's reg field names.
  int8_t rm_operand = -1;   ///< The same of its rm field, or of the opcode's last three bits.

  bool operator==(const Encoding&) const = default;
};

/// What passes over a block would otherwise have to look at operands for.
namespace trait {
inline constexpr uint8_t kNamesEsp = 1u << 0;   ///< ESP or SP is a register operand.
inline constexpr uint8_t kWritesEsp = 1u << 1;  ///< As a register operand.
inline constexpr uint8_t kWritesEbp = 1u << 2;  ///< Or a part of it; also LEAVE and POPA.
inline constexpr uint8_t kHighByte = 1u << 3;   ///< AH, CH, DH or BH is an operand.
inline constexpr uint8_t kStack = 1u
                                  << 4;  ///< PUSH, POP, PUSHF, POPF, PUSHA, POPA, CALL, RET, LEAVE.
}  // namespace trait

struct Instruction {
  const InstructionRow* row = nullptr;
  uint32_t eip = 0;
  uint16_t mnemonic = 0;
  uint8_t length = 0;
  uint8_t operand_count = 0;
  uint8_t operand_size = 4;  ///< 2 or 4 (1 for byte forms).
  uint8_t address_size = 4;
  uint8_t opcode = 0;
  uint8_t opcode_map = 0;  ///< 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A.
  uint8_t modrm = 0;       ///< Whole byte, for those that have one.
  /// Of the implicit source operand of string instructions and MASKMOVQ.
  SegmentName data_segment = kDs;
  bool lock = false;
  bool rep = false;            ///< F3 as REP or REPE.
  bool repne = false;          ///< F2.
  uint8_t traits = 0;          ///< See trait.
  int8_t memory_operand = -1;  ///< Index; -1: there is none.
  Encoding encoding;
  std::array<Operand, 3> operand;

  // Arithmetic flags only.
  uint16_t flags_read = 0;
  uint16_t flags_written = 0;      ///< Surely, or left undefined.
  uint16_t flags_undefined = 0;    ///< The part of flags_written that the manual leaves undefined.
  bool flags_conditional = false;  ///< May leave all of them as they were (a count of 0).

  bool operator==(const Instruction&) const = default;

  uint32_t next_eip() const { return eip + length; }
  /// Of relative branches: where they go.
  uint32_t target() const {
    const uint32_t to = next_eip() + static_cast<uint32_t>(operand[0].value);
    return operand_size == 2 ? to & 0xffff : to;
  }
  const Operand* memory() const {
    return memory_operand < 0 ? nullptr : &operand[static_cast<uint8_t>(memory_operand)];
  }
  bool uses_register(uint8_t gpr) const;
};
static_assert(sizeof(Instruction) <= 120, "the decode memo keeps thousands of them");

}  // namespace trapline
