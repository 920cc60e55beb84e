// Sequences of 16-bit code in real mode, and between real mode and 16-bit protected mode.
//
// The generator knows the base of every segment at each step, so it can aim: accesses lie in the
// data pages and never over a segment's end, which Unicorn does not check. Steps that fault leave
// the segments as they are.
#include <algorithm>

#include "tests/differential/assembler.h"
#include "tests/differential/real_layout.h"
#include "tests/differential/values.h"
#include "vcpu/state.h"

namespace trapline::differential::kernel {
namespace {

constexpr uint8_t kPrefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};  // In SegmentName's order.

/// A place in a segment that the code can reach now.
struct Target {
  SegmentName segment = kDs;
  uint32_t offset = 0;
};

/// An operand in memory, but for the reg field of its ModRM byte, which is 0.
struct Operand {
  std::vector<uint8_t> prefixes;
  std::vector<uint8_t> modrm;
};

class SequenceBuilder {
 public:
  SequenceBuilder(KernelCase& test, Random& random)
      : test_(test), random_(random), code_(kRealCode + random.below(2) * (kPageSize - 200)) {
    for (uint32_t& base : test.bases) base = random_.below(kMemoryBytes - 0x200);
    for (uint32_t& base : test.code_bases) base = random_.below(kRealCode);
    test.stack_base = random_.below(0x4000);
    test.delivers = random_.one_in(2);
    for (const SegmentName name : {kEs, kDs, kFs, kGs}) set_real(name, pick_real_base());
    set_real(kSs, random_.below(0x400) * 16);
    set_real(kCs, random_.below(0x200) * 16);
    for (size_t i = 0; i < 6; ++i) test.selectors[i] = static_cast<uint16_t>(base_[i] >> 4);
    test.gpr[kEsp] = (test.gpr[kEsp] & 0xffff0000) | (kRealStack - base_[kSs]);
  }

  void build() {
    const uint32_t count = 4 + random_.below(20);
    for (uint32_t i = 0; i < count && code_.size() < 3 * kPageSize / 4; ++i) add_step();
    test_.end = code_.here();
    code_.breakpoint();
    test_.code = code_.bytes();
    test_.origin = code_.here() - code_.size();
  }

 private:
  void begin(const char* what) { test_.steps.push_back({code_.here(), what, false}); }
  void put(std::initializer_list<uint8_t> bytes) { code_.put(bytes); }
  uint8_t byte() { return static_cast<uint8_t>(random_.next32()); }
  void put_value(uint32_t value, bool wide) {
    if (wide) return code_.put32(value);
    code_.put16(static_cast<uint16_t>(value));
  }
  void put_width(bool wide) {
    if (wide) put({0x66});
  }
  bool pick_wide() { return random_.one_in(3); }

  /// mov reg, value
  void move16(uint8_t reg, uint32_t value) {
    put({static_cast<uint8_t>(0xb8 | reg)});
    code_.put16(static_cast<uint16_t>(value));
  }
  void move32(uint8_t reg, uint32_t value) {
    put({0x66, static_cast<uint8_t>(0xb8 | reg)});
    code_.put32(value);
  }
  void push16(uint32_t value) {
    put({0x68});
    code_.put16(static_cast<uint16_t>(value));
  }
  void push(uint32_t value, bool wide) {
    put_width(wide);
    put({0x68});
    put_value(value, wide);
  }
  /// A register other than ESP.
  uint8_t pick_register() {
    const uint8_t reg = static_cast<uint8_t>(random_.below(8));
    return reg == kEsp ? uint8_t{kEax} : reg;
  }

  void add_step() {
    switch (random_.below(26)) {
      case 0:
        return add_arithmetic();
      case 1:
        return add_undefined_flags();
      case 2:
      case 3:
      case 4:
        return add_access();
      case 5:
      case 6:
        return add_segment_load();
      case 7:
        return add_far_pointer();
      case 8:
        return add_stack_switch();
      case 9:
      case 10:
        return add_stack();
      case 11:
        return add_near_branch();
      case 12:
      case 13:
        return add_far_transfer();
      case 14:
      case 15:
        return protected_ ? add_protected_fault() : add_interrupt();
      case 16:
        return add_iret();
      case 17:
        return add_flags();
      case 18:
        return add_string();
      case 19:
      case 20:
        return add_fault();
      case 21:
        return add_system();
      case 22:
      case 23:
      case 24:
        if (test_.delivers || (!protected_ && random_.one_in(4))) return add_vectors();
        return add_mode_switch();
      default:
        return add_modified_code();
    }
  }

