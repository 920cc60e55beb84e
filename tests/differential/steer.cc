#include <algorithm>
#include <cstring>

#include "tests/differential/instruction.h"
#include "tests/differential/values.h"

namespace trapline::differential {
namespace {

/// An address near the end of a region, so that an operand may run over it.
uint32_t near_end(uint32_t end, uint32_t size, Random& random) {
  return end - size + random.below(2 * size) - size / 2;
}

uint32_t inside(const Region& region, uint32_t size, Random& random) {
  return region.base + random.below(region.pages * kPageSize - std::min(size, kPageSize) + 1);
}

uint8_t gpr_id(ZydisRegister reg) {
  return static_cast<uint8_t>(ZydisRegisterGetId(reg));
}

std::vector<uint8_t> bytes_of(const void* data, size_t size) {
  std::vector<uint8_t> out(size);
  std::memcpy(out.data(), data, size);
  return out;
}

class Steerer {
 public:
  Steerer(Encoded& encoded, const std::array<uint32_t, 8>& gpr, uint32_t landing, Caution caution,
          Random& random)
      : encoded_(encoded), gpr_(gpr), landing_(landing), caution_(caution), random_(random) {}

  Steering steer() {
    const ZydisDecodedInstruction& instruction = encoded_.decoded.instruction;
    steer_operand_values();
    for (int i = 0; i < instruction.operand_count; ++i) {
      if (is_stack_operand(encoded_.decoded.operands[i])) steer_stack();
    }
    for (int i = 0; i < instruction.operand_count; ++i) {
      ZydisDecodedOperand& operand = encoded_.decoded.operands[i];
      if (is_memory_operand(operand) && !is_stack_operand(operand)) steer_memory(operand);
    }
    steer_branch();
    return std::move(out_);
  }

 private:
  ZydisMnemonic mnemonic() const { return encoded_.decoded.instruction.mnemonic; }
  bool tame() const { return caution_ == Caution::kTame; }
  bool code16() const {
    return encoded_.decoded.instruction.machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16;
  }

  uint32_t pick_stack(Caution caution) {
    return pick_stack_register(code16() ? CodeSize::k16 : CodeSize::k32, caution, random_);
  }

  uint32_t base_of(ZydisRegister segment) const {
    switch (segment) {
      case ZYDIS_REGISTER_FS:
        return kFsBase;
      case ZYDIS_REGISTER_GS:
        return kGsBase;
      case ZYDIS_REGISTER_CS:
        return code16() ? kCode16Base : 0;
      case ZYDIS_REGISTER_SS:
        return code16() ? kStack16Base : 0;
      default:
        return code16() ? kData16Base : 0;
    }
  }

  /// For the segments of 16-bit code: mostly inside, else near the end or anywhere.
  uint32_t pick_offset16(ZydisRegister segment, uint32_t size) {
    constexpr uint32_t kEnd = 0x10000;
    const bool wide = encoded_.decoded.instruction.address_width == 32;
    const uint32_t anywhere =
        wide && random_.one_in(2) ? random_.next32() : random_.next32() % kEnd;
    const bool code = segment == ZYDIS_REGISTER_CS;
    if (!code && !tame() && random_.one_in(6))
      return random_.one_in(2) ? near_end(kEnd, size, random_) & (wide ? ~0u : kEnd - 1) : anywhere;
    const uint32_t aligned = size >= 16 && !random_.one_in(16) ? ~15u : ~0u;
    // Not the code itself: what stands at the exits differs between backends.
    if (code) return random_.below(kEnd - kCodeBytes);
    const Region& region = segment == ZYDIS_REGISTER_SS ? kStack
                           : random_.one_in(8)          ? kReadOnly
                                                        : kData;
    return (inside(region, size, random_) & aligned) - base_of(segment);
  }

  uint32_t current(uint8_t gpr) const {
    for (size_t i = out_.registers.size(); i-- > 0;) {
      if (out_.registers[i].gpr == gpr) return out_.registers[i].value;
    }
    return gpr_[gpr];
  }

  void assign(uint8_t gpr, uint32_t value) { out_.registers.push_back({gpr, value}); }
  void contain(uint32_t address, std::vector<uint8_t> bytes) {
    out_.content.push_back({address, std::move(bytes)});
  }
  void contain32(uint32_t address, uint32_t value) { contain(address, bytes_of(&value, 4)); }

