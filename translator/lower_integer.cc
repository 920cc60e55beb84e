// Integer instructions that cannot be re-emitted as they are.
#include <Zydis/Mnemonic.h>

#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "translator/lower_operands.h"

namespace trapline {

namespace x86 = asmjit::x86;

void lower_lea(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const Operand& from = in.operand[1];
  const bool esp_plus_constant = to.number == kEsp && to.size == 4 && from.base == kEsp &&
                                 from.index == Operand::kNoRegister && in.address_size == 4;
  if (esp_plus_constant && from.value > -0x4000 && from.value < 0x4000) {
    e.adjust_esp(static_cast<int32_t>(from.value));
    return;
  }
  if (to.size == 4 && to.number != kEsp && in.address_size == 4) {
    e.load_offset(from, in, 0, host::guest64(to.number));
    return;
  }
  e.load_offset(from, in);
  if (to.number == kEsp) e.flush_esp();
  const x86::Gp target = general_register(to);
  e.a.mov(target, host::sized(host::kAddress, to.size));
}

/// XLAT: AL from a table at BX or EBX.
void lower_translate(BlockEmitter& e, const Instruction& in) {
  const bool wide = in.address_size == 4;
  e.a.movzx(host::kAddress.r32(), x86::al);
  e.a.lea(host::kAddress.r32(), x86::ptr(x86::rbx, host::kAddress));
  if (!wide) e.a.movzx(host::kAddress.r32(), host::kAddress.r16());
  e.a.mov(x86::al, e.open_offset(in.data_segment, 1, AccessKind::kRead,
                                 wide ? OffsetSize::k32 : OffsetSize::k16));
}

/// BT, BTS, BTR, BTC with a register offset reach memory beyond their operand.
void lower_bound(BlockEmitter& e, const Instruction& in) {
  const Operand& index = in.operand[0];
  const uint8_t size = in.operand_size;
  Operand lower = in.operand[1];
  lower.size = size;
  Operand upper = lower;
  upper.value += size;
  if (index.number == kEsp) e.flush_esp();
  e.a.mov(value_of(size), e.open(lower, in, size, AccessKind::kRead));
  const x86::Mem high = e.open(upper, in, size, AccessKind::kRead);
  e.clobber_flags();
  BlockEmitter::Cold& cold = e.add_cold(BlockEmitter::Cold::Kind::kRaise);
  cold.fault = Fault::plain(Vector::kBound);
  const CodeLabel outside = cold.entry;
  e.a.cmp(general_register(index), high);
  e.a.j(x86::CondCode::kG, outside);
  e.a.cmp(general_register(index), value_of(size));
  e.a.j(x86::CondCode::kL, outside);
}

void lower_bit_test(BlockEmitter& e, const Instruction& in) {
  const Operand* memory = in.memory();
  const Operand& bit = in.operand[1];
  if (!memory || bit.kind != Operand::Kind::kRegister) {
    lower_generic(e, in);
    return;
  }
  if (bit.number == kEsp) e.flush_esp();
  const bool word = memory->size == 2;
  e.clobber_flags();
  e.load_offset(*memory, in);
  if (word)
    e.a.movsx(host::kValue, general_register(bit));
  else
    e.a.movsxd(host::kValue, general_register(bit));
  e.a.sar(host::kValue, word ? 4 : 5);
  e.a.lea(host::kAddress.r32(), x86::ptr(host::kAddress, host::kValue, word ? 1 : 2));
  if (in.address_size == 2) e.a.movzx(host::kAddress.r32(), host::kAddress.r16());
  const x86::Mem target = e.open_offset(memory->segment, memory->size, access_kind(*memory),
                                        in.address_size == 2 ? OffsetSize::k16 : OffsetSize::k32);
  e.a.mov(host::kValue.r32(), host::guest(bit.number));
  e.a.and_(host::kValue.r32(), word ? 15 : 31);
  e.prepare_flags(in);
  if (in.lock) e.a.lock();
  e.a.emit(in.row->host_id, target, host::sized(host::kValue, word ? 2 : 4));
  e.flags_are_in_host();
  e.commit();
}

namespace {

void load_divisor(BlockEmitter& e, const Instruction& in) {
  const Operand& divisor = in.operand[0];
  if (divisor.kind == Operand::Kind::kMemory) {
    const x86::Mem memory = e.open(divisor, in, divisor.size, AccessKind::kRead);
    if (divisor.size == 4)
      e.a.mov(host::kValue.r32(), memory);
    else
      e.a.movzx(host::kValue.r32(), memory);
    return;
  }
  if (divisor.number == kEsp && divisor.register_kind != RegisterKind::kGpr8High) e.flush_esp();
  if (divisor.register_kind == RegisterKind::kGpr8High) {
    // No REX with a high byte, so shift it out of the whole register.
    e.clobber_flags();
    e.a.movzx(host::kValue.r32(), x86::gpw(divisor.number));
    e.a.shr(host::kValue.r32(), 8);
  } else if (divisor.size == 4) {
    e.a.mov(host::kValue.r32(), host::guest(divisor.number));
  } else if (divisor.size == 2) {
    e.a.movzx(host::kValue.r32(), host::guest(divisor.number).r16());
  } else {
    e.a.movzx(host::kValue.r32(), x86::gpb_lo(divisor.number));
  }
}

/// Unsigned: the quotient overflows exactly when the high half is not below the divisor.
void check_unsigned(BlockEmitter& e, uint8_t size) {
  e.clobber_flags();
  auto& cold = e.add_cold(BlockEmitter::Cold::Kind::kRaise);
  cold.fault = Fault::plain(Vector::kDivide);
  if (size == 1) {
    e.a.movzx(host::kDelta.r32(), x86::ax);
    e.a.shr(host::kDelta.r32(), 8);
    e.a.cmp(host::kDelta.r32(), host::kValue.r32());
  } else if (size == 2) {
    e.a.cmp(x86::dx, host::kValue.r16());
  } else {
    e.a.cmp(x86::edx, host::kValue.r32());
  }
  e.a.jae(cold.entry);
}

/// Signed: the common case is a dividend that fits its low half and a divisor other than 0 and -1;
/// everything else asks C++.
void check_signed(BlockEmitter& e, uint8_t size) {
  e.clobber_flags();
  auto& cold = e.add_cold(BlockEmitter::Cold::Kind::kGate);
  cold.gate = Gate::kDivide;
  cold.info = size;
  const CodeLabel resume = cold.resume;
  const CodeLabel entry = cold.entry;
  if (size == 4) {
    e.a.lea(host::kDelta.r32(), x86::ptr(host::kValue, 1));
    e.a.cmp(host::kDelta.r32(), 1);
    e.a.jbe(entry);
    e.a.movsxd(host::kDelta, x86::eax);
    e.a.shr(host::kDelta, 32);
    e.a.cmp(host::kDelta.r32(), x86::edx);
    e.a.jne(entry);
  } else {
    e.a.jmp(entry);
  }
  e.a.bind(resume);
}

}  // namespace

void lower_divide(BlockEmitter& e, const Instruction& in) {
  const uint8_t size = in.operand[0].size;
  load_divisor(e, in);
  if (in.mnemonic == ZYDIS_MNEMONIC_DIV)
    check_unsigned(e, size);
  else
    check_signed(e, size);
  e.prepare_flags(in);
  e.a.emit(in.row->host_id, host::sized(host::kValue, size));
  e.flags_are_in_host();
}

void lower_bswap(BlockEmitter& e, const Instruction& in) {
  if (names_esp(in)) e.flush_esp();
  const x86::Gp target = host::guest(in.operand[0].number);
  if (in.operand[0].size == 4) {
    e.a.bswap(target);
    return;
  }
  // BSWAP of 16 bits is undefined; every known processor clears them.
  e.a.movzx(host::kValue.r32(), target.r16());
  e.clobber_flags();
  e.a.xor_(target, host::kValue.r32());
}

/// MOV among general registers and memory is generic; segment and control registers are not.
void lower_mov(BlockEmitter& e, const Instruction& in) {
  const Operand& to = in.operand[0];
  const Operand& from = in.operand[1];
  const auto is_segment = [](const Operand& o) {
    return o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kSegment;
  };
  const auto is_debug = [](const Operand& o) {
    return o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kDebug;
  };
  const auto is_other = [](const Operand& o) {
    return o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kOther;
  };
  if (is_segment(from)) {
    lower_segment_store(e, in);
    return;
  }
  if (is_segment(to)) {
    lower_segment_load(e, in);
    return;
  }
  const auto is_control = [](const Operand& o) {
    return o.kind == Operand::Kind::kRegister && o.register_kind == RegisterKind::kControl;
  };
  if (is_control(to) || is_control(from)) {
    lower_control_register(e, in);
    return;
  }
  if (is_debug(to) || is_debug(from)) {
    lower_debug_register(e, in);
    return;
  }
  if (is_other(to) || is_other(from)) {
    lower_interpreted(e, in);
    return;
  }
  lower_generic(e, in);
}

}  // namespace trapline
