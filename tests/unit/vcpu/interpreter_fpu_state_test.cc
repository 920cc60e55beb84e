#include "interpreter_fixture.h"

namespace trapline {
namespace {

class FpuState : public Interpreter {
 protected:
  // Three registers in use from TOP = 5 on: 1.0, 0.0 and infinity.
  void load_fpu() {
    FpuImage& fpu = state.fpu;
    fpu = FpuImage{};
    fpu.control = 0x027f;
    fpu.status = 5 << 11;
    fpu.abridged_tag = 0xe0;
    set_st(0, 0x3fff, uint64_t{1} << 63);
    set_st(1, 0, 0);
    set_st(2, 0x7fff, uint64_t{1} << 63);
    fpu.ip = 0x12345678;
    fpu.cs = kCode0;
    fpu.dp = 0x9abcdef0;
    fpu.ds = kData0;
    fpu.opcode = 0x5dd;
  }
  void set_st(int i, uint16_t exponent, uint64_t mantissa) {
    std::memcpy(state.fpu.st[i].data(), &mantissa, 8);
    std::memcpy(state.fpu.st[i].data() + 8, &exponent, 2);
  }
  template <typename T>
  T at(uint32_t offset) const {
    return memory.peek<T>(0x20000 + offset);
  }
};

TEST_F(FpuState, Fnstenv32) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint32_t>(0), 0xffff027fu);
  EXPECT_EQ(at<uint32_t>(4), 0xffff2800u);
  EXPECT_EQ(at<uint32_t>(8), 0xffff93ffu);
  EXPECT_EQ(at<uint32_t>(12), 0x12345678u);
  EXPECT_EQ(at<uint32_t>(16), 0x05dd0000u | kCode0);
  EXPECT_EQ(at<uint32_t>(20), 0x9abcdef0u);
  EXPECT_EQ(at<uint32_t>(24), 0xffff0000u | kData0);
  EXPECT_EQ(state.fpu.control, 0x027f);
}

