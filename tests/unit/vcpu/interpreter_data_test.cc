#include "interpreter_fixture.h"

namespace trapline {
namespace {

TEST_F(Interpreter, MovOfSegmentRegisters) {
  eax() = 0xffff0000 | kData3;
  done({0x8e, 0xe0});  // mov fs,eax
  EXPECT_EQ(state.segment[kFs].selector, kData3);
  done({0x8c, 0xe3});  // mov ebx,fs
  EXPECT_EQ(state.gpr[kEbx], kData3);
  state.gpr[kEbx] = 0xffffffff;
  done({0x66, 0x8c, 0xe3});  // mov bx,fs
  EXPECT_EQ(state.gpr[kEbx], 0xffff0000u | kData3);
  memory.poke<uint32_t>(0x20000, 0xffffffff);
  done({0x8c, 0x25, 0, 0, 2, 0});  // mov [0x20000],fs
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0xffff0000u | kData3);
  done({0x8e, 0x2d, 0, 0, 2, 0});  // mov gs,[0x20000]
  EXPECT_EQ(state.segment[kGs].selector, kData3);
  eax() = kCode3;
  faults({0x8e, 0xd0}, kGp, kCode3 & ~3);
}

TEST_F(Interpreter, MovInGeneral) {
  eax() = 0x11223344;
  done({0x88, 0xe3});  // mov bl,ah
  EXPECT_EQ(state.gpr[kEbx], 0x33u);
  done({0xa3, 0, 0, 2, 0});
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0x11223344u);
  done({0xc7, 0x05, 0, 0, 2, 0, 0x78, 0x56, 0x34, 0x12});
  done({0x67, 0x66, 0xa1, 0x00, 0x00});
  done({0x66, 0xb8, 0x01, 0x00});
  EXPECT_EQ(eax(), 0x11220001u);
  done({0xb4, 0x55});
  EXPECT_EQ(eax(), 0x11225501u);
}

TEST_F(Interpreter, SixteenBitAddressesWrap) {
  state.gpr[kEbx] = 0xffff8000;
  memory.poke<uint32_t>(0x0010, 0xcafe);
  done({0x67, 0x8b, 0x87, 0x10, 0x80});  // mov eax,[bx-0x7ff0]
  EXPECT_EQ(eax(), 0xcafeu);
}

TEST_F(Interpreter, PushAndPop) {
  state.gpr[kEsp] = kStack0;
  done({0x54});  // push esp
  EXPECT_EQ(stack32(0), kStack0);
  done({0x6a, 0xff});
  EXPECT_EQ(stack32(0), 0xffffffffu);
  memory.poke<uint32_t>(state.gpr[kEsp] - 4, 0xdeadbeef);
  done({0x0e});  // push cs
  EXPECT_EQ(stack32(0), 0xdead0000u | kCode0);
  done({0x07 + 0x18});  // pop ds
}

TEST_F(Interpreter, PopForms) {
  push32(kData0);
  done({0x17});  // pop ss
  EXPECT_EQ(state.shadow, InterruptShadow::kMovSs);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
  push32(0x12345678);
  done({0x8f, 0x04, 0x24});  // pop [esp]: the address after the pop
  EXPECT_EQ(memory.peek<uint32_t>(kStack0), 0x12345678u);
  push32(0x4444);
  done({0x5c});  // pop esp
  EXPECT_EQ(state.gpr[kEsp], 0x4444u);
  state.gpr[kEsp] = kStack0;
  push32(0x100);
  faults({0x1f}, kGp, 0x100);  // pop ds beyond the GDT
  memory.make_absent(0x30);
  faults({0x8f, 0x05, 0, 0, 3, 0}, 14, page_fault::kWrite);
}

TEST_F(Interpreter, PushaAndPopa) {
  for (uint32_t i = 0; i < 8; ++i)
    if (i != kEsp) state.gpr[i] = 0x11110000 * (i + 1);
  const auto before = state.gpr;
  done({0x60});
  EXPECT_EQ(stack32(7), before[kEax]);
  EXPECT_EQ(stack32(3), kStack0);
  EXPECT_EQ(stack32(0), before[kEdi]);
  for (uint32_t i = 0; i < 8; ++i)
    if (i != kEsp) state.gpr[i] = 0;
  done({0x61});
  EXPECT_EQ(state.gpr, before);
  done({0x66, 0x60});
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 16);
  done({0x66, 0x61});
  EXPECT_EQ(state.gpr, before);
}

