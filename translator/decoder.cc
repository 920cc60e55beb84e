#include "translator/decoder.h"

#include <Zydis/Zydis.h>

#include <algorithm>

#include "translator/instruction_table.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

ZydisDecoder make_decoder(ZydisMachineMode mode, ZydisStackWidth width) {
  ZydisDecoder decoder;
  TRAPLINE_ASSERT(ZYAN_SUCCESS(ZydisDecoderInit(&decoder, mode, width)));
  // Encodings that our models do not have must decode as what they were before.
  for (ZydisDecoderMode off :
       {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_LZCNT,
        ZYDIS_DECODER_MODE_TZCNT, ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE})
    TRAPLINE_ASSERT(ZYAN_SUCCESS(ZydisDecoderEnableMode(&decoder, off, ZYAN_FALSE)));
  return decoder;
}

/// Not Zydis's real mode: it refuses SYSENTER, which is #GP there, and what is #UD in real mode and
/// V86 mode is lowered as that.
const ZydisDecoder& decoder_for(CodeSize size) {
  static const ZydisDecoder code32 =
      make_decoder(ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  static const ZydisDecoder code16 =
      make_decoder(ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  return size == CodeSize::k32 ? code32 : code16;
}

/// SSE's extensions of MMX, which Zydis files under MMX.
bool mmx_of_sse(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MOVNTQ:
    case ZYDIS_MNEMONIC_PAVGB:
    case ZYDIS_MNEMONIC_PAVGW:
    case ZYDIS_MNEMONIC_PEXTRW:
    case ZYDIS_MNEMONIC_PINSRW:
    case ZYDIS_MNEMONIC_PMAXSW:
    case ZYDIS_MNEMONIC_PMAXUB:
    case ZYDIS_MNEMONIC_PMINSW:
    case ZYDIS_MNEMONIC_PMINUB:
    case ZYDIS_MNEMONIC_PMOVMSKB:
    case ZYDIS_MNEMONIC_PMULHUW:
    case ZYDIS_MNEMONIC_PSADBW:
    case ZYDIS_MNEMONIC_PSHUFW:
      return true;
    default:
      return false;
  }
}

bool model_has(const CpuModel& model, const ZydisDecodedInstruction& in) {
  switch (in.meta.isa_set) {
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I286REAL:
    case ZYDIS_ISA_SET_I286PROTECTED:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486:
    case ZYDIS_ISA_SET_LAHF:
    case ZYDIS_ISA_SET_PAUSE:  // A NOP before it was PAUSE.
      return true;
    case ZYDIS_ISA_SET_I486REAL:
      return in.mnemonic != ZYDIS_MNEMONIC_CPUID || model.has(Feature::kCpuid);
    case ZYDIS_ISA_SET_X87:
      return true;  // Without an FPU, CR0.EM decides; every model that we offer has one.
    case ZYDIS_ISA_SET_PENTIUMREAL:
      if (in.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B) return model.has(Feature::kCx8);
      if (in.mnemonic == ZYDIS_MNEMONIC_RDTSC) return model.has(Feature::kTsc);
      return model.has(Feature::kMsr);
    case ZYDIS_ISA_SET_CMOV:
    case ZYDIS_ISA_SET_FCMOV:
      return model.has(Feature::kCmov);
    case ZYDIS_ISA_SET_PPRO:
      if (in.mnemonic == ZYDIS_MNEMONIC_SYSENTER || in.mnemonic == ZYDIS_MNEMONIC_SYSEXIT)
        return model.has(Feature::kSep);
      return model.has(Feature::kCmov);  // FCOMI and its kin; UD0-UD2 are #UD in any case.
    case ZYDIS_ISA_SET_RDPMC:
      return model.has(Feature::kRdpmc);
    case ZYDIS_ISA_SET_FAT_NOP:
    case ZYDIS_ISA_SET_PREFETCH_NOP:
      return model.has(Feature::kNopl);
    case ZYDIS_ISA_SET_PENTIUMMMX:
      return mmx_of_sse(in.mnemonic) ? model.has(Feature::kSse) : model.has(Feature::kMmx);
    case ZYDIS_ISA_SET_FXSAVE:
      return model.has(Feature::kFxsr);
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_SSE_PREFETCH:
      return model.has(Feature::kSse);
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
      return model.has(Feature::kSse2);
    case ZYDIS_ISA_SET_CLFSH:
      return model.has(Feature::kClflush);
    default:
      return false;
  }
}

uint8_t gpr32_number(ZydisRegister reg) {
  if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_EDI)
    return static_cast<uint8_t>(reg - ZYDIS_REGISTER_EAX);
  if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_DI)
    return static_cast<uint8_t>(reg - ZYDIS_REGISTER_AX);
  return Operand::kNoRegister;
}

