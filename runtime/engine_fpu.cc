// The x87's part of the engine: exceptions that are reported late, stores that they suppress, and
// the pointers that the guest can see.
#include <Zydis/Mnemonic.h>

#include "runtime/engine.h"
#include "translator/decoder.h"
#include "translator/instruction_table.h"
#include "vcpu/host_x87.h"

namespace trapline {

namespace {
/// All exceptions but the one about precision: a store with that has been done.
constexpr uint16_t kSuppressing = 0x1f;

constexpr uint16_t kErrorSummary = 0x80, kBusy = 0x8000;
constexpr uint16_t kMasks = 0x3f;  ///< Of the control word; the flags in the status word, too.

/// Executes a store into nowhere with the guest's FPU state, and leaves in it what the host makes
/// of it. False when it is none.
bool store_into_nowhere(uint16_t mnemonic, uint8_t size, FpuImage& guest) {
  FpuImage host;
  std::array<std::byte, 16> nowhere;
#define TRAPLINE_STORE(instruction)                                                       \
  asm volatile("fxsave64 %0\n fxrstor %1\n " instruction " %2\n fxsave %1\n fxrstor64 %0" \
               : "=m"(host), "+m"(guest), "=m"(nowhere))
  switch (mnemonic << 8 | size) {
    case ZYDIS_MNEMONIC_FST << 8 | 4:
      TRAPLINE_STORE("fsts");
      return true;
    case ZYDIS_MNEMONIC_FST << 8 | 8:
      TRAPLINE_STORE("fstl");
      return true;
    case ZYDIS_MNEMONIC_FSTP << 8 | 4:
      TRAPLINE_STORE("fstps");
      return true;
    case ZYDIS_MNEMONIC_FSTP << 8 | 8:
      TRAPLINE_STORE("fstpl");
      return true;
    case ZYDIS_MNEMONIC_FSTP << 8 | 10:
      TRAPLINE_STORE("fstpt");
      return true;
    case ZYDIS_MNEMONIC_FIST << 8 | 2:
      TRAPLINE_STORE("fists");
      return true;
    case ZYDIS_MNEMONIC_FIST << 8 | 4:
      TRAPLINE_STORE("fistl");
      return true;
    case ZYDIS_MNEMONIC_FISTP << 8 | 2:
      TRAPLINE_STORE("fistps");
      return true;
    case ZYDIS_MNEMONIC_FISTP << 8 | 4:
      TRAPLINE_STORE("fistpl");
      return true;
    case ZYDIS_MNEMONIC_FISTP << 8 | 8:
      TRAPLINE_STORE("fistpll");
      return true;
    case ZYDIS_MNEMONIC_FBSTP << 8 | 10:
      TRAPLINE_STORE("fbstp");
      return true;
    default:
      return false;
  }
#undef TRAPLINE_STORE
}

/// Real mode and V86 mode, whose x87 environments hold linear addresses.
bool linear_pointers(const CpuState& state) {
  return !state.protected_mode() || state.v86();
}

/// FDP for an operand: before segmentation, or linear.
uint32_t operand_pointer(const Operand& memory, const Instruction& in, const CpuState& state) {
  auto offset = static_cast<uint32_t>(memory.value);
  if (memory.base != Operand::kNoRegister) offset += state.gpr[memory.base];
  if (memory.index != Operand::kNoRegister) offset += state.gpr[memory.index] * memory.scale;
  if (in.address_size == 2) offset &= 0xffff;
  return linear_pointers(state) ? state.segment[memory.segment].base + offset : offset;
}

/// The x87 opcode field of an encoding: the low bits of its escape byte, and ModRM.
std::optional<uint16_t> x87_opcode(std::span<const uint8_t> bytes) {
  for (size_t i = 0; i + 1 < bytes.size(); ++i)
    if ((bytes[i] & 0xf8) == 0xd8) return static_cast<uint16_t>((bytes[i] & 7) << 8 | bytes[i + 1]);
  return std::nullopt;
}
}  // namespace

/// Without NE the waiting instruction does not begin until an interrupt has dealt with the error;
/// the run loop tries it again and again. While the board asserts IGNNE#, it runs nevertheless.
uint64_t Engine::raise_x87() {
  if ((context_->cpu.cr0 & cr0::kNe) || !options_.board) return raise(Fault::plain(Vector::kX87));
  x87_held_ = true;
  if (x87_ignored_)
    x87_passes_ = true;
  else
    options_.board->x87_error();
  return leave(Leave::kAttention);
}

/// Until the error is cleared, the run loop looks after each instruction.
void Engine::ignore_x87_errors(bool ignore) {
  x87_ignored_ = ignore && options_.board;
  if (x87_ignored_) context_->hot.attention = 1;
}

/// The host has no IGNNE#: for one instruction, it sees all exceptions masked.
void Engine::mask_x87() {
  FpuImage& fpu = context_->cpu.fpu;
  x87_masks_ = fpu.control & kMasks;
  fpu.control |= kMasks;
  fpu.status = static_cast<uint16_t>(fpu.status & ~(kErrorSummary | kBusy));
  const CpuState& state = context_->cpu;
  Instruction in;
  const bool known = decode_here(code_bytes(state.segment[kCs].base + state.eip), in);
  x87_sets_control_ =
      known && (in.mnemonic == ZYDIS_MNEMONIC_FLDCW || in.mnemonic == ZYDIS_MNEMONIC_FLDENV ||
                in.mnemonic == ZYDIS_MNEMONIC_FRSTOR);
}

void Engine::unmask_x87(bool completed) {
  FpuImage& fpu = context_->cpu.fpu;
  if (!completed || !x87_sets_control_)
    fpu.control = static_cast<uint16_t>((fpu.control & ~kMasks) | x87_masks_);
  if (fpu.status & ~fpu.control & kMasks) fpu.status |= kErrorSummary | kBusy;
}

/// Up to 15, fewer where the next page is absent.
Engine::CodeBytes Engine::code_bytes(uint32_t linear) {
  CodeBytes out;
  for (; out.count < out.bytes.size(); ++out.count) {
    const auto byte = fetch({linear + out.count});
    if (!byte.ok()) break;
    out.bytes[out.count] = *byte;
  }
  return out;
}

bool Engine::decode_here(const CodeBytes& code, Instruction& in) const {
  const auto size = mode_.code32() ? CodeSize::k32 : CodeSize::k16;
  return decode({code.bytes.data(), code.count}, size, model_, context_->cpu.eip, in) ==
         Decoded::kOk;
}

bool Engine::waits_for_x87() {
  Instruction in;
  const CpuState& state = context_->cpu;
  if (!decode_here(code_bytes(state.segment[kCs].base + state.eip), in)) return false;
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
      return false;
    default:
      break;
  }
  if (in.row->fpu == FpuUse::kX87) return true;
  for (int i = 0; i < in.operand_count; ++i)
    if (in.operand[i].register_kind == RegisterKind::kMmx) return true;
  return false;
}