TEST_F(Interpreter, PushfAndPopf) {
  state.eflags |= eflags::kCf | eflags::kRf;
  done({0x9c});
  EXPECT_EQ(stack32(0), eflags::kCf | eflags::kFixed1);
  memory.poke<uint32_t>(state.gpr[kEsp], eflags::kZf | eflags::kIf);
  done({0x9d});
  EXPECT_EQ(state.eflags, eflags::kZf | eflags::kIf | eflags::kFixed1);
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
  done({0x66, 0x9c});
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 2);
  done({0x66, 0x9d});
}

TEST_F(Interpreter, LoadFarPointers) {
  memory.poke<uint32_t>(0x20000, 0xdeadbeef);
  memory.poke<uint16_t>(0x20004, kData0);
  state.gpr[kEbx] = 0x20000;
  done({0xc5, 0x03});  // lds eax,[ebx]
  EXPECT_EQ(eax(), 0xdeadbeefu);
  done({0xc4, 0x03});
  done({0x0f, 0xb2, 0x03});
  EXPECT_EQ(state.segment[kSs].selector, kData0);
  done({0x0f, 0xb4, 0x03});
  done({0x0f, 0xb5, 0x03});
  EXPECT_EQ(state.segment[kGs].selector, kData0);
  memory.poke<uint16_t>(0x20004, kData3);
  faults({0x0f, 0xb2, 0x03}, kGp, kData3 & ~3);
  eax() = 0;
  memory.poke<uint16_t>(0x20002, kData0);
  done({0x66, 0x0f, 0xb4, 0x03});
  EXPECT_EQ(eax(), 0xbeefu);
}

TEST_F(Interpreter, EnterAndLeave) {
  state.gpr[kEbp] = 0x7777;
  done({0xc8, 0x20, 0x00, 0x00});
  EXPECT_EQ(state.gpr[kEbp], kStack0 - 4);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 4 - 0x20);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 4), 0x7777u);
  done({0xc9});
  EXPECT_EQ(state.gpr[kEbp], 0x7777u);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
}

TEST_F(Interpreter, EnterCopiesTheDisplay) {
  state.gpr[kEbp] = 0x20010;
  memory.poke<uint32_t>(0x2000c, 0x1111);
  memory.poke<uint32_t>(0x20008, 0x2222);
  done({0xc8, 0x10, 0x00, 0x03});
  EXPECT_EQ(state.gpr[kEbp], kStack0 - 4);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 16 - 0x10);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 4), 0x20010u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 8), 0x1111u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 12), 0x2222u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 16), kStack0 - 4);
}

TEST_F(Interpreter, EnterReadsWhatItHasPushed) {
  state.gpr[kEbp] = kStack0;  // The display overlaps the new frame.
  done({0xc8, 0x00, 0x00, 0x02});
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 8), kStack0);
}

TEST_F(Interpreter, EnterReadsAWordOfWhichItHasPushedAPart) {
  state.gpr[kEbp] = kStack0 + 2;  // The display's word begins two bytes below the pushed one.
  memory.poke<uint32_t>(kStack0, 0x11112222);
  memory.poke<uint32_t>(kStack0 - 4, 0x33334444);
  done({0xc8, 0x00, 0x00, 0x02});
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 4), kStack0 + 2);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 8), (kStack0 + 2) >> 16 | 0x22220000u);
}

TEST_F(Interpreter, EnterProbesItsFrame) {
  memory.make_absent((kStack0 - 0x2000) >> kPageShift);
  faults({0xc8, 0x00, 0x20, 0x00}, 14, page_fault::kWrite);
}

TEST_F(Interpreter, Xlat) {
  state.gpr[kEbx] = 0x20000;
  eax() = 0xaabbcc05;
  memory.poke<uint8_t>(0x20005, 0x99);
  done({0xd7});
  EXPECT_EQ(eax(), 0xaabbcc99u);
  state.segment[kFs].base = 0x100;
  memory.poke<uint8_t>(0x20199, 0x44);
  done({0x64, 0xd7});
  EXPECT_EQ(eax() & 0xff, 0x44u);
}

TEST_F(Interpreter, AlignmentChecks) {
  ring(3);
  memory.put(kCode, {0});
  state.cr0 |= cr0::kAm;
  state.eflags |= eflags::kAc;
  faults({0xa1, 2, 0, 2, 0}, 17);
  done({0x66, 0xa1, 2, 0, 2, 0});
}

}  // namespace
}  // namespace trapline