void set_register(ZydisRegister reg, Operand& out) {
  const auto number = [reg](ZydisRegister first) { return static_cast<uint8_t>(reg - first); };
  if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_EDI) {
    out.register_kind = RegisterKind::kGpr32;
    out.number = number(ZYDIS_REGISTER_EAX);
  } else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_DI) {
    out.register_kind = RegisterKind::kGpr16;
    out.number = number(ZYDIS_REGISTER_AX);
  } else if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL) {
    out.register_kind = RegisterKind::kGpr8Low;
    out.number = number(ZYDIS_REGISTER_AL);
  } else if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
    out.register_kind = RegisterKind::kGpr8High;
    out.number = number(ZYDIS_REGISTER_AH);
  } else if (reg >= ZYDIS_REGISTER_ST0 && reg <= ZYDIS_REGISTER_ST7) {
    out.register_kind = RegisterKind::kX87;
    out.number = number(ZYDIS_REGISTER_ST0);
  } else if (reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7) {
    out.register_kind = RegisterKind::kMmx;
    out.number = number(ZYDIS_REGISTER_MM0);
  } else if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM7) {
    out.register_kind = RegisterKind::kXmm;
    out.number = number(ZYDIS_REGISTER_XMM0);
  } else if (reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS) {
    out.register_kind = RegisterKind::kSegment;
    out.number = number(ZYDIS_REGISTER_ES);
  } else if (reg >= ZYDIS_REGISTER_CR0 && reg <= ZYDIS_REGISTER_CR4) {
    out.register_kind = RegisterKind::kControl;
    out.number = number(ZYDIS_REGISTER_CR0);
  } else if (reg >= ZYDIS_REGISTER_DR0 && reg <= ZYDIS_REGISTER_DR7) {
    out.register_kind = RegisterKind::kDebug;
    out.number = number(ZYDIS_REGISTER_DR0);
  } else {
    out.register_kind = RegisterKind::kOther;
    out.number = static_cast<uint8_t>(reg & 0xff);
  }
}

SegmentName segment_name(ZydisRegister reg) {
  return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS
             ? static_cast<SegmentName>(reg - ZYDIS_REGISTER_ES)
             : kDs;
}

void set_operand(const ZydisDecodedOperand& from, Operand& out) {
  out = Operand{};
  out.size = static_cast<uint8_t>(from.size / 8);
  out.read = from.actions & ZYDIS_OPERAND_ACTION_MASK_READ;
  out.written = from.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  switch (from.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      out.kind = Operand::Kind::kRegister;
      set_register(from.reg.value, out);
      break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
      out.kind = Operand::Kind::kMemory;
      out.segment = segment_name(from.mem.segment);
      out.base = gpr32_number(from.mem.base);
      out.index = gpr32_number(from.mem.index);
      out.scale = from.mem.scale ? from.mem.scale : uint8_t{1};
      out.value = from.mem.disp.has_displacement ? from.mem.disp.value : 0;
      out.address_only = from.mem.type == ZYDIS_MEMOP_TYPE_AGEN;
      break;
    case ZYDIS_OPERAND_TYPE_POINTER:
      out.kind = Operand::Kind::kFar;
      out.selector = from.ptr.segment;
      out.value = from.ptr.offset;
      break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      out.kind = from.imm.is_relative ? Operand::Kind::kRelative : Operand::Kind::kImmediate;
      out.value = from.imm.is_signed ? from.imm.value.s : static_cast<int64_t>(from.imm.value.u);
      break;
    default:
      break;
  }
}

SegmentName overridden_segment(ZydisInstructionAttributes attributes) {
  if (!(attributes & ZYDIS_ATTRIB_HAS_SEGMENT)) return kDs;
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS) return kCs;
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS) return kSs;
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES) return kEs;
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) return kFs;
  if (attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) return kGs;
  return kDs;
}

void set_flags(const ZydisDecodedInstruction& in, Instruction& out) {
  const ZydisAccessedFlags* flags = in.cpu_flags;
  if (!flags) return;
  const auto arithmetic = [](uint32_t mask) {
    return static_cast<uint16_t>(mask & eflags::kArithmetic);
  };
  out.flags_read = arithmetic(flags->tested);
  out.flags_undefined = arithmetic(flags->undefined);
  out.flags_written = arithmetic(flags->modified | flags->set_0 | flags->set_1 | flags->undefined);
  out.flags_conditional = leaves_flags_perhaps(out);
}

