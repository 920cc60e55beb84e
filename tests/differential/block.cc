#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/differential/amd.h"
#include "tests/differential/generator.h"
#include "tests/differential/values.h"
#include "vcpu/host_processor.h"

namespace trapline::differential {
namespace {

/// Builds the code of a block: instructions with the moves that steer them, and control flow whose
/// targets are always starts of instructions.
///
///   body     straight code, forward jumps, bounded loops, calls
///   exit 0   the end of the body
///   callees  each ends by RET
///   exit 1   a jump target for early leaving
///
/// 16-bit code reaches the counters through FS, by addresses of 32 bits.
class BlockBuilder {
 public:
  BlockBuilder(Case& test, const std::vector<Form>& forms, const std::vector<uint32_t>& block_forms,
               const ZydisDecoder& decoder, Random& random)
      : test_(test), forms_(forms), block_forms_(block_forms), decoder_(decoder), random_(random) {}

  void build() {
    const uint32_t wanted = 2 + random_.below(23);
    for (uint32_t i = 0; i < wanted && has_room(); ++i) add_step(i + 1 < wanted);
    while (!loops_.empty()) close_loop();
    for (const Fixup& fixup : to_next_) resolve(fixup, length_);
    place_exit(0);
    for (const Call& call : to_callee_) {
      resolve(call.fixup, length_);
      add_callee(call.wide);
    }
    for (const Fixup& fixup : to_exit_) resolve(fixup, length_);
    place_exit(1);
    test_.code_length = static_cast<uint16_t>(length_);
  }

 private:
  struct Fixup {
    uint32_t offset = 0;   ///< Of the field, in the code.
    uint32_t base = 0;     ///< Relative: where the instruction ends.
    uint32_t size = 4;     ///< Of the field.
    bool relative = true;  ///< Else the absolute address.
    bool table = false;    ///< The field is a word of the counters page at `offset`.
  };
  /// A call, and with which operand size its callee returns.
  struct Call {
    Fixup fixup;
    bool wide = false;
  };
  struct Loop {
    uint32_t start = 0;
    uint32_t counter = 0;
  };

  bool has_room() const {
    return length_ < kMaxCode - 220 && test_.instruction_count < kMaxInstructions - 24;
  }

  void begin_instruction() {
    if (test_.instruction_count < kMaxInstructions)
      test_.instructions[test_.instruction_count++] = static_cast<uint16_t>(length_);
  }
  void put(std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) test_.code[length_++] = byte;
  }
  void put_value(uint32_t value, uint32_t size) {
    std::memcpy(&test_.code[length_], &value, size);
    length_ += size;
  }

  bool code16() const { return test_.size == CodeSize::k16; }
  /// The operand size of a branch or a stack operation, in bytes: mostly that of the code.
  bool pick_wide() { return !code16() || random_.one_in(4); }
  static uint32_t width(bool wide) { return wide ? 4 : 2; }
  /// The prefix that 16-bit code needs for operands of 32 bits.
  void put_width(bool wide) {
    if (wide && code16()) put({0x66});
  }
  /// A word of the counters page as operand: prefixes, opcode, ModRM with that reg field, address.
  void put_counter_operand(uint8_t opcode, uint8_t reg, uint32_t counter, bool wide) {
    put_width(wide);
    if (code16()) put({0x67, 0x64});
    put({opcode, static_cast<uint8_t>(0x05 | reg << 3)});
    put_value(counter - (code16() ? kFsBase : 0), 4);
  }

  void place_exit(uint32_t index) {
    test_.exits[index] = static_cast<uint16_t>(length_);
    std::fill_n(&test_.code[length_], kExitBytes, uint8_t{0xcc});
    length_ += kExitBytes;
  }

  void resolve(const Fixup& fixup, uint32_t target) {
    const uint32_t origin = test_.initial.eip - (code16() ? kCode16Base : 0);
    const uint32_t value = fixup.relative ? target - fixup.base : origin + target;
    if (fixup.table) {
      uint8_t bytes[4];
      std::memcpy(bytes, &value, 4);
      test_.patch(fixup.offset, std::span(bytes, fixup.size));
    } else {
      std::memcpy(&test_.code[fixup.offset], &value, fixup.size);
    }
  }

  /// A word of the counters page that nothing else uses.
  uint32_t take_counter() {
    const uint32_t address = kCounters.base + 64 + counters_ * 4;
    ++counters_;
    return address;
  }

  void add_step(bool may_branch) {
    const uint32_t choice = may_branch ? random_.below(16) : 15;
    switch (choice) {
      case 0:
        return add_forward_branch();
      case 1:
        if (loops_.size() < 2) return open_loop();
        return close_loop();
      case 2:
        if (!loops_.empty()) return close_loop();
        return add_instruction();
      case 3:
        if (to_callee_.size() < 3) return add_call();
        return add_instruction();
      case 4:
        if (random_.one_in(3)) return add_indirect_jump();
        return add_instruction();
      case 5:
        if (random_.one_in(4)) return add_popf();
        return add_push_pop();
      default:
        return add_instruction();
    }
  }

