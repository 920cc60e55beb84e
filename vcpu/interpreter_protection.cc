// LAR, LSL, VERR, VERW and ARPL: what a selector would allow.
#include "vcpu/descriptor.h"
#include "vcpu/execution.h"

namespace trapline {
namespace {

void set_zero(Execution& x, bool value) {
  x.set_flags(eflags::kZf, value ? eflags::kZf : 0);
}

constexpr uint16_t bit(SystemType type) {
  return static_cast<uint16_t>(1u << static_cast<unsigned>(type));
}
constexpr uint16_t kLslTypes = bit(SystemType::kTss16) | bit(SystemType::kLdt) |
                               bit(SystemType::kTss16Busy) | bit(SystemType::kTss32) |
                               bit(SystemType::kTss32Busy);
constexpr uint16_t kLarTypes = kLslTypes | bit(SystemType::kCallGate16) |
                               bit(SystemType::kTaskGate) | bit(SystemType::kCallGate32);

// A descriptor, unless there is none: then `found` is false. Page faults are faults as ever.
struct Lookup {
  bool found = false;
  Descriptor descriptor;
};
OrFault<Lookup> look_up(Cpu& cpu, uint16_t selector) {
  if (null_selector(selector)) return Lookup{};
  const auto descriptor = read_descriptor(cpu, selector, Vector::kGeneralProtection);
  if (descriptor.ok()) return Lookup{true, *descriptor};
  if (descriptor.fault().vector == Vector::kGeneralProtection) return Lookup{};
  return descriptor.fault();
}

bool visible(const CpuState& state, uint16_t selector, const Descriptor& descriptor) {
  if (descriptor.code() && descriptor.conforming()) return true;
  return state.cpl <= descriptor.dpl() && rpl(selector) <= descriptor.dpl();
}

// One that the program may know of: code, data, or a system descriptor of one of these types.
OrFault<Lookup> look_up_for(Cpu& cpu, uint16_t selector, uint16_t types) {
  TRAPLINE_TRY_LET(entry, look_up(cpu, selector));
  const Descriptor& descriptor = entry.descriptor;
  const bool good = entry.found &&
                    (descriptor.code_or_data() || (types >> descriptor.type() & 1)) &&
                    visible(cpu.state, selector, descriptor);
  return good ? entry : Lookup{};
}

// A register operand of any size gives its low word.
OrFault<uint16_t> selector_operand(Execution& x, int i) {
  if (x.is_memory(i)) {
    TRAPLINE_TRY_LET(word, x.load(x.address(i), 2));
    return static_cast<uint16_t>(word);
  }
  return static_cast<uint16_t>(x.register_value(x.operands[i].reg.value));
}

OrFault<void> take(Execution& x, const std::optional<uint32_t>& value) {
  set_zero(x, value.has_value());
  return value ? x.write(0, *value) : OrFault<void>{};
}

OrFault<void> lar(Execution& x) {
  TRAPLINE_TRY_LET(selector, selector_operand(x, 1));
  TRAPLINE_TRY_LET(rights, access_rights(x.cpu, selector));
  return take(x, rights);
}

OrFault<void> lsl(Execution& x) {
  TRAPLINE_TRY_LET(selector, selector_operand(x, 1));
  TRAPLINE_TRY_LET(limit, segment_limit(x.cpu, selector));
  return take(x, limit);
}

template <bool Writing>
OrFault<void> verify(Execution& x) {
  TRAPLINE_TRY_LET(selector, selector_operand(x, 0));
  TRAPLINE_TRY_LET(good, verify_selector(x.cpu, selector, Writing));
  set_zero(x, good);
  return {};
}

OrFault<void> arpl(Execution& x) {
  TRAPLINE_TRY_LET(destination, x.read(0));
  TRAPLINE_TRY_LET(source, x.read(1));
  const bool lower = (destination & 3) < (source & 3);
  if (lower) TRAPLINE_TRY(x.write(0, (destination & ~3u) | (source & 3)));
  set_zero(x, lower);
  return {};
}

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_LAR, lar, InterpreterRow::kProtectedOnly},
    {ZYDIS_MNEMONIC_LSL, lsl, InterpreterRow::kProtectedOnly},
    {ZYDIS_MNEMONIC_VERR, verify<false>, InterpreterRow::kProtectedOnly},
    {ZYDIS_MNEMONIC_VERW, verify<true>, InterpreterRow::kProtectedOnly},
    {ZYDIS_MNEMONIC_ARPL, arpl, InterpreterRow::kProtectedOnly},
};

}  // namespace

OrFault<std::optional<uint32_t>> access_rights(Cpu& cpu, uint16_t selector) {
  TRAPLINE_TRY_LET(entry, look_up_for(cpu, selector, kLarTypes));
  if (!entry.found) return std::optional<uint32_t>{};
  // The limit's upper bits come along, as on the processors themselves.
  return std::optional(static_cast<uint32_t>(entry.descriptor.raw >> 32) & 0x00ffff00);
}

OrFault<std::optional<uint32_t>> segment_limit(Cpu& cpu, uint16_t selector) {
  TRAPLINE_TRY_LET(entry, look_up_for(cpu, selector, kLslTypes));
  if (!entry.found) return std::optional<uint32_t>{};
  return std::optional(entry.descriptor.limit());
}

OrFault<bool> verify_selector(Cpu& cpu, uint16_t selector, bool writing) {
  TRAPLINE_TRY_LET(entry, look_up(cpu, selector));
  const Descriptor& descriptor = entry.descriptor;
  return entry.found && (writing ? descriptor.writable_data() : descriptor.readable()) &&
         visible(cpu.state, selector, descriptor);
}

std::span<const InterpreterRow> protection_rows() {
  return kRows;
}

}  // namespace trapline
