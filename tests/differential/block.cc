#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/differential/generator.h"
#include "tests/differential/values.h"

namespace trapline::differential {
namespace {

/// Builds the code of a block: instructions with the moves that steer them, and control flow whose
/// targets are always starts of instructions.
///
///   body     straight code, forward jumps, bounded loops, calls
///   exit 0   the end of the body
///   callees  each ends by RET
///   exit 1   a jump target for early leaving
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
    for (const Fixup& fixup : to_callee_) {
      resolve(fixup, length_);
      add_callee();
    }
    for (const Fixup& fixup : to_exit_) resolve(fixup, length_);
    place_exit(1);
    test_.code_length = static_cast<uint16_t>(length_);
  }

 private:
  struct Fixup {
    uint32_t offset = 0;   ///< Of the field, in the code.
    uint32_t base = 0;     ///< Relative: where the instruction ends.
    bool relative = true;  ///< Else the absolute address.
    bool table = false;    ///< The field is a word of the counters page at `offset`.
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
  void put32(uint32_t value) {
    std::memcpy(&test_.code[length_], &value, 4);
    length_ += 4;
  }

  void place_exit(uint32_t index) {
    test_.exits[index] = static_cast<uint16_t>(length_);
    std::fill_n(&test_.code[length_], kExitBytes, uint8_t{0xcc});
    length_ += kExitBytes;
  }

  void resolve(const Fixup& fixup, uint32_t target) {
    const uint32_t value = fixup.relative ? target - fixup.base : test_.initial.eip + target;
    if (fixup.table) {
      uint8_t bytes[4];
      std::memcpy(bytes, &value, 4);
      test_.patch(fixup.offset, bytes);
    } else {
      std::memcpy(&test_.code[fixup.offset], &value, 4);
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
    put({0x0f, static_cast<uint8_t>(0x80 | random_.below(16))});
    put32(0);
    const Fixup fixup{length_ - 4, length_, true, false};
    (random_.one_in(12) ? to_exit_ : to_next_).push_back(fixup);
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
    put({0x83, 0x2d});
    put32(loop.counter);
    put({1});
    begin_instruction();
    if (random_.one_in(2) && length_ + 2 - loop.start <= 128) {
      put({0x7f, static_cast<uint8_t>(loop.start - (length_ + 2))});
    } else {
      put({0x0f, 0x8f});
      put32(loop.start - (length_ + 4));
    }
  }

  void set_stack_pointer() {
    put_move(kEsp, pick_stack_pointer(Caution::kTame, random_));
    stack_known_ = true;
  }

  void add_call() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    if (random_.one_in(3)) {  // call [counter]
      const uint32_t word = take_counter();
      put({0xff, 0x15});
      put32(word);
      to_callee_.push_back({word, 0, false, true});
    } else {
      put({0xe8});
      put32(0);
      to_callee_.push_back({length_ - 4, length_, true, false});
    }
  }

  void add_callee() {
    for (uint32_t n = random_.below(3); n > 0; --n) add_instruction(true);
    begin_instruction();
    if (random_.one_in(4))
      put({0xc2, static_cast<uint8_t>(random_.below(4) * 4), 0});
    else
      put({0xc3});
  }

  /// jmp reg, jmp [word] or push and ret, to what follows.
  void add_indirect_jump() {
    switch (random_.below(3)) {
      case 0: {
        const uint8_t reg = pick_plain_register();
        begin_instruction();
        put({static_cast<uint8_t>(0xb8 | reg)});
        put32(0);
        const Fixup fixup{length_ - 4, 0, false, false};
        begin_instruction();
        put({0xff, static_cast<uint8_t>(0xe0 | reg)});
        return resolve(fixup, length_);
      }
      case 1: {
        const uint32_t word = take_counter();
        begin_instruction();
        put({0xff, 0x25});
        put32(word);
        return resolve({word, 0, false, true}, length_);
      }
      default: {
        if (!stack_known_) set_stack_pointer();
        begin_instruction();
        put({0x68});
        put32(0);
        const Fixup fixup{length_ - 4, 0, false, false};
        begin_instruction();
        put({0xc3});
        return resolve(fixup, length_);
      }
    }
  }

  /// push imm32; popfd, with flags that arm nothing.
  void add_popf() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    put({0x68});
    put32(random_.next32() & ~kUnwelcomeFlags);
    begin_instruction();
    put({0x9d});
  }

  void add_push_pop() {
    if (!stack_known_) set_stack_pointer();
    begin_instruction();
    const uint8_t reg = pick_plain_register();
    put({static_cast<uint8_t>((random_.one_in(2) ? 0x50 : 0x58) | reg)});
  }

  uint8_t pick_plain_register() {
    const uint8_t reg = static_cast<uint8_t>(random_.below(8));
    return reg == kEsp ? uint8_t{kEax} : reg;
  }

  void put_move(uint8_t reg, uint32_t value) {
    begin_instruction();
    put({static_cast<uint8_t>(0xb8 | reg)});
    put32(value);
  }

  void add_instruction(bool keep_stack = false) {
    const Form& form =
        forms_[block_forms_[random_.below(static_cast<uint32_t>(block_forms_.size()))]];
    Encoded encoded = encode(form, decoder_, random_);
    if (encoded.decoded.instruction.raw.imm[0].is_relative) return;
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
  std::vector<Fixup> to_next_, to_exit_, to_callee_;
};

}  // namespace

Case Generator::block(uint64_t number) const {
  Random random(seed_, number ^ uint64_t{1} << 62);
  Case test;
  test.number = number;
  test.form = kNoForm;
  CpuImage& cpu = test.initial;
  for (uint32_t& gpr : cpu.gpr) gpr = interesting_integer(random);
  cpu.gpr[kEsp] = pick_stack_pointer(Caution::kTame, random);
  cpu.eflags = random_eflags(random);
  random_fpu(random, random.one_in(6) ? FpuMood::kAny : FpuMood::kQuiet, cpu.fpu);
  cpu.eip = kCodeBase + random.below(kCodeBytes - kMaxCode);
  test.code.fill(0xcc);
  BlockBuilder(test, forms_, block_forms_, decoder_, random).build();
  return test;
}

}  // namespace trapline::differential