  /// jcc over the next few instructions, or now and then out of the block.
  void add_forward_branch() {
    for (const Fixup& fixup : to_next_) resolve(fixup, length_);
    to_next_.clear();
    begin_instruction();
    const bool wide = pick_wide();
    put_width(wide);
    put({0x0f, static_cast<uint8_t>(0x80 | random_.below(16))});
    const Fixup fixup = put_relative(wide);
    (random_.one_in(12) ? to_exit_ : to_next_).push_back(fixup);
  }

  /// A field that is relative to what follows.
  Fixup put_relative(bool wide) {
    put_value(0, width(wide));
    return {length_ - width(wide), length_, width(wide), true, false};
  }
  /// An absolute address as immediate.
  Fixup put_absolute(bool wide) {
    put_value(0, width(wide));
    return {length_ - width(wide), 0, width(wide), false, false};
  }

  void open_loop() {
    const uint32_t counter = take_counter();
    const uint32_t rounds = 1 + random_.below(4);
    uint8_t bytes[4];
    std::memcpy(bytes, &rounds, 4);
    test_.patch(counter, bytes);
    loops_.push_back({length_, counter});
    add_instruction();
  }

  /// sub dword [counter], 1; jg start. A counter that a stray store made large ends by timeout.
  void close_loop() {
    const Loop loop = loops_.back();
    loops_.pop_back();
    begin_instruction();
    put_counter_operand(0x83, 5, loop.counter, pick_wide());
    put({1});
    begin_instruction();
    if (random_.one_in(2) && length_ + 2 - loop.start <= 128) {
      put({0x7f, static_cast<uint8_t>(loop.start - (length_ + 2))});
    } else {
      const bool wide = pick_wide();
      put_width(wide);
      put({0x0f, 0x8f});
      resolve(put_relative(wide), loop.start);
    }
  }

  void set_stack_pointer() {
    put_move(kEsp, pick_stack_register(test_.size, Caution::kTame, random_));
    stack_known_ = true;
  }

  void add_call() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    const bool wide = pick_wide();
    if (random_.one_in(3)) {  // call [counter]
      const uint32_t word = take_counter();
      put_counter_operand(0xff, 2, word, wide);
      to_callee_.push_back({{word, 0, width(wide), false, true}, wide});
    } else {
      put_width(wide);
      put({0xe8});
      to_callee_.push_back({put_relative(wide), wide});
    }
  }

  void add_callee(bool wide) {
    for (uint32_t n = random_.below(3); n > 0; --n) add_instruction(true);
    begin_instruction();
    put_width(wide);
    if (random_.one_in(4))
      put({0xc2, static_cast<uint8_t>(random_.below(4) * 4), 0});
    else
      put({0xc3});
  }

  /// jmp reg, jmp [word] or push and ret, to what follows.
  void add_indirect_jump() {
    const bool wide = pick_wide();
    switch (random_.below(3)) {
      case 0: {
        const uint8_t reg = pick_plain_register();
        begin_instruction();
        put_width(wide);
        put({static_cast<uint8_t>(0xb8 | reg)});
        const Fixup fixup = put_absolute(wide);
        begin_instruction();
        put_width(wide);
        put({0xff, static_cast<uint8_t>(0xe0 | reg)});
        return resolve(fixup, length_);
      }
      case 1: {
        const uint32_t word = take_counter();
        begin_instruction();
        put_counter_operand(0xff, 4, word, wide);
        return resolve({word, 0, width(wide), false, true}, length_);
      }
      default: {
        if (!stack_known_) set_stack_pointer();
        begin_instruction();
        put_width(wide);
        put({0x68});
        const Fixup fixup = put_absolute(wide);
        begin_instruction();
        put_width(wide);
        put({0xc3});
        return resolve(fixup, length_);
      }
    }
  }