  /// Where nothing is. 16 bits lead into the code by chance, where backends differ.
  uint32_t wild_target() {
    const uint32_t target = interesting_integer(random_);
    return code16() ? target % (0x10000 - kCodeBytes) : target;
  }

  // Registers that decide how far an instruction gets.
  void steer_operand_values() {
    switch (mnemonic()) {
      case ZYDIS_MNEMONIC_DIV:
      case ZYDIS_MNEMONIC_IDIV:
        return steer_division();
      case ZYDIS_MNEMONIC_BT:
      case ZYDIS_MNEMONIC_BTS:
      case ZYDIS_MNEMONIC_BTR:
      case ZYDIS_MNEMONIC_BTC:
        return steer_bit_offset();
      case ZYDIS_MNEMONIC_ENTER:
        return steer_enter();
      case ZYDIS_MNEMONIC_LEAVE:
        assign(kEbp, pick_stack(caution_));
        return;
      default:
        break;
    }
    const auto attributes = encoded_.decoded.instruction.attributes;
    if (attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
      steer_repeat();
    const ZydisDecodedOperand& source = encoded_.decoded.operands[1];
    const auto category = encoded_.decoded.instruction.meta.category;
    if ((category == ZYDIS_CATEGORY_SHIFT || category == ZYDIS_CATEGORY_ROTATE) &&
        source.type == ZYDIS_OPERAND_TYPE_REGISTER && random_.one_in(2))
      assign(kEcx, random_.below(40));
  }

  void steer_division() {
    if (!tame() && random_.one_in(3)) return;
    const uint32_t eax = interesting_integer(random_);
    const bool extend = mnemonic() == ZYDIS_MNEMONIC_IDIV && random_.one_in(2);
    if (encoded_.decoded.operands[0].size == 8) {
      const uint32_t high = extend && (eax & 0x80) ? 0xff00 : random_.below(8) << 8;
      return assign(kEax, (eax & 0xffff00ff) | high);
    }
    assign(kEax, eax);
    const uint32_t sign = encoded_.decoded.operands[0].size == 16 ? 0x8000 : 0x80000000;
    assign(kEdx, extend && (eax & sign) ? ~0u : random_.below(8));
  }

  void steer_bit_offset() {
    const ZydisDecodedOperand& offset = encoded_.decoded.operands[1];
    if (offset.type != ZYDIS_OPERAND_TYPE_REGISTER) return;
    if (encoded_.decoded.operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY) return;
    if (!tame() && random_.one_in(16)) return;
    assign(gpr_id(offset.reg.value), random_.below(512) - 256);
  }

  void steer_enter() {
    const auto& raw = encoded_.decoded.instruction.raw;
    assign(kEbp, pick_stack(Caution::kTame));
    if (!tame() && random_.one_in(6)) return;
    const uint16_t frame = static_cast<uint16_t>(random_.below(256));
    std::memcpy(&encoded_.bytes[raw.imm[0].offset], &frame, 2);
    encoded_.bytes[raw.imm[1].offset] =
        static_cast<uint8_t>(random_.below(5) | (random_.next32() & 0xe0));
  }

  void steer_repeat() {
    uint32_t count = random_.below(24);
    if (!tame() && random_.one_in(16)) count = random_.below(6000);
    if (encoded_.decoded.instruction.address_width == 16) count |= random_.next32() & 0xffff0000;
    assign(kEcx, count);
  }

  void steer_stack() {
    assign(kEsp, pick_stack(caution_));
    const uint32_t esp = code16() ? kStack16Base + (current(kEsp) & 0xffff) : current(kEsp);
    switch (mnemonic()) {
      case ZYDIS_MNEMONIC_RET:
        return contain32(esp, random_.one_in(12) && !tame() ? wild_target() : landing_);
      case ZYDIS_MNEMONIC_POPF:
      case ZYDIS_MNEMONIC_POPFD: {  // No more than is popped: content is there as a whole or not.
        const uint32_t flags = random_.next32() & ~kUnwelcomeFlags;
        return contain(esp, bytes_of(&flags, mnemonic() == ZYDIS_MNEMONIC_POPF ? 2 : 4));
      }
      case ZYDIS_MNEMONIC_POPA:
      case ZYDIS_MNEMONIC_POPAD:
      case ZYDIS_MNEMONIC_POP:
        return contain32(esp, interesting_integer(random_));
      default:
        return;
    }
  }

  /// The offset to address within its segment.
  uint32_t pick_offset(const ZydisDecodedOperand& operand, uint32_t size) {
    const bool writes = operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    const bool short_address = encoded_.decoded.instruction.address_width == 16;
    const ZydisRegister segment = operand.mem.segment;
    if (segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS) {
      const uint32_t base = segment == ZYDIS_REGISTER_FS ? kFsBase : kGsBase;
      const bool near = short_address || (tame() && segment == ZYDIS_REGISTER_GS);
      const uint32_t aligned = size == 16 || size == 512 ? ~15u : ~0u;
      const uint32_t target = near ? inside(kData, size, random_) & aligned
                                   : pick_target(size, writes, caution_, random_);
      if (segment == ZYDIS_REGISTER_GS && random_.one_in(8) && !tame())
        return near_end(kGsLimit + 1, size, random_);
      return target - base;
    }
    if (code16()) return pick_offset16(segment, size);
    if (!short_address) return pick_target(size, writes, caution_, random_);
    if (tame() || !random_.one_in(6)) {
      const uint32_t aligned = random_.one_in(16) ? ~0u : size >= 16 ? ~15u : ~0u;
      return inside(kLow, size, random_) & aligned;
    }
    return random_.one_in(2) ? near_end(kLow.end(), size, random_) : random_.next32() & 0xffff;
  }

  void steer_memory(ZydisDecodedOperand& operand) {
    const uint32_t size = std::max(1, operand.size / 8);
    const bool address_only = operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN;
    if (address_only && random_.one_in(2)) return;
    const uint32_t offset = aim(operand, pick_offset(operand, size));
    if (!address_only) fill(operand, base_of(operand.mem.segment) + offset, size);
  }

  /// Makes the operand's address `offset`, or as near as its shape allows, and returns it.
  uint32_t aim(ZydisDecodedOperand& operand, uint32_t offset) {
    const auto& raw = encoded_.decoded.instruction.raw;
    const bool short_address = encoded_.decoded.instruction.address_width == 16;
    const uint32_t mask = short_address ? 0xffff : ~0u;
    const bool has_base = operand.mem.base != ZYDIS_REGISTER_NONE;
    const bool has_index = operand.mem.index != ZYDIS_REGISTER_NONE;
    uint32_t disp = static_cast<uint32_t>(operand.mem.disp.value);
    if (!has_base && !has_index) {
      std::memcpy(&encoded_.bytes[raw.disp.offset], &offset, raw.disp.size / 8);
      return offset;
    }
    const auto high = [&] { return short_address ? random_.next32() & 0xffff0000 : 0; };
    if (!has_index) {
      assign(gpr_id(operand.mem.base), ((offset - disp) & mask) | high());
      return offset;
    }
    if (operand.mem.index == ZYDIS_REGISTER_AL) {  // XLAT
      assign(kEbx, ((offset - (current(kEax) & 0xff)) & mask) | high());
      return offset;
    }
    const uint8_t index = gpr_id(operand.mem.index);
    const uint32_t scale = std::max<uint32_t>(1, operand.mem.scale);
    const bool only_index = !has_base || operand.mem.base == operand.mem.index;
    const uint32_t factor = scale + (has_base && only_index ? 1 : 0);
    const uint32_t value = random_.one_in(3) ? interesting_integer(random_) : random_.below(64);
    if (!only_index) {
      assign(index, value);
      assign(gpr_id(operand.mem.base), ((offset - disp - value * scale) & mask) | high());
      return offset;
    }
    if (raw.disp.size == 32) {
      disp = offset - value * factor;
      std::memcpy(&encoded_.bytes[raw.disp.offset], &disp, 4);
      assign(index, value);
      return offset;
    }
    if (raw.disp.size == 8) {
      disp = offset % 16;
      encoded_.bytes[raw.disp.offset] = static_cast<uint8_t>(disp);
      offset += factor == 1 ? 0 : 16 * factor - offset / 16 * 16 % (16 * factor);
    }
    const uint32_t quotient = (offset - disp) / factor;
    assign(index, quotient);
    return quotient * factor + disp;
  }

  /// What the operand reads.
  void fill(const ZydisDecodedOperand& operand, uint32_t address, uint32_t size) {
    switch (mnemonic()) {
      case ZYDIS_MNEMONIC_FXRSTOR:
        return fill_fxrstor(address);
      case ZYDIS_MNEMONIC_FLDENV:
      case ZYDIS_MNEMONIC_FRSTOR:
        return fill_environment(address, size);
      case ZYDIS_MNEMONIC_LDMXCSR:
        if (random_.one_in(12)) return contain32(address, random_.next32());
        return contain32(address, random_mxcsr(random_, mood()));
      case ZYDIS_MNEMONIC_FLDCW: {
        FpuImage fpu;
        random_fpu(random_, mood(), fpu);
        return contain(address, bytes_of(&fpu.control, 2));
      }
      case ZYDIS_MNEMONIC_CMPXCHG:
        if (random_.one_in(2)) contain32(address, current(kEax));
        return;
      case ZYDIS_MNEMONIC_CMPXCHG8B: {
        if (random_.one_in(2)) return;
        const uint32_t pair[2] = {current(kEax), current(kEdx)};
        return contain(address, bytes_of(pair, 8));
      }
      case ZYDIS_MNEMONIC_BOUND:
        return fill_bounds(address, size);
      case ZYDIS_MNEMONIC_JMP:
      case ZYDIS_MNEMONIC_CALL:
        if (!random_.one_in(12) || tame()) return contain32(address, landing_);
        if (code16()) contain32(address, wild_target());
        return;
      default:
        break;
    }
    const auto category = encoded_.decoded.instruction.meta.category;
    if (category == ZYDIS_CATEGORY_STRINGOP) return fill_string(address, size);
    if (size > 16 || !random_.one_in(2)) return;
    std::vector<uint8_t> bytes(size);
    if (size == 10) {
      const auto value = mnemonic() == ZYDIS_MNEMONIC_FBLD ? interesting_decimal(random_)
                                                           : interesting_extended(random_);
      std::copy(value.begin(), value.end(), bytes.begin());
    } else if (operand.element_type == ZYDIS_ELEMENT_TYPE_FLOAT32) {
      fill_elements(bytes, interesting_float);
    } else if (operand.element_type == ZYDIS_ELEMENT_TYPE_FLOAT64) {
      fill_elements(bytes, interesting_double);
    } else if (size <= 4) {
      const uint32_t value = interesting_integer(random_);
      std::memcpy(bytes.data(), &value, size);
    } else {
      interesting_bytes(random_, bytes);
    }
    contain(address, std::move(bytes));
  }

  FpuMood mood() const { return tame() ? FpuMood::kQuiet : FpuMood::kAny; }

  template <typename T>
  void fill_elements(std::vector<uint8_t>& bytes, T (*make)(Random&)) {
    for (size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
      const T value = make(random_);
      std::memcpy(&bytes[i], &value, sizeof(T));
    }
  }

  void fill_fxrstor(uint32_t address) {
    FpuImage fpu;
    random_fpu(random_, mood(), fpu);
    if (random_.one_in(12) && !tame()) fpu.mxcsr |= 1u << (16 + random_.below(16));
    contain(address, bytes_of(&fpu, 288));
  }

  /// FLDENV's 14 or 28 bytes, and with the registers behind them FRSTOR's.
  void fill_environment(uint32_t address, uint32_t size) {
    FpuImage fpu;
    random_fpu(random_, mood(), fpu);
    std::vector<uint8_t> bytes(size);
    const uint32_t stride = size % 28 == 0 || size == 108 ? 4 : 2;
    const uint16_t tags = static_cast<uint16_t>(random_.next32());
    const std::array<uint16_t, 3> words = {fpu.control, fpu.status, tags};
    for (uint32_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(random_.next32());
    for (uint32_t i = 0; i < 3; ++i) std::memcpy(&bytes[i * stride], &words[i], 2);
    std::memcpy(&bytes[3 * stride], &fpu.ip, stride);
    for (uint32_t i = 0, at = 7 * stride; at + 10 <= size; ++i, at += 10)
      std::memcpy(&bytes[at], fpu.st[i].data(), 10);
    contain(address, std::move(bytes));
  }

  void fill_bounds(uint32_t address, uint32_t size) {
    const ZydisDecodedOperand& index = encoded_.decoded.operands[0];
    const uint32_t value = current(gpr_id(index.reg.value));
    const uint32_t pair[2] = {value - random_.below(3) + (random_.one_in(8) ? 2 : 0),
                              value + random_.below(3) - (random_.one_in(8) ? 2 : 0)};
    std::vector<uint8_t> bytes(size);
    for (uint32_t i = 0; i < 2; ++i) std::memcpy(&bytes[i * size / 2], &pair[i], size / 2);
    contain(address, std::move(bytes));
  }

  /// Equal elements, so that comparisons go on for a while.
  void fill_string(uint32_t address, uint32_t size) {
    if (random_.one_in(2)) return;
    const uint8_t byte = static_cast<uint8_t>(current(kEax));
    if (size > 1 && random_.one_in(2)) assign(kEax, byte * 0x01010101u);
    contain(address - 32, std::vector<uint8_t>(64, byte));
  }

  void steer_branch() {
    const auto& instruction = encoded_.decoded.instruction;
    const ZydisDecodedOperand& target = encoded_.decoded.operands[0];
    const bool branches = instruction.meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
                          instruction.meta.category == ZYDIS_CATEGORY_CALL;
    if (branches && target.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      if (tame() || !random_.one_in(12)) assign(gpr_id(target.reg.value), landing_);
    }
    switch (mnemonic()) {
      case ZYDIS_MNEMONIC_LOOP:
      case ZYDIS_MNEMONIC_LOOPE:
      case ZYDIS_MNEMONIC_LOOPNE:
      case ZYDIS_MNEMONIC_JCXZ:
      case ZYDIS_MNEMONIC_JECXZ:
        if (random_.one_in(2))
          assign(kEcx, random_.below(3) | (random_.one_in(2) ? random_.next32() << 16 : 0));
        break;
      default:
        break;
    }
  }

  Encoded& encoded_;
  const std::array<uint32_t, 8>& gpr_;
  const uint32_t landing_;
  const Caution caution_;
  Random& random_;
  Steering out_;
};

}  // namespace

uint32_t pick_target(uint32_t size, bool writes, Caution caution, Random& random) {
  size = std::min(size, kPageSize);
  const uint32_t align = size == 16 || size == 512 ? ~15u : ~0u;
  const bool aligned = !random.one_in(caution == Caution::kTame ? 64 : 4);
  const uint32_t mask = aligned ? align : ~0u;
  uint32_t choice = random.below(32);
  if (caution == Caution::kTame && choice >= 26 && !random.one_in(8)) choice = 0;
  if (choice < 20) return inside(kData, size, random) & mask;
  if (choice < 22) return inside(kStack, size, random) & mask;
  if (choice < 26) return near_end(kData.base + kPageSize, size, random) & mask;
  if (choice < 28) return near_end(kData.end(), size, random);
  if (choice < 29)
    return near_end(writes && random.one_in(2) ? kStack.end() : kReadOnly.end(), size, random);
  if (choice < 30) return near_end(random.one_in(2) ? kData.base : kStack.base, size, random);
  if (choice < 31) return inside(kReadOnly, size, random) & mask;
  return interesting_integer(random);
}

uint32_t pick_stack_pointer(Caution caution, Random& random) {
  const uint32_t aligned = random.one_in(4) ? ~0u : ~3u;
  if (caution == Caution::kNone && random.one_in(10)) {
    const uint32_t edge = random.one_in(2) ? kStack.base : kStack.end();
    return edge - 8 + random.below(16);
  }
  return (kStack.base + 1024 + random.below(2048)) & aligned;
}

uint32_t pick_stack_register(CodeSize size, Caution caution, Random& random) {
  const uint32_t linear = pick_stack_pointer(caution, random);
  if (size != CodeSize::k16) return linear;
  return ((linear - kStack16Base) & 0xffff) | (random.next32() & 0xffff0000);
}

Steering steer(Encoded& encoded, const std::array<uint32_t, 8>& gpr, uint32_t landing,
               Caution caution, Random& random) {
  return Steerer(encoded, gpr, landing, caution, random).steer();
}

}  // namespace trapline::differential
