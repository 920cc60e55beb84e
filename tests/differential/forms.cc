#include "tests/differential/forms.h"

#include <array>
#include <map>

#include "tests/differential/text.h"

namespace trapline::differential {
namespace {

constexpr std::array kIsaSets = {
    ZYDIS_ISA_SET_I86,      ZYDIS_ISA_SET_I186,        ZYDIS_ISA_SET_I286PROTECTED,
    ZYDIS_ISA_SET_I286REAL, ZYDIS_ISA_SET_I386,        ZYDIS_ISA_SET_I486,
    ZYDIS_ISA_SET_I486REAL, ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_ISA_SET_PENTIUMMMX,
    ZYDIS_ISA_SET_PPRO,     ZYDIS_ISA_SET_CMOV,        ZYDIS_ISA_SET_FCMOV,
    ZYDIS_ISA_SET_X87,      ZYDIS_ISA_SET_SSE,         ZYDIS_ISA_SET_SSE2,
    ZYDIS_ISA_SET_SSE2MMX,  ZYDIS_ISA_SET_SSEMXCSR,    ZYDIS_ISA_SET_SSE_PREFETCH,
    ZYDIS_ISA_SET_FXSAVE,   ZYDIS_ISA_SET_CLFSH,       ZYDIS_ISA_SET_PAUSE,
    ZYDIS_ISA_SET_FAT_NOP,  ZYDIS_ISA_SET_LAHF,
};

bool isa_set_is_ours(ZydisISASet set) {
  for (const ZydisISASet ours : kIsaSets) {
    if (ours == set) return true;
  }
  return false;
}

bool loads_segment_or_is_far(const Decoded& decoded) {
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  if (instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return true;
  if (instruction.mnemonic != ZYDIS_MNEMONIC_MOV && instruction.mnemonic != ZYDIS_MNEMONIC_POP)
    return false;
  const ZydisDecodedOperand& target = decoded.operands[0];
  return target.type == ZYDIS_OPERAND_TYPE_REGISTER &&
         ZydisRegisterGetClass(target.reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

std::string operand_name(const ZydisDecodedOperand& operand) {
  switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
      switch (ZydisRegisterGetClass(operand.reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
          return "r8";
        case ZYDIS_REGCLASS_GPR16:
          return "r16";
        case ZYDIS_REGCLASS_GPR32:
          return "r32";
        case ZYDIS_REGCLASS_X87:
          return "st";
        case ZYDIS_REGCLASS_MMX:
          return "mm";
        case ZYDIS_REGCLASS_XMM:
          return "xmm";
        case ZYDIS_REGCLASS_SEGMENT:
          return "sreg";
        case ZYDIS_REGCLASS_CONTROL:
          return "cr";
        case ZYDIS_REGCLASS_DEBUG:
          return "dr";
        default:
          return ZydisRegisterGetString(operand.reg.value);
      }
    case ZYDIS_OPERAND_TYPE_MEMORY:
      return format("m%u", operand.size);
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      return format(operand.imm.is_relative ? "rel%u" : "i%u", operand.size);
    default:
      return "far";
  }
}

bool address_size_matters(const Decoded& decoded) {
  switch (decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
      return true;
    default:
      break;
  }
  for (int i = 0; i < decoded.instruction.operand_count; ++i) {
    if (is_memory_operand(decoded.operands[i]) && !is_stack_operand(decoded.operands[i]))
      return true;
  }
  return false;
}

bool is_segment_prefix(uint8_t byte) {
  return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
         byte == 0x65;
}

struct PrefixSet {
  bool address_size = false;
  bool segment = false;
};

PrefixSet prefixes_of(const Skeleton& skeleton) {
  PrefixSet set;
  for (int i = 0; i < skeleton.prefix_count; ++i) {
    set.address_size |= skeleton.prefixes[i] == 0x67;
    set.segment |= is_segment_prefix(skeleton.prefixes[i]);
  }
  return set;
}

std::string form_name(const Decoded& decoded, PrefixSet prefixes) {
  const ZydisDecodedInstruction& instruction = decoded.instruction;
  std::string name;
  if (instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) name += "lock ";
  if (instruction.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) name += "rep ";
  if (instruction.attributes & ZYDIS_ATTRIB_HAS_REPNE) name += "repne ";
  if (prefixes.address_size) name += instruction.address_width == 16 ? "a16 " : "a32 ";
  if (prefixes.segment) name += "seg ";
  name += ZydisMnemonicGetString(instruction.mnemonic);
  // Those whose operand size shows in no visible operand.
  if (instruction.operand_count_visible == 0 && instruction.operand_width == 16 &&
      instruction.meta.category != ZYDIS_CATEGORY_X87_ALU &&
      instruction.meta.isa_ext == ZYDIS_ISA_EXT_BASE)
    name += " o16";
  for (int i = 0; i < instruction.operand_count_visible; ++i)
    name.append(i == 0 ? " " : ", ").append(operand_name(decoded.operands[i]));
  return name;
}

class Deriver {
 public:
  explicit Deriver(CodeSize size) : decoder_(make_decoder(size)) {}

  std::vector<Form> derive() {
    static constexpr std::array<std::array<uint8_t, 2>, 6> kSizePrefixes = {
        {{0, 0}, {0x66, 0}, {0xf2, 0}, {0xf3, 0}, {0x66, 0xf2}, {0x66, 0xf3}}};
    static constexpr std::array<uint8_t, 4> kOtherPrefixes = {0, 0x67, 0x26, 0xf0};
    for (const auto& size : kSizePrefixes) {
      for (const uint8_t other : kOtherPrefixes) {
        Skeleton skeleton;
        for (const uint8_t prefix : {other, size[0], size[1]}) {
          if (prefix != 0) skeleton.prefixes[skeleton.prefix_count++] = prefix;
        }
        add_maps(skeleton);
      }
    }
    std::vector<Form> out;
    for (auto& [name, form] : forms_) out.push_back(std::move(form));
    return out;
  }

 private:
  void add_maps(Skeleton skeleton) {
    for (int map = 0; map < 2; ++map) {
      for (int opcode = 0; opcode < 256; ++opcode) {
        skeleton.two_byte = map == 1;
        skeleton.opcode = static_cast<uint8_t>(opcode);
        if (map == 0 && (is_prefix_or_escape(skeleton.opcode))) continue;
        if (map == 1 && (opcode == 0x38 || opcode == 0x3a || opcode == 0x0f)) continue;
        add_opcode(skeleton);
      }
    }
  }

  static bool is_prefix_or_escape(uint8_t byte) {
    return is_segment_prefix(byte) || byte == 0x66 || byte == 0x67 || byte == 0xf0 ||
           byte == 0xf2 || byte == 0xf3 || byte == 0x0f;
  }

  void add_opcode(Skeleton skeleton) {
    for (int modrm = 0; modrm < 256; ++modrm) {
      const bool in_memory = modrm < 0xc0;
      // One addressing form stands for all.
      if (in_memory && (modrm & 0xc7) != 0) continue;
      skeleton.modrm = static_cast<uint8_t>(modrm);
      skeleton.has_modrm = true;
      if (!add(skeleton)) return;
    }
  }

  /// False when the opcode has no ModRM byte, so that one look is enough.
  bool add(Skeleton skeleton) {
    std::array<uint8_t, 16> bytes{};
    uint32_t length = 0;
    for (int i = 0; i < skeleton.prefix_count; ++i) bytes[length++] = skeleton.prefixes[i];
    if (skeleton.two_byte) bytes[length++] = 0x0f;
    bytes[length++] = skeleton.opcode;
    bytes[length++] = skeleton.modrm;
    // Zeros follow: the smallest SIB byte, displacement and immediate.
    Decoded decoded;
    const ZyanStatus status =
        ZydisDecoderDecodeFull(&decoder_, bytes.data(), 15, &decoded.instruction, decoded.operands);
    if (status == ZYDIS_STATUS_ILLEGAL_LOCK) {
      add_illegal_lock(skeleton, bytes);
      return true;
    }
    if (!ZYAN_SUCCESS(status)) return true;
    const bool has_modrm = decoded.instruction.attributes & ZYDIS_ATTRIB_HAS_MODRM;
    if (!has_modrm) skeleton.has_modrm = false;
    add_decoded(skeleton, decoded);
    return has_modrm;
  }

  void add_decoded(const Skeleton& skeleton, const Decoded& decoded) {
    const ZydisDecodedInstruction& instruction = decoded.instruction;
    if (instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return;
    if (!isa_set_is_ours(instruction.meta.isa_set)) return;
    if (exclusion_reason(instruction.mnemonic) || loads_segment_or_is_far(decoded)) return;
    const PrefixSet prefixes = prefixes_of(skeleton);
    if ((prefixes.address_size || prefixes.segment) && !address_size_matters(decoded)) return;
    if (instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK && (prefixes.segment)) return;
    insert(form_name(decoded, prefixes), skeleton, decoded, false);
  }

  /// The same bytes without LOCK must be an instruction of ours, so that LOCK is what is wrong.
  void add_illegal_lock(const Skeleton& skeleton, const std::array<uint8_t, 16>& bytes) {
    Decoded decoded;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_, &bytes[1], 14, &decoded.instruction,
                                             decoded.operands)))
      return;
    if (decoded.instruction.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
        !isa_set_is_ours(decoded.instruction.meta.isa_set))
      return;
    // On some processors LOCK MOV CR0 names CR8.
    if (decoded.instruction.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) return;
    insert("illegal lock", skeleton, decoded, true);
  }

  void insert(const std::string& name, const Skeleton& skeleton, const Decoded& decoded,
              bool illegal_lock) {
    Form& form = forms_[name];
    if (form.skeletons.empty()) {
      form.name = name;
      form.mnemonic = decoded.instruction.mnemonic;
      form.category = decoded.instruction.meta.category;
      form.isa_set = decoded.instruction.meta.isa_set;
      form.illegal_lock = illegal_lock;
      form.memory = address_size_matters(decoded);
    }
    form.skeletons.push_back(skeleton);
  }

  ZydisDecoder decoder_;
  std::map<std::string, Form> forms_;
};

}  // namespace

ZydisDecoder make_decoder(CodeSize size) {
  ZydisDecoder decoder;
  if (size == CodeSize::k16)
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  else
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  return decoder;
}

bool is_stack_operand(const ZydisDecodedOperand& operand) {
  return operand.type == ZYDIS_OPERAND_TYPE_MEMORY &&
         operand.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
         (operand.mem.base == ZYDIS_REGISTER_ESP || operand.mem.base == ZYDIS_REGISTER_SP ||
          operand.mem.base == ZYDIS_REGISTER_EBP || operand.mem.base == ZYDIS_REGISTER_BP);
}

bool is_memory_operand(const ZydisDecodedOperand& operand) {
  return operand.type == ZYDIS_OPERAND_TYPE_MEMORY;
}

std::vector<Form> derive_forms(CodeSize size) {
  return Deriver(size).derive();
}

}  // namespace trapline::differential
