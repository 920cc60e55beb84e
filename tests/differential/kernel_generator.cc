
#include "tests/differential/assembler.h"
#include "tests/differential/kernel_case.h"
#include "tests/differential/values.h"

namespace trapline::differential::kernel {
namespace {

constexpr uint32_t kPresent = 1, kWritable = 2, kUser = 4;
constexpr uint32_t kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80;

/// What the generator knows of a play page at this point of the sequence.
struct PlayPage {
  uint32_t frame = 0;
  uint32_t bits = 0;
};

class SequenceBuilder {
 public:
  SequenceBuilder(KernelCase& test, Random& random)
      : test_(test), random_(random), code_(kCode + random.below(2) * (kPageSize - 200)) {
    for (uint32_t space = 0; space < 2; ++space) {
      for (uint32_t page = 0; page < kPlayPages; ++page) {
        play_[space][page] = {kFirstDataFrame + (page + 3 * space) % kDataFrames,
                              (page * 5 + space) % 8};
      }
    }
  }

  void build() {
    const uint32_t count = 4 + random_.below(20);
    for (uint32_t i = 0; i < count && code_.size() < 3 * kPageSize / 4; ++i) add_step();
    if (random_.one_in(4)) add_user_tail();
    test_.end = code_.here();
    code_.breakpoint();
    test_.code = code_.bytes();
    test_.origin = code_.here() - code_.size();
  }

 private:
  void begin(const char* what) { test_.steps.push_back({code_.here(), what, false}); }

  void add_step() {
    switch (random_.below(26)) {
      case 0:
        return add_popf();
      case 1:
        return add_pushf();
      case 2:
        begin("cli or sti");
        return code_.put({static_cast<uint8_t>(random_.one_in(2) ? 0xfa : 0xfb)});
      case 3:
        return add_iret();
      case 4:
      case 5:
        return add_segment_load();
      case 6:
        return add_segment_push_pop();
      case 7:
        return add_cr0_change();
      case 8:
        return add_cr3_load();
      case 9:
        return add_cr4_change();
      case 10:
      case 11:
      case 12:
        return add_mapping_change();
      case 13:
        return add_large_change();
      case 14:
      case 15:
      case 16:
      case 17:
        return add_play_access();
      case 18:
        return add_modified_code();
      case 19:
        return add_modified_loop();
      case 20:
        return add_play_access();
      case 21:
        return add_far_transfer();
      case 22:
        return add_descriptor_query();
      case 23:
        return add_system_register();
      case 24:
        return add_string();
      default:
        return add_arithmetic();
    }
  }

  uint32_t flags_image() {
    constexpr uint32_t kAllowed =
        eflags::kArithmetic | eflags::kDf | eflags::kIf | eflags::kIopl | eflags::kAc | eflags::kId;
    return (random_.next32() & kAllowed) | eflags::kFixed1;
  }

  void add_popf() {
    begin("popf");
    const bool short_form = random_.one_in(4);
    code_.push(flags_image());
    if (short_form)
      code_.put({0x66, 0x9d, 0x66, 0x58});  // the other half goes to ax
    else
      code_.put({0x9d});
  }

  void add_pushf() {
    begin("pushf");
    if (random_.one_in(4))
      code_.put({0x66, 0x9c, 0x66, 0x5b});  // pop bx
    else
      code_.put({0x9c, 0x5b});
  }

  void add_iret() {
    begin("iret");
    code_.push(flags_image());
    code_.push(random_.one_in(8) ? kConforming : kCode0);
    code_.push(0);
    const uint32_t target = code_.here() - 4;
    code_.put({0xcf});
    code_.patch32(target, code_.here());
  }

  /// MOV to DS, ES, FS, GS, sometimes SS, of any selector there is.
  void add_segment_load() {
    begin("segment load");
    code_.move(0, pick_selector());
    static constexpr uint8_t kModrm[] = {0xc0, 0xd8, 0xe0, 0xe8};  // es, ds, fs, gs
    if (random_.one_in(8)) {
      // SS stays usable: only flat data of privilege 0, or a fault.
      static constexpr uint16_t kStacks[] = {kData0, 0, kCode0, 0x30, 0x48, kData3, 0x11};
      code_.move(0, kStacks[random_.below(std::size(kStacks))]);
      return code_.put({0x8e, 0xd0});
    }
    code_.put({0x8e, kModrm[random_.below(4)]});
  }

  uint32_t pick_selector() {
    if (random_.one_in(8)) return random_.below(0x100);
    if (random_.one_in(6)) return 4 | random_.below(5) * 8;
    return random_.below(kGdtEntries) * 8 | (random_.one_in(3) ? random_.below(4) : 0);
  }

