// Where a block keeps the arithmetic flags: in the host's EFLAGS, in the flags register, or nowhere
// as long as the comparison that gave them can be repeated.
#include <Zydis/Mnemonic.h>

#include <utility>

#include "translator/block_emitter.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/lower_operands.h"
#include "translator/register_use.h"

namespace trapline {

namespace x86 = asmjit::x86;

void BlockEmitter::emit_save_flags() {
  a.say(phrases_.save_flags, [&] {
    a.mov(host::kFlags.r32(), x86::eax);
    a.lahf();
    if (mutated(Mutation::kSavedFlagsLoseOverflow))
      a.mov(x86::al, 0);
    else
      a.seto(x86::al);
    a.xchg(host::kFlags.r32(), x86::eax);
  });
}

void BlockEmitter::emit_restore_flags() {
  // CMP of 0 or 1 with -127 makes OF what SETO left in AL, and changes no register.
  a.xchg(host::kFlags.r32(), x86::eax);
  a.cmp(x86::al, -127);
  a.sahf();
  a.xchg(host::kFlags.r32(), x86::eax);
}

void BlockEmitter::clobber_flags() {
  if (!flags_in_host_ || !current_->needed) return;
  if (comparison_ >= 0)
    recompute_ = true;
  else
    emit_save_flags();
  flags_in_host_ = false;
  if (!out_.records.empty()) out_.records.back().flags_saved = true;
}

void BlockEmitter::need_flags() {
  if (flags_in_host_) return;
  flags_in_host_ = true;
  if (std::exchange(recompute_, false)) {
    emit_comparison(comparison_);
    // The image never was good: a fault from here on finds the flags in the host's.
    Record record = out_.records.back();
    record.host = static_cast<uint16_t>(offset());
    record.flags_saved = false;
    out_.records.push_back(record);
    return;
  }
  emit_restore_flags();
  // The image is still good, which is what a fault of this instruction needs.
  out_.records.back().flags_saved = true;
}

void BlockEmitter::prepare_flags(const Instruction& in) {
  const uint32_t undefined = switches_.exact_flags ? in.flags_undefined : 0;
  const uint32_t sure = in.flags_conditional ? 0 : in.flags_written & ~undefined;
  const bool reads = in.flags_read != 0;
  const bool keeps = in.flags_written && (current_->live_after & ~sure);
  const bool partial = keeps && !mutated(Mutation::kIncLosesCarry);
  if (reads || partial) need_flags();
}

void BlockEmitter::flags_are_in_host() {
  flags_in_host_ = true;
  recompute_ = false;
  comparison_ = -1;
  const Instruction& in = instructions_[index_];
  const bool compares = in.mnemonic == ZYDIS_MNEMONIC_CMP || in.mnemonic == ZYDIS_MNEMONIC_TEST;
  if (!switches_.recompute_flags || !compares || in.row->lower != lower_generic) return;
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& o = in.operand[i];
    if (o.kind == Operand::Kind::kImmediate) continue;
    if (!is_general(o) || general_register(o).id() == host::kStack.id()) return;
  }
  comparison_ = static_cast<int>(index_);
}

/// Before an instruction: the comparison that gave the flags is of no more use if it changes an
/// operand, or could leave the block in a way that asks for flags without cold code.
void BlockEmitter::note_comparison(const Instruction& in) {
  if (comparison_ < 0) return;
  uint32_t compared = 0;
  for (const Operand& o : instructions_[static_cast<size_t>(comparison_)].operand)
    if (is_general(o)) compared |= 1u << o.number;
  if (mutated(Mutation::kStaleComparison)) compared = 0;
  const bool keeps = in.row->fpu == FpuUse::kNone && !(written_registers(in) & compared);
  if (keeps) return;
  if (recompute_) {
    if (current_->live_before)
      need_flags();
    else
      flags_are_in_host();
  }
  comparison_ = -1;
}

void BlockEmitter::emit_comparison(int index) {
  const Instruction& in = instructions_[static_cast<size_t>(index)];
  const auto operand = [](const Operand& o) -> asmjit::Operand {
    if (o.kind == Operand::Kind::kImmediate) return host_immediate(o);
    return general_register(o);
  };
  a.emit(in.row->host_id, operand(in.operand[0]), operand(in.operand[1]));
}

/// Before leaving the block other than through C++.
void BlockEmitter::settle_flags() {
  if (recompute_) need_flags();
}

void BlockEmitter::save_flags_for_exit() {
  settle_flags();
  if (!flags_in_host_) return;
  emit_save_flags();
  flags_in_host_ = false;
}

/// C++ wants live flags in the flags register.
void BlockEmitter::emit_comparison_flags(const Cold& cold) {
  if (cold.comparison < 0) return;
  emit_comparison(cold.comparison);
  emit_save_flags();
}

}  // namespace trapline