bool Engine::finish_suppressed_store() {
  CpuState& state = context_->cpu;
  if ((state.fpu.control & kSuppressing) == kSuppressing) return false;
  const uint32_t base = state.segment[kCs].base;
  const CodeBytes code = code_bytes(base + state.eip);
  Instruction in;
  if (!decode_here(code, in) || in.row->fpu != FpuUse::kX87 || !in.memory()) return false;
  FpuImage after = state.fpu;
  if (!store_into_nowhere(in.mnemonic, in.memory()->size, after)) return false;
  if (!(after.status & ~after.control & kSuppressing)) return false;
  after.ip = state.eip;
  fpu_instruction_ = {state.eip, base};
  after.dp = operand_pointer(*in.memory(), in, state);
  if (const auto opcode = x87_opcode({code.bytes.data(), code.count})) after.opcode = *opcode;
  state.fpu = after;
  context_->hot.fpu_operand = after.dp;
  note_fpu_pointers();
  state.eip += in.length;
  if (counted_) --context_->hot.budget;
  return true;
}

void Engine::sync_fpu_pointers() {
  FpuImage& fpu = context_->cpu.fpu;
  // Many hosts move the operand pointer for unmasked exceptions only: what the host has not changed
  // stays, and what FNINIT has cleared is clear.
  if (fpu.dp != fpu_loaded_.dp && fpu.dp != 0) fpu.dp = context_->hot.fpu_operand;
  translate_fpu_instruction_pointer();
  note_fpu_pointers();
}

/// Selectors read as 0, but for that of the instruction where the layouts make a linear address of
/// it: in real mode and V86 mode. FDP is one from the start there.
void Engine::note_fpu_pointers() {
  const CpuState& state = context_->cpu;
  FpuImage& fpu = context_->cpu.fpu;
  const bool known = fpu.ip != 0 && fpu.ip == fpu_instruction_.eip;
  fpu.cs = linear_pointers(state) && known ? static_cast<uint16_t>(fpu_instruction_.base >> 4) : 0;
  fpu.ds = 0;
  fpu_loaded_ = {fpu.dp, fpu.opcode};
}

/// An instruction pointer that still is an address of translated code becomes the guest's. So does
/// the opcode, where the host has moved it.
void Engine::translate_fpu_instruction_pointer() {
  FpuImage& fpu = context_->cpu.fpu;
  if (!code_memory_->contains(fpu.ip)) return;
  const Block* block = cache_->block_at(fpu.ip);
  if (!block) return;
  const auto* code = reinterpret_cast<const uint8_t*>(code_memory_->writable(fpu.ip));
  const auto host_opcode = x87_opcode({code, 15});
  const CodeRecord& record = cache_->record_at(*block, fpu.ip);
  fpu.ip = block->eip() + static_cast<uint32_t>(record.guest);
  const uint32_t start = block->table->page << kPageShift | block->offset;
  fpu_instruction_ = {fpu.ip, start - block->eip()};
  // It may have been the same before.
  const bool moved = fpu.opcode != fpu_loaded_.opcode || (fpu.status & kErrorSummary) ||
                     host_always_moves_x87_opcode();
  if (!moved || host_opcode != (fpu.opcode & 0x7ff)) return;
  const CodeBytes guest = code_bytes(fpu_instruction_.base + fpu.ip);
  if (const auto opcode = x87_opcode({guest.bytes.data(), guest.count})) fpu.opcode = *opcode;
}

}  // namespace trapline