  // Segments.

  uint32_t pick_real_base() { return random_.below((kMemoryBytes - 0x200) / 16) * 16; }
  void set_real(SegmentName name, uint32_t base) { base_[name] = base; }

  bool reaches_all(SegmentName name) const { return base_[name] == 0 && wide_[name]; }

  /// A place in the data pages with `margin` bytes before and behind it.
  Target pick_target(uint32_t margin, bool wide_address, SegmentName name) {
    const uint32_t base = base_[name];
    const bool far = wide_address && reaches_all(name);
    const uint32_t low = std::max(kRealData, base) + margin;
    const uint32_t high = std::min(kMemoryBytes, far ? kMemoryBytes : base + 0x10000) - margin;
    return {name, low + random_.below(high - low) - base};
  }
  SegmentName pick_data_segment() {
    static constexpr SegmentName kNames[] = {kDs, kDs, kEs, kFs, kGs, kSs};
    return kNames[random_.below(std::size(kNames))];
  }

  /// What a load of a selector makes of a segment: the selector of a random base, and that base.
  uint16_t pick_selector(SegmentName name) {
    if (!protected_) {
      set_real(name, pick_real_base());
      return static_cast<uint16_t>(base_[name] >> 4);
    }
    if (random_.one_in(6)) {
      base_[name] = 0;
      wide_[name] = true;
      return kWideSelector;
    }
    const uint32_t index = random_.below(kCaseBases);
    base_[name] = test_.bases[index];
    wide_[name] = false;
    return static_cast<uint16_t>(kDataSelectors + index * 8);
  }

  static constexpr SegmentName kLoadable[] = {kEs, kDs, kFs, kGs};

  void add_segment_load() {
    begin("segment load");
    const SegmentName name = kLoadable[random_.below(4)];
    const uint16_t selector = pick_selector(name);
    switch (random_.below(3)) {
      case 0: {
        const uint8_t reg = pick_register();
        move16(reg, selector);
        put_width(random_.one_in(4));
        return put({0x8e, static_cast<uint8_t>(0xc0 | name << 3 | reg)});
      }
      case 1: {
        const bool wide = random_.one_in(4);
        push(selector | random_.next32() << 16, wide);
        put_width(wide);
        if (name < kFs) return put({static_cast<uint8_t>(0x07 | name << 3)});
        return put({0x0f, static_cast<uint8_t>(name == kFs ? 0xa1 : 0xa9)});
      }
      default: {
        const Target target = pick_target(16, false, pick_other_segment(name));
        store16(target, 0, selector);
        put_direct(target, {0x8e}, name);
      }
    }
  }

  SegmentName pick_other_segment(SegmentName name) {
    for (;;) {
      const SegmentName other = pick_data_segment();
      if (other != name) return other;
    }
  }

  /// An instruction with a memory operand at the target, by a displacement alone.
  void put_direct(const Target& target, std::initializer_list<uint8_t> opcode, uint8_t reg,
                  uint32_t delta = 0) {
    put({kPrefixes[target.segment]});
    code_.put(opcode);
    put({static_cast<uint8_t>(0x06 | reg << 3)});
    code_.put16(static_cast<uint16_t>(target.offset + delta));
  }
  void store16(const Target& target, uint32_t delta, uint32_t value) {
    put_direct(target, {0xc7}, 0, delta);
    code_.put16(static_cast<uint16_t>(value));
  }

