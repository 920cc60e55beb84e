#include "interpreter_fixture.h"

namespace trapline {
namespace {

TEST_F(Interpreter, NearTransfers) {
  transfers({0xeb, 0x10});
  EXPECT_EQ(state.eip, kCode + 0x12);
  state.eip = kCode;
  transfers({0xe8, 0x00, 0x10, 0x00, 0x00});
  EXPECT_EQ(state.eip, kCode + 0x1005);
  EXPECT_EQ(stack32(0), kCode + 5);
  transfers({0xc2, 0x08, 0x00});
  EXPECT_EQ(state.eip, kCode + 5);
  EXPECT_EQ(state.gpr[kEsp], kStack0 + 8);
  state.segment[kCs].limit = 0x10fff;
  state.eip = kCode;
  faults({0xe9, 0x00, 0x10, 0x00, 0x00}, kGp);
}

TEST_F(Interpreter, FarTransfers) {
  transfers({0xea, 0x00, 0x50, 0x00, 0x00, kConforming0, 0x00});
  EXPECT_EQ(state.segment[kCs].selector, kConforming0);
  EXPECT_EQ(state.eip, 0x5000u);
  state.eip = kCode;
  transfers({0x9a, 0x00, 0x50, 0x00, 0x00, kCode0, 0x00});
  EXPECT_EQ(stack32(0), kCode + 7);
  EXPECT_EQ(stack32(1), kConforming0);
  transfers({0xcb});
  EXPECT_EQ(state.eip, kCode + 7);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
  memory.poke<uint32_t>(0x20000, 0x6000);
  memory.poke<uint16_t>(0x20004, kCode0);
  transfers({0xff, 0x2d, 0, 0, 2, 0});  // jmp far [0x20000]
  EXPECT_EQ(state.eip, 0x6000u);
  transfers({0xff, 0x1d, 0, 0, 2, 0});  // call far [0x20000]
  EXPECT_EQ(stack32(0), 0x6006u);
  state.eip = kCode;
  transfers({0x66, 0xea, 0x00, 0x70, kCode0, 0x00});
  EXPECT_EQ(state.eip, 0x7000u);
}

TEST_F(Interpreter, SoftwareInterrupts) {
  for (uint8_t vector : {1, 3, 4, 0x80})
    set_gate(vector, gate(kCode0, 0x20000u + vector, kInterrupt32 | dpl(vector == 1 ? 0 : 3)));
  const auto run = [&](const std::vector<uint8_t>& code, uint32_t vector) {
    ring(3);
    transfers(code);
    EXPECT_EQ(state.eip, 0x20000 + vector);
    EXPECT_EQ(stack32(0), kCode + code.size());
  };
  run({0xcd, 0x80}, 0x80);
  run({0xcc}, 3);
  run({0xf1}, 1);  // INT1 passes a gate of DPL 0.
  ring(3);
  done({0xce});
  state.eflags |= eflags::kOf;
  run({0xce}, 4);
  ring(3);
  faults({0xcd, 0x01}, kGp, 1 * 8 + 2);
}

TEST_F(Interpreter, IretKeepsTheLoadedRf) {
  push32(eflags::kRf | eflags::kCf);
  push32(kCode0);
  push32(0x7000);
  transfers({0xcf});
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.eflags, eflags::kRf | eflags::kCf | eflags::kFixed1);
}

TEST_F(Interpreter, Bound) {
  memory.poke<int32_t>(0x20000, -5);
  memory.poke<int32_t>(0x20004, 10);
  const std::vector<uint8_t> code{0x62, 0x05, 0, 0, 2, 0};
  for (int32_t inside : {-5, 0, 10}) {
    eax() = static_cast<uint32_t>(inside);
    done(code);
  }
  for (int32_t outside : {-6, 11}) {
    eax() = static_cast<uint32_t>(outside);
    faults(code, 5);
  }
  memory.poke<int16_t>(0x20002, -2);
  eax() = 0xfffd;
  done({0x66, 0x62, 0x05, 0, 0, 2, 0});
}

TEST_F(Interpreter, Sysenter) {
  state.msr.sysenter_cs = kCode0;
  state.msr.sysenter_eip = 0x6000;
  ring(3);
  transfers({0x0f, 0x34});
  EXPECT_EQ(state.cpl, 0);
  EXPECT_EQ(state.eip, 0x6000u);
  state.gpr[kEdx] = 0x7000;
  transfers({0x0f, 0x35});
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.eip, 0x7000u);
}

TEST_F(InterpreterPentium, LacksWhatCameLater) {
  faults({0x0f, 0x34}, 6);
  faults({0x0f, 0x35}, 6);
  faults({0x0f, 0x33}, 6);        // rdpmc
  faults({0x0f, 0xae, 0x00}, 6);  // fxsave
  done({0x0f, 0x31});
}

TEST_F(Interpreter486, LacksWhatCameLater) {
  faults({0x0f, 0x31}, 6);
  faults({0x0f, 0x32}, 6);
  faults({0x0f, 0x30}, 6);
  faults({0x0f, 0x20, 0xe0}, 6);  // mov eax,cr4
  faults({0x0f, 0x22, 0xe0}, 6);
  done({0x0f, 0xa2});
}

}  // namespace
}  // namespace trapline