void set_encoding(const ZydisDecodedInstruction& in, Encoding& out) {
  out.opcode = in.raw.prefix_count;
  out.modrm = in.raw.modrm.offset;
  for (size_t i = 0; i < in.raw.prefix_count; ++i)
    if (in.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
      out.mandatory_prefix = in.raw.prefixes[i].value;
  out.displacement = in.raw.disp.offset;
  out.displacement_size = in.raw.disp.size / 8;
  for (size_t i = 0; i < out.immediate.size(); ++i) {
    out.immediate[i] = in.raw.imm[i].offset;
    out.immediate_size[i] = in.raw.imm[i].size / 8;
    out.immediate_signed[i] = in.raw.imm[i].is_signed;
  }
}

int8_t memory_operand_of(const Instruction& in) {
  for (int8_t i = 0; i < static_cast<int8_t>(in.operand_count); ++i)
    if (in.operand[static_cast<size_t>(i)].kind == Operand::Kind::kMemory) return i;
  return -1;
}

/// Which operands the fields of ModRM or the opcode name.
void set_fields(const ZydisDecodedOperand* operands, const Instruction& in, Encoding& out) {
  for (int8_t i = 0; i < static_cast<int8_t>(in.operand_count); ++i) {
    if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    if (operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) out.reg_operand = i;
    if (operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
        operands[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
      out.rm_operand = i;
  }
}

uint8_t traits_of(const Instruction& in) {
  const uint8_t traits = register_traits(in);
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
      return traits | trait::kStack | trait::kWritesEbp;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
      return traits | trait::kStack;
    default:
      return traits;
  }
}

Decoded classify_failure(ZyanStatus status) {
  if (status == ZYDIS_STATUS_NO_MORE_DATA) return Decoded::kMoreBytes;
  if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return Decoded::kTooLong;
  return Decoded::kInvalid;
}

}  // namespace

uint8_t register_traits(const Instruction& in) {
  uint8_t traits = 0;
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& o = in.operand[i];
    if (o.kind != Operand::Kind::kRegister || o.register_kind > RegisterKind::kGpr32) continue;
    if (o.register_kind == RegisterKind::kGpr8High) traits |= trait::kHighByte;
    if (o.is_stack_pointer()) traits |= trait::kNamesEsp;
    if (o.is_stack_pointer() && o.written) traits |= trait::kWritesEsp;
    if (o.number == kEbp && o.written) traits |= trait::kWritesEbp;
  }
  return traits;
}

bool leaves_flags_perhaps(const Instruction& in) {
  if (!in.flags_written) return false;
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: {
      const Operand& count = in.operand[in.operand_count - 1];
      return count.kind != Operand::Kind::kImmediate || (count.value & 31) == 0;
    }
    default:
      return in.rep || in.repne;
  }
}

bool Instruction::uses_register(uint8_t gpr) const {
  for (int i = 0; i < operand_count; ++i) {
    const Operand& o = operand[i];
    if (o.kind == Operand::Kind::kRegister && o.register_kind <= RegisterKind::kGpr32 &&
        o.number == gpr)
      return true;
    if (o.kind == Operand::Kind::kMemory && (o.base == gpr || o.index == gpr)) return true;
  }
  return false;
}

Decoded decode(std::span<const uint8_t> bytes, CodeSize code_size, const CpuModel& model,
               uint32_t eip, Instruction& out) {
  const ZydisDecoder& decoder = decoder_for(code_size);
  ZydisDecoderContext context;
  ZydisDecodedInstruction in;
  const size_t length = std::min<size_t>(bytes.size(), ZYDIS_MAX_INSTRUCTION_LENGTH);
  ZyanStatus status = ZydisDecoderDecodeInstruction(&decoder, &context, bytes.data(), length, &in);
  if (!ZYAN_SUCCESS(status)) return classify_failure(status);
  out = Instruction{};
  const bool scalar_double =
      in.meta.isa_set == ZYDIS_ISA_SET_SSE2 &&
      (in.mnemonic == ZYDIS_MNEMONIC_MOVSD || in.mnemonic == ZYDIS_MNEMONIC_CMPSD);
  out.row = scalar_double ? find_scalar_double_row(in.mnemonic) : find_row(in.mnemonic);
  if (!out.row || !model_has(model, in)) return Decoded::kInvalid;

  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT_VISIBLE];
  const uint8_t visible = in.operand_count_visible;
  status = ZydisDecoderDecodeOperands(&decoder, &context, &in, operands, visible);
  if (!ZYAN_SUCCESS(status)) return classify_failure(status);
  out.eip = eip;
  out.mnemonic = in.mnemonic;
  out.length = in.length;
  out.opcode = in.opcode;
  out.opcode_map = static_cast<uint8_t>(in.opcode_map);
  out.operand_size = static_cast<uint8_t>(in.operand_width / 8);
  out.address_size = static_cast<uint8_t>(in.address_width / 8);
  out.modrm = static_cast<uint8_t>(in.raw.modrm.mod << 6 | in.raw.modrm.reg << 3 | in.raw.modrm.rm);
  out.data_segment = overridden_segment(in.attributes);
  out.lock = in.attributes & ZYDIS_ATTRIB_HAS_LOCK;
  out.rep = in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
  out.repne = in.attributes & ZYDIS_ATTRIB_HAS_REPNE;
  const auto limit = static_cast<uint8_t>(out.operand.size());
  for (uint8_t i = 0; i < visible && out.operand_count < limit; ++i)
    set_operand(operands[i], out.operand[out.operand_count++]);
  set_encoding(in, out.encoding);
  set_fields(operands, out, out.encoding);
  set_flags(in, out);
  out.traits = traits_of(out);
  out.memory_operand = memory_operand_of(out);
  return Decoded::kOk;
}

}  // namespace trapline