  /// LDS, LES, LFS, LGS.
  void add_far_pointer() {
    begin("far pointer");
    const SegmentName name = kLoadable[random_.below(4)];
    const Target target = pick_target(16, false, pick_data_segment());
    const bool wide = pick_wide();
    const SegmentName through = target.segment;
    const Target before = target;
    const uint16_t selector = pick_selector(name);
    store16(before, 0, random_.next32());
    if (wide) store16(before, 2, random_.next32());
    store16(before, wide ? 4 : 2, selector);
    put({kPrefixes[through]});
    put_width(wide);
    const uint8_t reg = pick_register();
    switch (name) {
      case kDs:
        put({0xc5});
        break;
      case kEs:
        put({0xc4});
        break;
      default:
        put({0x0f, static_cast<uint8_t>(name == kFs ? 0xb4 : 0xb5)});
    }
    put({static_cast<uint8_t>(0x06 | reg << 3)});
    code_.put16(static_cast<uint16_t>(before.offset));
  }

  /// SS and SP together: MOV SS and MOV SP, or LSS.
  void add_stack_switch() {
    begin("stack switch");
    load_stack();
  }

  void load_stack() {
    uint16_t selector = kStackSelector;
    uint32_t base = test_.stack_base;
    if (!protected_) {
      base = random_.below(0x400) * 16;
      selector = static_cast<uint16_t>(base >> 4);
    }
    const uint32_t sp = kRealStack + 2 * random_.below(0x100) - base;
    if (random_.one_in(3)) {
      const Target target = pick_target(16, false, kLoadable[random_.below(4)]);
      store16(target, 0, sp);
      store16(target, 2, selector);
      put_direct(target, {0x0f, 0xb2}, kEsp);
    } else {
      move16(kEax, selector);
      put({0x8e, 0xd0});
      move16(kEsp, sp);
    }
    base_[kSs] = base;
  }

  // Accesses.

  /// The moves that make an operand's address, and the operand.
  Operand emit_address(uint32_t margin) {
    const bool wide = random_.one_in(4);
    const bool direct = random_.one_in(6);
    const uint8_t mod = direct ? 0 : static_cast<uint8_t>(random_.below(3));
    uint8_t rm = static_cast<uint8_t>(random_.below(8));
    Operand operand;
    if (wide) {
      if (rm == kEsp) rm = kEax;
      if (direct || (mod == 0 && rm == kEbp)) rm = kEbp;
      const bool has_base = mod != 0 || rm != kEbp;
      const Target target = pick_segment(operand, has_base && rm == kEbp, true, margin);
      const uint32_t displacement = random_displacement(mod, 4);
      if (has_base) move32(rm, target.offset - displacement);
      operand.prefixes.push_back(0x67);
      operand.modrm.push_back(static_cast<uint8_t>(mod << 6 | rm));
      append(operand, has_base ? displacement : target.offset,
             has_base ? displacement_size(mod, 4) : 4);
      return operand;
    }
    if (direct) rm = 6;
    const bool has_base = mod != 0 || rm != 6;
    const bool by_stack = rm == 2 || rm == 3 || (rm == 6 && has_base);
    const Target target = pick_segment(operand, by_stack, false, margin);
    const uint32_t displacement = random_displacement(mod, 2);
    static constexpr uint8_t kFirst[] = {kEbx, kEbx, kEbp, kEbp, kEsi, kEdi, kEbp, kEbx};
    uint32_t sum = target.offset - displacement;
    if (rm < 4) {  // The sum wraps at 64 KiB.
      const uint32_t index = random_.next32();
      move(rm % 2 ? kEdi : kEsi, index);
      sum -= index;
    }
    if (has_base) move(kFirst[rm], (sum & 0xffff) | random_.next32() << 16);
    operand.modrm.push_back(static_cast<uint8_t>(mod << 6 | rm));
    append(operand, has_base ? displacement : target.offset,
           has_base ? displacement_size(mod, 2) : 2);
    return operand;
  }

  void move(uint8_t reg, uint32_t value) {
    if (random_.one_in(2)) return move16(reg, value);
    move32(reg, value);
  }

  /// A target through the segment that the operand has by itself, or through another by a prefix.
  Target pick_segment(Operand& operand, bool by_stack, bool wide, uint32_t margin) {
    SegmentName name = by_stack ? kSs : kDs;
    if (random_.one_in(2)) {
      name = pick_data_segment();
      operand.prefixes.push_back(kPrefixes[name]);
    }
    return pick_target(margin, wide, name);
  }

