#include "interpreter_fixture.h"
#include "vcpu/decimal.h"

namespace trapline {
namespace {

TEST_F(Interpreter, Ports) {
  ports.value = 0x12345678;
  state.gpr[kEdx] = 0x3f8;
  done({0xe4, 0x60});
  EXPECT_EQ(ports.last, "in 96/1");
  EXPECT_EQ(eax() & 0xff, 0x78u);
  done({0xed});
  EXPECT_EQ(eax(), 0x12345678u);
  done({0x66, 0xef});
  EXPECT_EQ(ports.last, "out 1016/2");
  EXPECT_EQ(ports.value, 0x5678u);
  ring(3);
  memory.poke<uint8_t>(kTss + 0x68 + 0x60 / 8, 1);
  faults({0xe4, 0x60}, kGp);
}

TEST_F(Interpreter, RepInsDoesOneIteration) {
  ports.value = 0x11223344;
  state.gpr[kEcx] = 2;
  state.gpr[kEdi] = 0x20000;
  state.gpr[kEdx] = 0x1f0;
  straight_ = false;
  done({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.gpr[kEcx], 1u);
  EXPECT_EQ(state.gpr[kEdi], 0x20002u);
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0x3344u);
  transfers({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.eip, kCode + 3);
  EXPECT_EQ(state.gpr[kEcx], 0u);
  state.eip = kCode;
  ports.last = "";
  transfers({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.eip, kCode + 3);
  EXPECT_EQ(ports.last, "");
}

TEST_F(Interpreter, InsNeverReadsThePortForNothing) {
  state.gpr[kEdi] = 0x20000;
  memory.make_absent(0x20);
  faults({0x6c}, 14, page_fault::kWrite);
  EXPECT_EQ(ports.last, "");
}

TEST_F(Interpreter, Outs) {
  memory.poke<uint32_t>(0x20000, 0x11223344);
  state.gpr[kEsi] = 0x20000;
  state.gpr[kEdx] = 0x1f0;
  state.eflags |= eflags::kDf;
  done({0x6f});
  EXPECT_EQ(ports.all, std::vector<uint32_t>{0x11223344});
  EXPECT_EQ(state.gpr[kEsi], 0x1fffcu);
  state.gpr[kEsi] = 0x20000;
  done({0x67, 0x6e});  // SI only.
  EXPECT_EQ(state.gpr[kEsi], 0x2ffffu);
}

// --- Decimal arithmetic -------------------------------------------------------------------------

TEST_F(Interpreter, DecimalAdjustments) {
  constexpr uint32_t kCf = eflags::kCf, kAf = eflags::kAf, kZf = eflags::kZf, kSf = eflags::kSf,
                     kPf = eflags::kPf;
  struct Row {
    std::vector<uint8_t> code;
    uint32_t ax, flags, result, result_flags;
  };
  const Row rows[] = {
      {{0x27}, 0x00ae, 0, 0x0014, kCf | kAf | kPf},            // daa: 79 + 35
      {{0x27}, 0x002e, 0, 0x0034, kAf},                        // daa
      {{0x27}, 0x0012, kCf, 0x0072, kCf | kPf},                // daa
      {{0x27}, 0x009a, 0, 0x0000, kCf | kAf | kZf | kPf},      // daa
      {{0x27}, 0x0010, kAf, 0x0016, kAf},                      // daa
      {{0x2f}, 0x00ee, kAf, 0x0088, kCf | kAf | kSf | kPf},    // das: 35 - 47 with a borrow
      {{0x2f}, 0x002e, 0, 0x0028, kAf | kPf},                  // das
      {{0x2f}, 0x0003, kAf, 0x00fd, kCf | kAf | kSf},          // das: the low borrow carries
      {{0x37}, 0x000b, 0, 0x0101, kCf | kAf},                  // aaa
      {{0x37}, 0x0005, 0, 0x0005, kPf},                        // aaa
      {{0x37}, 0x00fb, 0, 0x0201, kCf | kAf},                  // aaa: AL carries into AH
      {{0x3f}, 0x020b, 0, 0x0105, kCf | kAf | kPf},            // aas
      {{0x3f}, 0x0200, kAf, 0x000a, kCf | kAf | kPf},          // aas: AL borrows from AH
      {{0xd4, 10}, 0x003f, kCf, 0x0603, kPf},                  // aam
      {{0xd4, 16}, 0x003f, 0, 0x030f, kPf},                    // aam 16
      {{0xd5, 10}, 0x0603, 0, 0x003f, kPf},                    // aad
      {{0xd5, 10}, 0x0000, 0, 0x0000, kZf | kPf},              // aad
      {{0xd5, 10}, 0x01f6, 0, 0x0000, kCf | kAf | kZf | kPf},  // aad: the addition carries
      {{0xd6}, 0x1200, kCf, 0x12ff, kCf},                      // salc
      {{0xd6}, 0x12ff, 0, 0x1200, 0},                          // salc
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << std::hex << int{row.code[0]} << " of " << row.ax);
    eax() = 0xabcd0000 | row.ax;
    state.eflags = eflags::kFixed1 | row.flags;
    done(row.code);
    EXPECT_EQ(eax(), 0xabcd0000 | row.result);
    const bool ascii = row.code[0] == 0x37 || row.code[0] == 0x3f;
    const bool packed = row.code[0] == 0x27 || row.code[0] == 0x2f;
    const uint32_t defined = ascii ? kCf | kAf : packed ? ~eflags::kOf : ~0u;
    EXPECT_EQ(flags() & defined, row.result_flags & defined);
  }
  faults({0xd4, 0}, 0);
}

TEST(Decimal, UndefinedFlagsAreThoseOfTheHostsProcessor) {
  constexpr uint32_t kCf = eflags::kCf, kAf = eflags::kAf, kZf = eflags::kZf, kSf = eflags::kSf,
                     kPf = eflags::kPf, kOf = eflags::kOf;
  struct Row {
    decltype(&adjust_packed) adjust;
    bool subtract;
    uint32_t ax, flags, result, of_result, of_addition;
  };
  constexpr uint32_t kBoth = kCf | kAf;
  const Row rows[] = {
      {adjust_packed, false, 0x007a, 0, 0x0080, kAf | kSf, kAf | kSf | kOf},
      {adjust_packed, false, 0x0020, kCf, 0x0080, kCf | kSf, kCf | kSf | kOf},
      {adjust_packed, true, 0x0080, kAf, 0x007a, kAf, kAf | kOf},
      {adjust_packed, true, 0x0099, kCf, 0x0039, kCf | kPf, kCf | kPf | kOf},
      {adjust_unpacked, false, 0x0010, 0, 0x0000, kZf | kPf, 0},
      {adjust_unpacked, false, 0xfefa, 0, 0x0000, kBoth | kZf | kPf, kBoth | kZf | kPf},
      {adjust_unpacked, false, 0x7f0a, 0, 0x8000, kBoth | kZf | kPf, kBoth | kSf | kOf},
      {adjust_unpacked, true, 0x8000, kAf, 0x7e0a, kBoth | kPf, kBoth | kPf | kOf},
      {adjust_unpacked, true, 0x0106, kAf, 0x0000, kBoth | kZf | kPf, kBoth | kZf | kPf},
      {adjust_unpacked, true, 0xff30, 0, 0xff00, kZf | kPf, kSf | kPf},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << std::hex << row.ax << " with " << row.flags);
    for (const DecimalFlags way : {DecimalFlags::kOfResult, DecimalFlags::kOfAddition}) {
      const Adjusted made = row.adjust(row.ax, row.flags, row.subtract, way);
      EXPECT_EQ(made.ax, row.result);
      EXPECT_EQ(made.flags, way == DecimalFlags::kOfResult ? row.of_result : row.of_addition);
    }
  }
}

}  // namespace
}  // namespace trapline