TEST_F(FpuState, FnstenvMasksExceptions) {
  load_fpu();
  state.fpu.control = 0x0340;
  state.fpu.status = 0x8081;
  done({0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(4), 0x8081);
  EXPECT_EQ(state.fpu.control, 0x037f);
  EXPECT_EQ(state.fpu.status, 0x0001);
}

TEST_F(FpuState, Fnstenv16) {
  load_fpu();
  done({0x66, 0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(0), 0x027f);
  EXPECT_EQ(at<uint16_t>(4), 0x93ff);
  EXPECT_EQ(at<uint16_t>(6), 0x5678);
  EXPECT_EQ(at<uint16_t>(8), kCode0);
  EXPECT_EQ(at<uint16_t>(10), 0xdef0);
  EXPECT_EQ(at<uint16_t>(12), kData0);
}

TEST_F(FpuState, RealModeLayouts) {
  real_mode();
  load_fpu();
  state.segment[kDs].base = 0x20000;
  state.fpu.cs = 0x1234;
  state.fpu.ip = 0x5;
  state.fpu.ds = 0xf000;
  state.fpu.dp = 0x10;
  done({0xd9, 0x36, 0, 0});
  EXPECT_EQ(at<uint16_t>(6), 0x2345);
  EXPECT_EQ(at<uint16_t>(8), 0x15dd);
  EXPECT_EQ(at<uint16_t>(10), 0x0010);
  EXPECT_EQ(at<uint16_t>(12), 0xf000);
  done({0x66, 0xd9, 0x36, 0, 0});
  EXPECT_EQ(at<uint32_t>(12), 0x2345u);
  EXPECT_EQ(at<uint32_t>(16), 0x15ddu);
  EXPECT_EQ(at<uint32_t>(24), 0xf000u);
  done({0x66, 0xd9, 0x26, 0, 0});
  EXPECT_EQ(state.fpu.ip, 0x12345u);
  EXPECT_EQ(state.fpu.dp, 0xf0010u);
  EXPECT_EQ(state.fpu.opcode, 0x5dd);
}

TEST_F(FpuState, FldenvMovesTopOverTheRegisters) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  memory.poke<uint16_t>(0x20004, 6 << 11);
  const auto before = state.fpu.st;
  done({0xd9, 0x25, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.abridged_tag, 0xe0);
  EXPECT_EQ(state.fpu.st[0], before[1]);
  EXPECT_EQ(state.fpu.st[7], before[0]);
  EXPECT_EQ(state.fpu.ip, 0x12345678u);
  EXPECT_EQ(state.fpu.opcode, 0x5dd);
}

TEST_F(FpuState, FnsaveAndFrstor) {
  for (const bool wide : {true, false}) {
    load_fpu();
    const FpuImage before = state.fpu;
    const uint32_t registers = wide ? 28 : 14;
    std::vector<uint8_t> save{0xdd, 0x35, 0, 0, 2, 0}, restore{0xdd, 0x25, 0, 0, 2, 0};
    if (!wide) {
      save.insert(save.begin(), 0x66);
      restore.insert(restore.begin(), 0x66);
    }
    done(save);
    EXPECT_EQ(at<uint64_t>(registers), uint64_t{1} << 63);
    EXPECT_EQ(at<uint16_t>(registers + 8), 0x3fff);
    EXPECT_EQ(at<uint16_t>(registers + 28), 0x7fff);
    EXPECT_EQ(state.fpu.control, 0x037f);
    EXPECT_EQ(state.fpu.status, 0);
    EXPECT_EQ(state.fpu.abridged_tag, 0);
    done(restore);
    EXPECT_EQ(state.fpu.st, before.st);
    EXPECT_EQ(state.fpu.control, before.control);
    EXPECT_EQ(state.fpu.status, before.status);
    EXPECT_EQ(state.fpu.abridged_tag, before.abridged_tag);
  }
}

TEST_F(FpuState, LoadingRaisesThePendingSummary) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  memory.poke<uint16_t>(0x20000, 0x0340);
  memory.poke<uint16_t>(0x20004, 0x0001);
  done({0xd9, 0x25, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.status, 0x8081);
  faults({0xd9, 0x25, 0, 0, 2, 0}, 16);
  done({0xd9, 0x35, 0, 0, 2, 0});  // FNSTENV does not wait.
  state.fpu.status = 0x8081;
  state.cr0 &= ~cr0::kNe;
  faults({0xd9, 0x25, 0, 0, 2, 0}, 16);  // Whether that is IRQ 13 is the engine's business.
}

TEST_F(FpuState, FxsaveAndFxrstor) {
  load_fpu();
  state.fpu.xmm[7][15] = 0x77;
  state.fpu.mxcsr = 0x1fa0;
  memory.poke<uint8_t>(0x20000 + 288, 0x55);
  const FpuImage before = state.fpu;
  done({0x0f, 0xae, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(0), 0x027f);
  EXPECT_EQ(at<uint8_t>(4), 0xe0);
  EXPECT_EQ(at<uint32_t>(8), 0x12345678u);
  EXPECT_EQ(at<uint32_t>(24), 0x1fa0u);
  EXPECT_EQ(at<uint32_t>(28), 0xffffu);
  EXPECT_EQ(at<uint8_t>(287), 0x77);
  EXPECT_EQ(at<uint8_t>(288), 0x55);
  state.fpu = FpuImage{};
  done({0x0f, 0xae, 0x0d, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.st, before.st);
  EXPECT_EQ(state.fpu.xmm, before.xmm);
  EXPECT_EQ(state.fpu.mxcsr, before.mxcsr);
  memory.poke<uint32_t>(0x20000 + 24, 0x10000);
  faults({0x0f, 0xae, 0x0d, 0, 0, 2, 0}, kGp);
  faults({0x0f, 0xae, 0x05, 8, 0, 2, 0}, kGp);
  memory.make_absent(0x21);
  faults({0x0f, 0xae, 0x05, 0x80, 0x0f, 2, 0}, 14, page_fault::kWrite);
}

TEST_F(FpuState, Availability) {
  const std::vector<uint8_t> env{0xd9, 0x35, 0, 0, 2, 0}, fx{0x0f, 0xae, 0x05, 0, 0, 2, 0};
  state.cr0 |= cr0::kTs;
  faults(env, 7);
  faults(fx, 7);
  state.cr0 = (state.cr0 & ~cr0::kTs) | cr0::kEm;
  faults(env, 7);
  faults(fx, 6);
}

}  // namespace
}  // namespace trapline
