#include "vcpu/interpreter_table.h"

#include "interpreter_fixture.h"

namespace trapline {
namespace {

TEST_F(Interpreter, SaysWhatItHandles) {
  EXPECT_TRUE(interpreter_handles(ZYDIS_MNEMONIC_LGDT));
  EXPECT_TRUE(interpreter_handles(ZYDIS_MNEMONIC_FXSAVE));
  EXPECT_FALSE(interpreter_handles(ZYDIS_MNEMONIC_ADD));
  EXPECT_FALSE(interpreter_handles(0xffff));
  const StepResult result = step({0x01, 0xd8});  // add eax,ebx
  EXPECT_EQ(result.step, Step::kNotHandled);
  EXPECT_EQ(result.mnemonic, ZYDIS_MNEMONIC_ADD);
}

// --- Fetching -----------------------------------------------------------------------------------

TEST_F(Interpreter, FetchStopsAtTheInstruction) {
  state.eip = 0x10fff;
  memory.make_absent(0x11);
  done({0xfa});
  faults({0x0f}, 14);
  memory.make_all_present();
  done({0x0f, 0xa2});
  state.segment[kCs].limit = 0x10fff;
  done({0xfa});
  faults({0x0f, 0xa2}, kGp);
}

TEST_F(Interpreter, CodeNeverExpandsDown) {
  real_mode();
  Segment& cs = state.segment[kCs];
  cs.attributes = (cs.attributes & ~segment::kCode) | segment::kExpandDown;
  ASSERT_TRUE(cs.expand_down());
  state.eip = cs.limit = 0x10;
  done({0xfa});
  cs.limit = 0xf;
  faults({0xfa}, kGp);
}

TEST_F(Interpreter, FifteenBytesAtMost) {
  std::vector<uint8_t> code(14, 0x66);
  code.push_back(0xfa);
  done(code);
  code.insert(code.begin(), 0x66);
  faults(code, kGp);
}

TEST_F(Interpreter, UndefinedOpcodes) {
  faults({0x0f, 0x0b}, 6);
  faults({0x0f, 0xb9, 0xc0}, 6);
  faults({0x0f, 0xff, 0xc0}, 6);
  faults({0x8e, 0xc8}, 6);        // mov cs,eax
  faults({0x8c, 0xf0}, 6);        // mov eax,segment 6
  faults({0x0f, 0x22, 0xc8}, 6);  // mov cr1,eax
  faults({0x0f, 0x22, 0xe8}, 6);  // mov cr5,eax
  faults({0xc5, 0xf8, 0x77}, 6);  // lds with a register; elsewhere vzeroupper
}

TEST_F(Interpreter, LockIsIllegal) {
  for (const std::vector<uint8_t>& code :
       std::vector<std::vector<uint8_t>>{{0xf0, 0xfa},
                                         {0xf0, 0x0f, 0x22, 0xc0},
                                         {0xf0, 0x8e, 0xd8},
                                         {0xf0, 0xcf},
                                         {0xf0, 0x0f, 0xa2},
                                         {0xf0, 0x0f, 0x01, 0x10},
                                         {0xf0, 0xee},
                                         {0xf0, 0x60},
                                         {0xf0, 0x0f, 0xae, 0x00}})
    faults(code, 6);
}

TEST_F(Interpreter, ShadowsLastOneInstruction) {
  state.eflags |= eflags::kIf;
  eax() = kData0;
  done({0x8e, 0xd0});  // mov ss,eax
  EXPECT_EQ(state.shadow, InterruptShadow::kMovSs);
  done({0xfa});
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
  done({0xfb});
  EXPECT_EQ(state.shadow, InterruptShadow::kSti);
  done({0xfb});
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
}

TEST_F(Interpreter, RetiringClearsRf) {
  state.eflags |= eflags::kRf;
  faults({0x0f, 0x0b}, 6);
  done({0xfa});
  EXPECT_FALSE(state.eflags & eflags::kRf);
}

// --- Other modes --------------------------------------------------------------------------------

TEST_F(Interpreter, RealModeInstructions) {
  real_mode();
  done({0x0f, 0x20, 0xc0});  // mov eax,cr0
  eax() = 0x1234;
  done({0x8e, 0xd8});
  EXPECT_EQ(state.segment[kDs].base, 0x12340u);
  memory.poke<uint32_t>(0x21 * 4, 0x20001234);
  transfers({0xcd, 0x21});
  EXPECT_EQ(state.eip, 0x1234u);
  EXPECT_EQ(state.segment[kCs].base, 0x20000u);
  transfers({0xcf});
  EXPECT_EQ(state.eip, 2u);
  faults({0x0f, 0x34}, kGp);  // sysenter
  state.gpr[kEsp] = 0x12340000;
  done({0x06});
  EXPECT_EQ(state.gpr[kEsp], 0x1234fffeu);
  done({0x07});
  EXPECT_EQ(state.gpr[kEsp], 0x12340000u);
}

TEST_F(Interpreter, V86Instructions) {
  v86();
  faults({0xfa}, kGp);
  faults({0xcd, 0x21}, kGp);
  faults({0x9c}, kGp);
  faults({0xf4}, kGp);
  faults({0x0f, 0x01, 0x16, 0, 0}, kGp);  // lgdt
  faults({0x0f, 0x00, 0xc0}, 6);          // sldt
  faults({0x63, 0xd8}, 6);                // arpl
  eax() = 0x1234;
  done({0x8e, 0xd8});
  EXPECT_EQ(state.segment[kDs].base, 0x12340u);
  state.eflags |= eflags::kIopl;
  done({0xfa});
  done({0x9c});
  EXPECT_EQ(state.gpr[kEsp], 0x7ffeu);
}

}  // namespace
}  // namespace trapline