  static uint32_t displacement_size(uint8_t mod, uint32_t full) {
    return mod == 0 ? 0 : mod == 1 ? 1 : full;
  }
  uint32_t random_displacement(uint8_t mod, uint32_t full) {
    if (mod == 0) return 0;
    if (mod == 1) return static_cast<uint32_t>(static_cast<int8_t>(random_.next32()));
    return full == 4 ? random_.next32() : random_.next32() & 0xffff;
  }
  static void append(Operand& operand, uint32_t value, uint32_t size) {
    for (uint32_t i = 0; i < size; ++i)
      operand.modrm.push_back(static_cast<uint8_t>(value >> 8 * i));
  }

  void put_operand(const Operand& operand, bool wide, std::initializer_list<uint8_t> opcode,
                   uint8_t reg) {
    for (const uint8_t prefix : operand.prefixes) put({prefix});
    put_width(wide);
    code_.put(opcode);
    put({static_cast<uint8_t>(operand.modrm[0] | reg << 3)});
    for (size_t i = 1; i < operand.modrm.size(); ++i) put({operand.modrm[i]});
  }

  void add_access() {
    begin("access");
    const Operand operand = emit_address(8);
    const bool wide = pick_wide();
    const uint8_t reg = pick_register();
    switch (random_.below(12)) {
      case 0:
      case 1:
        return put_operand(operand, wide, {0x8b}, reg);
      case 2:
        return put_operand(operand, wide, {0x89}, reg);
      case 3: {
        static constexpr uint8_t kOps[] = {0x00, 0x03, 0x11, 0x18, 0x29,
                                           0x31, 0x39, 0x3a, 0x88, 0x8a};
        return put_operand(operand, wide, {kOps[random_.below(std::size(kOps))]}, reg);
      }
      case 4:
        put_operand(operand, wide, {0xff}, 6);  // push m; pop reg
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | reg)});
      case 5:
        put_width(wide);
        put({static_cast<uint8_t>(0x50 | reg)});
        return put_operand(operand, wide, {0x8f}, 0);
      case 6:
        return put_operand(operand, wide, {0xff}, static_cast<uint8_t>(random_.below(2)));
      case 7:
        return put_operand(operand, wide, {0xf7}, static_cast<uint8_t>(2 + random_.below(2)));
      case 8:
        put_operand(operand, wide, {0xc7}, 0);
        return put_value(random_.next32(), wide);
      case 9:  // The second encoding of the group at 80h, or the group at 83h.
        put_operand(operand, wide, {static_cast<uint8_t>(random_.one_in(2) ? 0x82 : 0x83)},
                    static_cast<uint8_t>(random_.below(8)));
        return put({byte()});
      case 10:
        return put_operand(
            operand, wide,
            {0x0f, static_cast<uint8_t>(0xb6 | random_.below(2) | random_.below(2) << 3)}, reg);
      default:
        if (random_.one_in(2)) return put_operand(operand, wide, {0x8d}, reg);
        return put_operand(operand, wide, {0x87}, reg);
    }
  }

  // Registers and flags.

  void add_arithmetic() {
    begin("arithmetic");
    for (uint32_t n = 1 + random_.below(4); n > 0; --n) put_add(true);
    if (random_.one_in(4)) put({0xd6});  // salc
  }

  /// An operation that defines all flags; ADC and SBB only where there is a carry to read.
  void put_add(bool carry = false) {
    static constexpr uint8_t kOps[] = {0x00, 0x28, 0x38, 0x10, 0x18};
    const uint8_t op = kOps[random_.below(carry ? 5 : 3)];
    put_width(pick_wide());
    if (random_.one_in(3)) {
      put({0x83, static_cast<uint8_t>(0xc0 | op | pick_register()), byte()});
      return;
    }
    const uint8_t reg = pick_register();
    put({static_cast<uint8_t>(op | random_.below(4)),
         static_cast<uint8_t>(0xc0 | reg << 3 | random_.below(4))});
  }

  /// What leaves some flags undefined, followed by what defines them.
  void add_undefined_flags() {
    begin("undefined flags");
    put_width(random_.one_in(3));
    switch (random_.below(10)) {
      case 0:
        put({0x27});
        break;
      case 1:
        put({0x2f});
        break;
      case 2:
        put({0x37});
        break;
      case 3:
        put({0x3f});
        break;
      case 4:
        put({0xd4, static_cast<uint8_t>(1 + random_.below(255))});
        break;
      case 5:
        put({0xd5, byte()});
        break;
      case 6:  // The second encoding of SHL among them.
        put({0xd1, static_cast<uint8_t>(0xe0 | random_.below(4) << 3 | random_.below(4))});
        break;
      case 7:
        put({0xc1, static_cast<uint8_t>(0xe0 | random_.below(4) << 3 | random_.below(4)),
             static_cast<uint8_t>(random_.below(16))});
        break;
      case 8:
        put({0xf7, static_cast<uint8_t>(0xe0 | random_.below(2) << 3 | random_.below(4))});
        break;
      default:
        put({0xf6, static_cast<uint8_t>(0xc0 | random_.below(8)), byte()});
    }
    put_add();
  }

  uint32_t flags_image() {
    uint32_t allowed =
        eflags::kArithmetic | eflags::kDf | eflags::kIf | eflags::kIopl | eflags::kAc | eflags::kId;
    if (!protected_) allowed |= eflags::kNt;  // IRET would return to another task.
    return (random_.next32() & allowed) | eflags::kFixed1;
  }

  void add_flags() {
    begin("flags");
    const bool wide = random_.one_in(3);
    switch (random_.below(6)) {
      case 0:
      case 1:
        push(flags_image(), wide);
        put_width(wide);
        return put({0x9d});
      case 2:
        put_width(wide);
        put({0x9c});
        put_width(wide);
        return put({0x5b});
      case 3:
        return put({static_cast<uint8_t>(random_.one_in(2) ? 0xfa : 0xfb)});
      case 4:
        return put({static_cast<uint8_t>(random_.one_in(2) ? 0xfc : 0xfd), 0xf5});
      default:
        return put({static_cast<uint8_t>(random_.one_in(2) ? 0x9e : 0x9f)});
    }
  }

  void add_stack() {
    begin("stack");
    const bool wide = pick_wide();
    const uint8_t reg = pick_register();
    put_width(wide);
    switch (random_.below(8)) {
      case 0:
        put({static_cast<uint8_t>(0x50 | random_.below(8))});  // SP too
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | reg)});
      case 1:
        put({0x60});
        put_width(wide);
        return put({0x61});
      case 2:
        put({0x6a, byte()});
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | reg)});
      case 3:
        put({0x68});
        put_value(random_.next32(), wide);
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | reg)});
      case 4: {  // enter and leave, with 16 bits. The frames of the outer levels are read below BP.
        code_.put({0x90});
        move16(kEbp, kRealStack - base_[kSs] + 2 * random_.below(64));
        put({0xc8});
        code_.put16(static_cast<uint16_t>(random_.below(64)));
        put({static_cast<uint8_t>(random_.below(4))});
        if (random_.one_in(3)) put_add();
        return put({0xc9});
      }
      case 5: {
        // A 32-bit push of a segment register may leave the upper half alone.
        static constexpr uint8_t kPush[] = {0x06, 0x0e, 0x16, 0x1e};
        put({0x6a, 0});
        put_width(wide);
        put({0x59});
        put_width(wide);
        put({kPush[random_.below(4)]});
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | reg)});
      }
      case 6:
        put({static_cast<uint8_t>(0x50 | reg)});
        put_width(wide);
        put({0x8f, static_cast<uint8_t>(0xc0 | pick_register())});  // pop by ModRM
        return;
      default:
        put({0xff, static_cast<uint8_t>(0xf0 | reg)});  // push by ModRM
        put_width(wide);
        return put({static_cast<uint8_t>(0x58 | pick_register())});
    }
  }

  void add_string() {
    begin("string");
    const SegmentName source = random_.one_in(3) ? pick_data_segment() : kDs;
    const bool wide = random_.one_in(4), wide_address = random_.one_in(4);
    const auto high = [&] { return wide_address ? 0 : random_.next32() << 16; };
    move32(kEsi, pick_target(64, wide_address, source).offset | high());
    move32(kEdi, pick_target(64, wide_address, kEs).offset | high());
    move32(kEcx, random_.below(12) | high());
    put({static_cast<uint8_t>(random_.one_in(3) ? 0xfd : 0xfc)});
    if (source != kDs) put({kPrefixes[source]});
    if (wide_address) put({0x67});
    put_width(wide);
    static constexpr uint8_t kStrings[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa,
                                           0xab, 0xac, 0xad, 0xae, 0xaf};
    const uint8_t opcode = kStrings[random_.below(std::size(kStrings))];
    if (!random_.one_in(4)) put({static_cast<uint8_t>(random_.one_in(2) ? 0xf2 : 0xf3)});
    put({opcode});
  }

  // Transfers.

  void add_near_branch() {
    begin("near branch");
    const bool wide = random_.one_in(4);
    switch (random_.below(6)) {
      case 0:  // jcc over an instruction
        put({static_cast<uint8_t>(0x70 | random_.below(16)), 2});
        return put({0x01, 0xc3});
      case 1:
        put_width(wide);
        put({0x0f, static_cast<uint8_t>(0x80 | random_.below(16))});
        put_value(2, wide);
        return put({0x01, 0xc3});
      case 2: {  // loop, also by ECX
        const bool wide_address = random_.one_in(3);
        move32(kEcx, (1 + random_.below(4)) | (wide_address ? 0 : random_.next32() << 16));
        const uint32_t start = code_.here();
        put({0x43});
        if (wide_address) put({0x67});
        return put({static_cast<uint8_t>(0xe0 | random_.below(3)),
                    static_cast<uint8_t>(start - (code_.here() + 2))});
      }
      case 3:  // call; jmp over; ret
        put_width(wide);
        put({0xe8});
        put_value(2, wide);
        put({0xeb, static_cast<uint8_t>(wide ? 2 : 1)});
        put_width(wide);
        return put({0xc3});
      case 4: {  // jmp reg, with 16 bits of the register
        const uint8_t reg = pick_register();
        move32(reg, 0);
        const uint32_t field = code_.here() - 4;
        put({0xff, static_cast<uint8_t>(0xe0 | reg)});
        return patch_here(field, random_.next32() << 16);
      }
      default: {
        if (wide) put({0x67});
        return put({0xe3, 2, 0x01, 0xc3});
      }
    }
  }

  /// Puts the offset of what follows into a field of 32 bits.
  void patch_here(uint32_t field, uint32_t high) {
    const uint32_t value = ((code_.here() - base_[kCs]) & 0xffff) | high;
    code_.patch32(field, value);
  }
  /// Another selector of the code, and its base.
  uint16_t pick_code(uint32_t& base) {
    if (protected_) {
      const uint32_t index = random_.below(kCodeBases);
      base = test_.code_bases[index];
      return static_cast<uint16_t>(kCodeSelectors + index * 8);
    }
    base = random_.below(0x200) * 16;
    return static_cast<uint16_t>(base >> 4);
  }

  void add_far_transfer() {
    begin("far transfer");
    const bool wide = random_.one_in(4);
    uint32_t base = 0;
    const uint16_t selector = pick_code(base);
    switch (random_.below(5)) {
      case 0:
        far_jump(selector, base, wide);
        break;
      case 1: {  // call far; jmp over; retf. The way back restores CS.
        put_width(wide);
        put({0x9a});
        const bool releases = random_.one_in(3);
        put_value(code_.here() + (wide ? 4 : 2) + 2 + 2 - base, wide);
        code_.put16(selector);
        put({0xeb, static_cast<uint8_t>((wide ? 1 : 0) + (releases ? 3 : 1))});
        put_width(wide);
        if (releases) return put({0xca, static_cast<uint8_t>(2 * random_.below(3)), 0});
        return put({0xcb});
      }
      case 2:
      case 3: {  // through memory: call or jump
        const Target target = pick_target(16, false, pick_data_segment());
        const bool call = random_.one_in(2);
        const uint32_t field = code_.here() + 1 + 1 + 1 + 2;
        store16(target, 0, 0);
        if (wide) store16(target, 2, 0);
        store16(target, wide ? 4 : 2, selector);
        put({kPrefixes[target.segment]});
        put_width(wide);
        put({0xff, static_cast<uint8_t>(call ? 0x1e : 0x2e)});
        code_.put16(static_cast<uint16_t>(target.offset));
        if (!call) {
          code_.patch16(field, code_.here() - base);
          break;
        }
        code_.patch16(field, code_.here() + 2 - base);
        put({0xeb, static_cast<uint8_t>(wide ? 2 : 1)});
        put_width(wide);
        return put({0xcb});
      }
      default: {
        push(selector, wide);
        put_width(wide);
        put({0x68});
        const uint32_t field = code_.here();
        put_value(0, wide);
        put_width(wide);
        put({0xcb});
        code_.patch16(field, code_.here() - base);
      }
    }
    base_[kCs] = base;
  }

  void far_jump(uint16_t selector, uint32_t base, bool wide) {
    put_width(wide);
    put({0xea});
    put_value(code_.here() + (wide ? 4 : 2) + 2 - base, wide);
    code_.put16(selector);
  }

  /// INT through the vector table. Some of the handlers change what they return to.
  void add_interrupt() {
    begin("interrupt");
    if (random_.one_in(8)) {
      put({0xb0, static_cast<uint8_t>(random_.one_in(2) ? 0x7f : 0), 0x04, 0x01});
      return put({0xce, 0x90});  // into; behind a trap, too, the run goes on at the next step
    }
    put({0xcd, static_cast<uint8_t>(kFirstInt + random_.below(0x20))});
  }

  void add_iret() {
    begin("iret");
    const bool wide = random_.one_in(4);
    uint32_t base = 0;
    const uint16_t selector = pick_code(base);
    push(flags_image(), wide);
    push(selector, wide);
    put_width(wide);
    put({0x68});
    const uint32_t field = code_.here();
    put_value(0, wide);
    put_width(wide);
    put({0xcf});
    code_.patch16(field, code_.here() - base);
    base_[kCs] = base;
  }

  // Faults and system instructions.

  void add_fault() {
    begin("fault");
    const bool wide = pick_wide();
    switch (random_.below(protected_ ? 7 : 10)) {
      case 0:  // division by zero
        put_width(wide);
        put({0x31, 0xc9});
        put_width(wide);
        return put({0xf7, static_cast<uint8_t>(0xf1 | random_.below(2) << 3)});
      case 1:  // an overflow, or not
        put({0xb9, static_cast<uint8_t>(1 + random_.below(4)), 0});
        put_width(wide);
        put({0xf7, static_cast<uint8_t>(0xf1 | random_.below(2) << 3)});
        return put_add();
      case 2:
        return put({0xd4, 0});  // aam 0
      case 3: {                 // bound
        const Target target = pick_target(16, false, pick_data_segment());
        store16(target, 0, 0x10);
        store16(target, 2, 0x20);
        move16(kEbx, 0x0e + random_.below(0x14));
        return put_direct(target, {0x62}, kEbx);
      }
      case 4:
        return put({0x0f, 0x0b});
      case 5:
        return put({0x8e, static_cast<uint8_t>(random_.one_in(2) ? 0xc8 : 0xf0)});  // mov cs, ax
      case 6:
        return put({0xf0, 0x01, 0xc8});  // lock, where it is not allowed
      case 7:                            // what real mode does not know
        return put({0x0f, 0x00, static_cast<uint8_t>(0xc0 | random_.below(6) << 3)});
      case 8:
        return put({0x0f, static_cast<uint8_t>(0x02 | random_.below(2)), 0xc3});
      default:
        return put({0x63, 0xc3});
    }
  }

  /// A load that faults, in protected mode.
  void add_protected_fault() {
    begin("fault of a load");
    static constexpr uint16_t kBad[] = {kAbsentSelector, kExecuteOnlySelector, kRealGdtBytes, 0x4,
                                        kDataSelectors | 3};
    move16(kEax, kBad[random_.below(std::size(kBad))]);
    put({0x8e, static_cast<uint8_t>(0xc0 | kLoadable[random_.below(4)] << 3)});
  }

  void add_system() {
    begin("system");
    switch (random_.below(6)) {
      case 0: {  // CR0, and what TS, EM and MP do to the FPU's instructions
        put({0x0f, 0x20, 0xc0, 0x24, 0xf1, 0x0c, static_cast<uint8_t>(random_.below(8) << 1)});
        put({0x0f, 0x22, 0xc0});
        begin("fpu after cr0");
        if (random_.one_in(2)) return put({0xd9, 0xd0});
        return put({0x9b});
      }
      case 1:
        return put({0x0f, 0x06});  // clts
      case 2:
        return put({0x0f, 0x01, static_cast<uint8_t>(0xe0 | random_.below(4))});  // smsw
      case 3: {                                                                   // lmsw
        move16(kEcx, (random_.next32() & 0xfffe) | (protected_ ? 1 : 0));
        return put({0x0f, 0x01, 0xf1});
      }
      case 4: {
        const Target target = pick_target(16, false, pick_data_segment());
        return put_direct(target, {0x0f, 0x01},
                          static_cast<uint8_t>(random_.below(2)));  // sgdt, sidt
      }
      default:
        return put({0x0f, 0x20, 0xd3});  // mov ebx, cr2
    }
  }

  /// LIDT, to either table.
  void add_vectors() {
    begin("vectors");
    load_table(3, random_.one_in(2) ? kVectors : kOtherVectors, kVectorsLimit);
  }

  void load_table(uint8_t reg, uint32_t base, uint32_t limit) {
    if (base == kOtherVectors) limit = kOtherVectorsLimit;
    const Target target = pick_target(16, false, pick_data_segment());
    store16(target, 0, limit);
    store16(target, 2, base);
    store16(target, 4, random_.next32() & 0xff00);  // Only with 32 bits: the highest byte.
    put_direct(target, {0x0f, 0x01}, reg);
  }

  /// Into protected mode or back; between the write of CR0 and the jump, CS is what it was.
  void add_mode_switch() {
    if (protected_) {
      begin("to real mode");
      put({0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0});
      protected_ = false;
      uint32_t base = 0;
      const uint16_t selector = pick_code(base);
      far_jump(selector, base, random_.one_in(4));
      base_[kCs] = base;
      // INT needs to know where SS is: see unicorn_deviations().
      return load_stack();
    }
    begin("to protected mode");
    push16(2);
    put({0x9d});
    load_table(2, kRealGdt, kRealGdtBytes - 1);
    if (random_.one_in(3)) {
      put({0x0f, 0x01, 0xe0, 0x0c, 0x01, 0x0f, 0x01, 0xf0});  // by smsw and lmsw
    } else {
      put({0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0});
    }
    protected_ = true;
    uint32_t base = 0;
    const uint16_t selector = pick_code(base);
    far_jump(selector, base, random_.one_in(4));
    base_[kCs] = base;
  }

  /// The immediate of the very next instruction, or of one a few further on, is overwritten.
  void add_modified_code() {
    begin("self-modifying code");
    if (protected_) return put_add();  // CS cannot be written.
    put({0x2e, 0xc7, 0x06});
    const uint32_t field = code_.here();
    code_.put16(0);
    code_.put16(static_cast<uint16_t>(random_.next32()));
    for (uint32_t n = random_.below(3); n > 0; --n) put({0x43});
    move16(kEcx, 0x1111);
    code_.patch16(field, code_.here() - 2 - base_[kCs]);
  }

  KernelCase& test_;
  Random& random_;
  Assembler code_;
  bool protected_ = false;
  std::array<uint32_t, 6> base_{};
  std::array<bool, 6> wide_{};
};

}  // namespace

KernelCase make_real_case(uint64_t seed, uint64_t number) {
  Random random(seed, number ^ uint64_t{3} << 62);
  KernelCase test;
  test.number = number;
  test.code16 = true;
  for (uint32_t& gpr : test.gpr) gpr = interesting_integer(random);
  SequenceBuilder(test, random).build();
  return test;
}

}  // namespace trapline::differential::kernel