  void add_segment_push_pop() {
    begin("push and pop of a segment");
    static constexpr uint8_t kPush[] = {0x06, 0x0e, 0x16, 0x1e};
    if (random_.one_in(2)) {
      code_.put({0x6a, 0, 0x59});  // push 0; pop ecx: see unicorn_deviations()
      code_.put({kPush[random_.below(4)], 0x58});
    } else {
      code_.push(pick_selector());
      if (random_.one_in(2))
        code_.put({static_cast<uint8_t>(random_.one_in(2) ? 0x07 : 0x1f)});
      else
        code_.put({0x0f, static_cast<uint8_t>(random_.one_in(2) ? 0xa1 : 0xa9)});
    }
  }

  void add_cr0_change() {
    begin("cr0");
    uint32_t value = kCr0;
    if (random_.one_in(2)) value |= 0x10000;  // WP
    if (random_.one_in(4)) value |= 0x8;      // TS
    if (random_.one_in(4)) value |= 0x2;      // MP
    if (random_.one_in(6)) value |= 0x4;      // EM
    if (random_.one_in(6)) value |= 0x40000;  // AM
    switch (random_.below(4)) {
      case 0:
        code_.put({0x0f, 0x06});  // clts
        break;
      case 1:
        code_.put({0x0f, 0x20, 0xc3, 0x66, 0x0f, 0x01, 0xe1});  // mov ebx, cr0; smsw cx
        break;
      default:
        code_.move(0, value);
        code_.put({0x0f, 0x22, 0xc0});
        write_protect_ = value & 0x10000;
    }
    if (!random_.one_in(3)) return;
    begin("fpu after cr0");
    if (random_.one_in(2))
      code_.put({0xd9, 0xd0});  // fnop
    else
      code_.put({0x9b});
  }

  void add_cr3_load() {
    begin("cr3");
    space_ = random_.below(2);
    code_.move(0, root(space_, test_.pae));
    code_.put({0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xdb});  // mov cr3, eax; mov ebx, cr3
  }

  void add_cr4_change() {
    begin("cr4");
    uint32_t value = test_.pae ? 0x20 : 0x10;
    if (random_.one_in(3)) value ^= 0x10;  // PSE
    if (random_.one_in(2)) value |= 0x80;  // PGE
    code_.move(0, value);
    code_.put({0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xe3});
  }

  uint32_t random_entry_bits() {
    uint32_t bits = random_.next32() & (kWritable | kUser | kAccessed | kDirty);
    if (!random_.one_in(4)) bits |= kPresent;
    return bits;
  }

  /// A play page's entry changes and INVLPG follows.
  void add_mapping_change() {
    begin("mapping change");
    const uint32_t page = random_.below(kPlayPages);
    PlayPage& known = play_[space_][page];
    known.bits = random_entry_bits();
    known.frame = kFirstDataFrame + random_.below(kDataFrames);
    const uint32_t entry = play_entry(space_, page, test_.pae);
    switch (random_.below(4)) {
      case 0:  // byte by byte where only the rights change
        code_.store(entry, known.frame << 12 | known.bits);
        known.bits ^= kWritable;
        code_.put({0x36, 0x80, 0x35});  // xor byte ss:[entry], 2
        code_.put32(entry);
        code_.put({kWritable});
        break;
      case 1:
        code_.move(1, known.frame << 12 | known.bits);
        code_.put({0x36, 0x87, 0x0d});  // xchg ss:[entry], ecx
        code_.put32(entry);
        code_.put({0x81, 0xe1, 0x9f, 0xff, 0xff, 0xff});  // and ecx, without A and D
        break;
      default:
        code_.store(entry, known.frame << 12 | known.bits);
    }
    code_.invlpg(kPlayBase + page * kPageSize);
  }

  void add_large_change() {
    begin("large page change");
    uint32_t bits = random_entry_bits();
    if (!random_.one_in(3)) bits |= kLarge;
    code_.store(large_entry(space_, test_.pae), bits);
    code_.invlpg(kLargeBase);
    // Which address of a large page INVLPG is given does not matter, but an entry that was not
    // large leaves a page of its own behind.
    code_.invlpg(kLargeBase + kFirstDataFrame * kPageSize);
    begin("large page access");
    emit_access(kLargeBase + kFirstDataFrame * kPageSize + random_.below(kPageSize - 8),
                may_modify(bits));
  }