  /// push imm; popf, with flags that arm nothing.
  void add_popf() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    const bool wide = pick_wide();
    put_width(wide);
    put({0x68});
    put_value(random_.next32() & ~kUnwelcomeFlags, width(wide));
    begin_instruction();
    put_width(wide);
    put({0x9d});
  }

  void add_push_pop() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    const uint8_t reg = pick_plain_register();
    put_width(pick_wide());
    put({static_cast<uint8_t>((random_.one_in(2) ? 0x50 : 0x58) | reg)});
  }

  uint8_t pick_plain_register() {
    const uint8_t reg = static_cast<uint8_t>(random_.below(8));
    return reg == kEsp ? uint8_t{kEax} : reg;
  }

  void put_move(uint8_t reg, uint32_t value) {
    begin_instruction();
    put_width(true);
    put({static_cast<uint8_t>(0xb8 | reg)});
    put_value(value, 4);
  }

  void add_instruction(bool keep_stack = false) {
    const Form& form =
        forms_[block_forms_[random_.below(static_cast<uint32_t>(block_forms_.size()))]];
    Encoded encoded = encode(form, decoder_, random_);
    if (encoded.decoded.instruction.raw.imm[0].is_relative) return;
    if (host_is_amd() && amd_blocks_lack(encoded.decoded, test_.size)) return;
    // All that CS shows of 16-bit code, besides code, is absent.
    if (code16() && reads_code_segment(encoded) && !random_.one_in(16)) return;
    const bool writes_stack = writes_stack_pointer(encoded);
    if (keep_stack && (writes_stack || uses_stack(encoded))) return;
    const Steering steering = steer(encoded, test_.initial.gpr, 0, Caution::kTame, random_);
    std::array<bool, 8> done{};
    // The last assignment to a register is the one that counts.
    for (size_t i = steering.registers.size(); i-- > 0;) {
      const Assignment& assignment = steering.registers[i];
      if (done[assignment.gpr]) continue;
      done[assignment.gpr] = true;
      if (assignment.gpr == kEsp && keep_stack) return;
      if (assignment.gpr == kEsp && stack_known_ && !random_.one_in(4) &&
          !addresses_by_stack_pointer(encoded))
        continue;
      put_move(assignment.gpr, assignment.value);
      if (assignment.gpr == kEsp) stack_known_ = true;
    }
    for (const auto& content : steering.content) test_.patch(content.address, content.bytes);
    begin_instruction();
    std::copy_n(encoded.bytes.begin(), encoded.length, &test_.code[length_]);
    length_ += encoded.length;
    if (writes_stack && !uses_stack(encoded)) stack_known_ = false;
    const ZydisMnemonic mnemonic = encoded.decoded.instruction.mnemonic;
    if (mnemonic == ZYDIS_MNEMONIC_POP || mnemonic == ZYDIS_MNEMONIC_LEAVE) stack_known_ = false;
  }

  static bool is_stack_register(ZydisRegister reg) {
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LEGACY_32, reg) ==
           ZYDIS_REGISTER_ESP;
  }

  static bool writes_stack_pointer(const Encoded& encoded) {
    for (int i = 0; i < encoded.decoded.instruction.operand_count; ++i) {
      const ZydisDecodedOperand& operand = encoded.decoded.operands[i];
      if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_stack_register(operand.reg.value) &&
          (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        return true;
    }
    return false;
  }

  static bool reads_code_segment(const Encoded& encoded) {
    for (int i = 0; i < encoded.decoded.instruction.operand_count; ++i) {
      const ZydisDecodedOperand& operand = encoded.decoded.operands[i];
      if (is_memory_operand(operand) && operand.mem.segment == ZYDIS_REGISTER_CS) return true;
    }
    return false;
  }

  static bool uses_stack(const Encoded& encoded) {
    for (int i = 0; i < encoded.decoded.instruction.operand_count; ++i) {
      if (is_stack_operand(encoded.decoded.operands[i])) return true;
    }
    return false;
  }

  static bool addresses_by_stack_pointer(const Encoded& encoded) {
    for (int i = 0; i < encoded.decoded.instruction.operand_count; ++i) {
      const ZydisDecodedOperand& operand = encoded.decoded.operands[i];
      if (is_memory_operand(operand) && !is_stack_operand(operand) &&
          operand.mem.base == ZYDIS_REGISTER_ESP)
        return true;
    }
    return false;
  }

  Case& test_;
  const std::vector<Form>& forms_;
  const std::vector<uint32_t>& block_forms_;
  const ZydisDecoder& decoder_;
  Random& random_;
  uint32_t length_ = 0;
  uint32_t counters_ = 0;
  bool stack_known_ = true;
  std::vector<Loop> loops_;
  std::vector<Fixup> to_next_, to_exit_;
  std::vector<Call> to_callee_;
};

}  // namespace

Case Generator::block(uint64_t number, uint32_t attempt) const {
  Random random = this->random(number ^ uint64_t{1} << 62, attempt);
  Case test;
  test.number = number;
  test.form = kNoForm;
  test.size = size_;
  CpuImage& cpu = test.initial;
  for (uint32_t& gpr : cpu.gpr) gpr = interesting_integer(random);
  cpu.gpr[kEsp] = pick_stack_register(size_, Caution::kTame, random);
  cpu.eflags = random_eflags(random);
  random_fpu(random, random.one_in(6) ? FpuMood::kAny : FpuMood::kQuiet, cpu.fpu);
  cpu.eip = kCodeBase + random.below(kCodeBytes - kMaxCode);
  test.code.fill(0xcc);
  BlockBuilder(test, forms_, block_forms_, decoder_, random).build();
  return test;
}

}  // namespace trapline::differential
