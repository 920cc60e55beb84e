// The one instruction table, keyed by Zydis mnemonic: how each instruction is lowered, what it does
// to its block, and how the oracles are to treat it. Dispatch, generators and the printed coverage
// all read it.
#pragma once

#include <cstdint>
#include <span>

namespace trapline {

class BlockEmitter;
struct Instruction;

using LoweringFunction = void (*)(BlockEmitter&, const Instruction&);

/// What an instruction does to the block that it is in.
enum class BlockEffect : uint8_t {
  kNone,    ///< The block goes on.
  kBranch,  ///< Conditional: the block may go on at the fall-through.
  kEnd,     ///< The block ends with it.
};

/// Which state an instruction needs to be usable, besides the model having it.
enum class FpuUse : uint8_t { kNone, kX87, kMmx, kSse, kWait };

/// How the generators and oracles are to treat an instruction.
enum class OracleUse : uint8_t {
  kUser,      ///< Runs in user mode, deterministically: compared with the host CPU.
  kBranch,    ///< As kUser, but its target must be steered.
  kString,    ///< As kUser, but count and pointers must be steered.
  kSystem,    ///< Privileged or visible to the host kernel: Unicorn and guest programs only.
  kVolatile,  ///< Its result depends on the machine or the time.
};

struct InstructionRow {
  uint16_t mnemonic = 0;  ///< ZydisMnemonic.
  LoweringFunction lower = nullptr;
  BlockEffect effect = BlockEffect::kNone;
  FpuUse fpu = FpuUse::kNone;
  OracleUse oracle = OracleUse::kUser;
  uint32_t host_id = 0;  ///< AsmJit's instruction, for those that are re-emitted.
};

/// All rows, in no particular order.
std::span<const InstructionRow> instruction_table();
/// nullptr: not an instruction of any model that we offer (#UD).
const InstructionRow* find_row(uint16_t mnemonic);
/// MOVSD and CMPSD as SSE2 instructions; find_row() gives the string instructions of that name.
const InstructionRow* find_scalar_double_row(uint16_t mnemonic);
/// The row's, unless its name is that of an MMX instruction, and of one of XMM registers too.
FpuUse fpu_use(const Instruction& in);

}  // namespace trapline