  uint32_t play_address(uint32_t size) {
    const uint32_t page = random_.below(kPlayPages);
    uint32_t offset = random_.below(kPageSize - size);
    if (random_.one_in(6) && page + 1 < kPlayPages) offset = kPageSize - 1 - random_.below(size);
    return kPlayBase + page * kPageSize + offset;
  }

  void add_play_access() {
    begin("access");
    const uint32_t page = random_.below(kPlayPages - 1);
    uint32_t address = kPlayBase + page * kPageSize + random_.below(kPageSize - 8);
    if (!random_.one_in(6)) return emit_access(address, may_modify(play_[space_][page].bits));
    test_.steps.back().may_cross = true;
    // Across two pages read-modify-write is left out: see unicorn_deviations().
    address = (address & ~kPageMask) + kPageSize - 1 - random_.below(3);
    if (random_.one_in(2)) return emit_read(address);
    emit_write(address);
  }

  void emit_read(uint32_t address) {
    code_.put({0x36, 0x8b, static_cast<uint8_t>(0x05 | random_.below(4) << 3)});
    code_.put32(address);
  }

  void emit_write(uint32_t address) {
    code_.put({0x36, 0x89, 0x1d});  // mov ss:[address], ebx
    code_.put32(address);
  }

  /// Not where it is present but write-protected: see unicorn_deviations().
  bool may_modify(uint32_t entry) const {
    return !(entry & kPresent) || (entry & kWritable) || !write_protect_;
  }

  void emit_access(uint32_t address, bool modify) {
    switch (random_.below(6)) {
      case 0:
      case 1:
        return emit_read(address);
      case 2:
        return emit_write(address);
      case 3:
        if (!modify) return emit_write(address);
        code_.put({0x36, 0x01, 0x0d});  // add ss:[address], ecx
        return code_.put32(address);
      case 4:
        code_.put({0x36, 0x66, 0xc7, 0x05});
        code_.put32(address);
        return code_.put16(static_cast<uint16_t>(random_.next32()));
      default:
        code_.put({0x36, 0xff, 0x35});  // push dword ss:[address]
        code_.put32(address);
        return code_.put({0x58});
    }
  }

  /// The immediate of the very next instruction, or of one a few further on, is overwritten.
  void add_modified_code() {
    begin("self-modifying code");
    code_.store(0, random_.next32());
    const uint32_t address = code_.here() - 8;
    for (uint32_t n = random_.below(3); n > 0; --n) code_.put({0x43});  // inc ebx
    code_.move(1, 0x11111111);
    code_.patch32(address, code_.here() - 4);
  }

  /// A loop whose body changes itself in each round.
  void add_modified_loop() {
    begin("self-modifying loop");
    code_.move(1, 2 + random_.below(4));
    const uint32_t start = code_.here();
    code_.move(0, 0x01020304);
    const uint32_t immediate = code_.here() - 4;
    code_.put({0x01, 0xc3});        // add ebx, eax
    code_.put({0x36, 0x81, 0x05});  // add dword ss:[immediate], value
    code_.put32(immediate);
    code_.put32(random_.next32());
    code_.put({0xe2, static_cast<uint8_t>(start - (code_.here() + 2))});
  }

  void add_far_transfer() {
    begin("far transfer");
    static constexpr uint16_t kTargets[] = {kCode0, kCode0, kConforming, 0x68, kData0,
                                            0,      kCode3, 0x50,        0x1c, 0x9};
    const uint16_t selector = kTargets[random_.below(std::size(kTargets))];
    switch (random_.below(3)) {
      case 0:
        code_.put({0xea});
        code_.put32(code_.here() + 6);
        return code_.put16(selector);
      case 1: {
        // call far over a return; the callee returns behind the jump.
        code_.put({0x9a});
        code_.put32(code_.here() + 6 + 2);
        code_.put16(selector);
        code_.put({0xeb, 0x01});
        return code_.put({0xcb});
      }
      default:
        code_.push(selector);
        code_.push(code_.here() + 6);
        return code_.put({0xcb});
    }
  }

  void add_descriptor_query() {
    begin("lar, lsl, verr, verw");
    code_.move(0, pick_selector());
    switch (random_.below(5)) {
      case 0:
        code_.put({0x0f, 0x02, 0xd8});                           // lar ebx, eax
        return code_.put({0x81, 0xe3, 0xff, 0xff, 0xf0, 0xff});  // and ebx, 0xfff0ffff
      case 1:
        return code_.put({0x0f, 0x03, 0xd8});
      case 2:
        return code_.put({0x0f, 0x00, 0xe0});
      case 3:
        return code_.put({0x0f, 0x00, 0xe8});
      default:
        return code_.put({0x63, 0xd8});  // arpl ax, bx
    }
  }

