// Fetch, decode, the conditions that all instructions share, and the way back.
#include <array>

#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"
#include "vcpu/execution.h"
#include "vcpu/interpreter_table.h"

namespace trapline {
namespace {

constexpr uint32_t kMaxLength = 15;

using RowTable = std::array<const InterpreterRow*, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

RowTable collect_rows() {
  RowTable table{};
  for (const auto& chapter : {data_rows(), transfer_rows(), system_rows(), protection_rows(),
                              io_rows(), bcd_rows(), fpu_state_rows()})
    for (const InterpreterRow& row : chapter) table[row.mnemonic] = &row;
  return table;
}

const InterpreterRow* find_row(uint16_t mnemonic) {
  static const RowTable kTable = collect_rows();
  return mnemonic < kTable.size() ? kTable[mnemonic] : nullptr;
}

ZydisDecoder make_decoder(const CpuState& state) {
  ZydisDecoder decoder;
  // The decoder's real mode would refuse SYSENTER, which is #GP there, not #UD.
  if (state.segment[kCs].big() && !state.v86())
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  else
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  // Encodings that mean something else to the processors we show.
  for (ZydisDecoderMode mode :
       {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_LZCNT,
        ZYDIS_DECODER_MODE_TZCNT, ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE})
    ZydisDecoderEnableMode(&decoder, mode, ZYAN_FALSE);
  return decoder;
}

struct Decoded {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

// Bytes are fetched page by page, so that nothing is touched that the instruction has no part in.
class Fetcher {
 public:
  explicit Fetcher(Cpu& cpu) : cpu_(cpu), cs_(cpu.state.segment[kCs]) {}

  OrFault<void> decode(Decoded& decoded) {
    const ZydisDecoder decoder = make_decoder(cpu_.state);
    for (;;) {
      TRAPLINE_TRY(fetch_to_page_end());
      const ZyanStatus status = ZydisDecoderDecodeFull(&decoder, bytes_.data(), count_,
                                                       &decoded.instruction, decoded.operands);
      if (ZYAN_SUCCESS(status)) return check_encoding(decoded);
      if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return Fault::general_protection();
      if (status != ZYDIS_STATUS_NO_MORE_DATA) return Fault::invalid_opcode();
      if (count_ == kMaxLength) return Fault::general_protection();
    }
  }

 private:
  // VEX and its relatives, and 3DNow!: no model has them.
  static OrFault<void> check_encoding(const Decoded& decoded) {
    if (decoded.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
      return Fault::invalid_opcode();
    return {};
  }

  // At least one byte more, unless that byte faults. Code never expands down: whatever type CS has
  // in real mode, its limit is its end.
  OrFault<void> fetch_to_page_end() {
    const uint32_t before = count_;
    do {
      const uint32_t offset = cpu_.state.eip + count_;
      const bool outside = offset > cs_.limit;
      if (outside && count_ > before) return {};  // It may be complete already.
      if (outside) return Fault::general_protection();
      TRAPLINE_TRY_LET(byte, cpu_.memory.fetch({cs_.base + offset}));
      bytes_[count_++] = byte;
    } while (count_ < kMaxLength && (cs_.base + cpu_.state.eip + count_) % kPageSize != 0);
    return {};
  }

  Cpu& cpu_;
  const Segment& cs_;
  std::array<uint8_t, kMaxLength> bytes_;
  uint32_t count_ = 0;
};

OrFault<void> check_conditions(const Cpu& cpu, const InterpreterRow& row) {
  const bool lacking = row.features & ~cpu.model.features;
  const bool wrong_mode =
      (row.conditions & InterpreterRow::kProtectedOnly) && !uses_descriptors(cpu.state);
  if (lacking || wrong_mode) return Fault::invalid_opcode();
  if ((row.conditions & InterpreterRow::kRing0) && cpu.state.cpl != 0)
    return Fault::general_protection();
  return {};
}

OrFault<void> run(Execution& execution, const InterpreterRow& row) {
  TRAPLINE_TRY(check_conditions(execution.cpu, row));
  CpuState& state = execution.state;
  const InterruptShadow shadow = state.shadow;
  state.shadow = InterruptShadow::kNone;
  const OrFault<void> result = row.handler(execution);
  if (!result.ok()) {
    state.shadow = shadow;
    return result.fault();
  }
  if (!execution.moved) state.eip = execution.next_eip;
  if (!execution.keeps_rf) state.eflags &= ~eflags::kRf;
  return {};
}

}  // namespace

bool interpreter_handles(uint16_t zydis_mnemonic) {
  return find_row(zydis_mnemonic) != nullptr;
}

StepResult interpret(Cpu& cpu) {
  StepResult result;
  Decoded decoded;
  const OrFault<void> fetched = Fetcher(cpu).decode(decoded);
  if (!fetched.ok()) {
    result.step = Step::kFault;
    result.fault = fetched.fault();
    return result;
  }
  result.mnemonic = static_cast<uint16_t>(decoded.instruction.mnemonic);
  result.length = decoded.instruction.length;
  const InterpreterRow* row = find_row(result.mnemonic);
  if (!row) {
    result.step = Step::kNotHandled;
    return result;
  }
  Execution execution(cpu, decoded.instruction, decoded.operands);
  const OrFault<void> outcome = run(execution, *row);
  result.step = outcome.ok() ? execution.step : Step::kFault;
  if (!outcome.ok()) result.fault = outcome.fault();
  return result;
}

}  // namespace trapline