  void add_system_register() {
    begin("system register");
    switch (random_.below(6)) {
      case 0:
        code_.put({0x36, 0x0f, 0x01, 0x05});  // sgdt
        return code_.put32(kFirstDataFrame * kPageSize + 0x10);
      case 1:
        code_.move(0, random_.one_in(3) ? pick_selector() : uint32_t{kLdtSelector});
        return code_.put({0x0f, 0x00, 0xd0});  // lldt ax
      case 2:
        code_.move(0, random_.one_in(3) ? 8 + random_.below(0xf8) : uint32_t{kTssSelector});
        return code_.put({0x0f, 0x00, 0xd8});  // ltr ax
      case 3:
        return code_.put({0x0f, 0x00, 0xc3});  // sldt ebx
      case 4:
        return code_.put({0x0f, 0x00, 0xcb});  // str ebx
      default:
        return code_.put({0x0f, 0x20, 0xd3});  // mov ebx, cr2
    }
  }

  /// Through ES, which is made flat first.
  void add_string() {
    begin("string over play pages");
    test_.steps.back().may_cross = true;
    code_.move(0, kData0);
    code_.put({0x8e, 0xc0});
    const uint32_t page = random_.below(kPlayPages - 1);
    code_.move(7, kPlayBase + (page + 1) * kPageSize - 4 * random_.below(8) - random_.below(3));
    code_.move(1, random_.below(12));
    code_.put({0xfc, 0xf3, 0xab});  // cld; rep stosd
  }

  void add_arithmetic() {
    begin("arithmetic");
    static constexpr uint8_t kOps[] = {0x01, 0x11, 0x19, 0x29, 0x31, 0x39, 0x21, 0x09};
    for (uint32_t n = 1 + random_.below(4); n > 0; --n) {
      const uint8_t registers = static_cast<uint8_t>(random_.below(4) << 3 | random_.below(4));
      code_.put({kOps[random_.below(8)], static_cast<uint8_t>(0xc0 | registers)});
    }
    if (random_.one_in(3)) code_.put({0x50, 0x5a});  // push eax; pop edx
  }

  /// IRET to privilege 3, where a few instructions run until one faults or breaks.
  void add_user_tail() {
    begin("to user mode");
    code_.push(kData3);
    code_.push(kUserStackTop);
    code_.push(flags_image() & ~(eflags::kAc | eflags::kIopl));
    code_.push(kCode3);
    code_.push(kUserCode);
    code_.put({0xcf});
    Assembler user(kUserCode);
    for (uint32_t n = random_.below(6); n > 0; --n) add_user_instruction(user);
    user.breakpoint();
    test_.user_code = user.bytes();
  }

  void add_user_instruction(Assembler& user) {
    switch (random_.below(7)) {
      case 0:
      case 1: {
        user.put({0x36, 0x8b, 0x05});
        return user.put32(play_address(4));
      }
      case 2: {
        const uint32_t page = random_.below(kPlayPages);
        user.put({0x36, 0x89, 0x1d});
        return user.put32(kPlayBase + page * kPageSize + random_.below(kPageSize - 4));
      }
      case 3:
        return user.put({0x9c, 0x58});  // pushf; pop eax
      case 4:
        user.push(flags_image() & ~eflags::kAc);
        return user.put({0x9d});
      case 5:
        user.put({0x36, 0x8b, 0x05});
        return user.put32(kCode + random_.below(64));  // a supervisor page
      default: {
        static constexpr uint8_t kPrivileged[] = {0xfa, 0xfb, 0xf4};
        if (random_.one_in(3)) return user.put({kPrivileged[random_.below(3)]});
        return user.put({0x01, 0xc3});
      }
    }
  }

  KernelCase& test_;
  Random& random_;
  Assembler code_;
  std::array<std::array<PlayPage, kPlayPages>, 2> play_{};
  uint32_t space_ = 0;
  bool write_protect_ = false;
};

}  // namespace

KernelCase make_kernel_case(uint64_t seed, uint64_t number) {
  Random random(seed, number ^ uint64_t{2} << 62);
  KernelCase test;
  test.number = number;
  test.pae = random.one_in(2);
  for (uint32_t& gpr : test.gpr) gpr = interesting_integer(random);
  test.gpr[kEsp] = kStackTop;
  SequenceBuilder(test, random).build();
  return test;
}

uint32_t KernelCase::next_step(uint32_t eip) const {
  for (const Step& step : steps) {
    if (step.address > eip) return step.address;
  }
  return end;
}

}  // namespace trapline::differential::kernel
