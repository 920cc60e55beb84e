#include "world.h"

namespace trapline {
namespace {

constexpr auto k32 = OperandSize::k32;
constexpr auto k16 = OperandSize::k16;
constexpr auto kGp = Vector::kGeneralProtection;
constexpr auto kNp = Vector::kSegmentNotPresent;
constexpr auto kSsFault = Vector::kStackFault;
constexpr auto kTs = Vector::kInvalidTss;

class Transfers : public World {
 protected:
  OrFault<void> jump(uint16_t selector, uint32_t offset = 0x5000, OperandSize size = k32) {
    return far_jump(cpu, selector, offset, size, state.eip + 7);
  }
  OrFault<void> call(uint16_t selector, uint32_t offset = 0x5000, OperandSize size = k32) {
    return far_call(cpu, selector, offset, size, state.eip + 7);
  }
};

TEST_F(Transfers, JumpToTheSameRing) {
  ASSERT_DONE(jump(kCode0, 0x12345678));
  EXPECT_EQ(state.eip, 0x12345678u);
  ASSERT_DONE(jump(kCode0, 0x12345678, k16));
  EXPECT_EQ(state.eip, 0x5678u);
  ring(3);
  ASSERT_DONE(jump(kCode3 & ~3));
  EXPECT_EQ(state.segment[kCs].selector, kCode3);
  EXPECT_EQ(state.cpl, 3);
}

TEST_F(Transfers, JumpChecks) {
  EXPECT_FAULT(jump(0), kGp, 0);
  EXPECT_FAULT(jump(0x100), kGp, 0x100);
  EXPECT_FAULT(jump(kCode3), kGp, kCode3 & ~3);
  EXPECT_FAULT(jump(kCode0 | 3), kGp, kCode0);
  EXPECT_FAULT(jump(kData0), kGp, kData0);
  set(kFree, descriptor(0, 0xfff, kAccessCode, 0x4));
  EXPECT_FAULT(jump(kFree, 0x1000), kGp, 0);
  set(kFree, descriptor(0, 0xfff, kAccessCode & 0x7f, 0x4));
  EXPECT_FAULT(jump(kFree, 0x1000), kNp, kFree);
  EXPECT_FAULT(jump(kLdtSelector), kGp, kLdtSelector);
  EXPECT_FAULT(jump(kTssSelector), kGp, kTssSelector);  // Busy.
  set(kFree, gate(kCode0, 0, kInterrupt32));
  EXPECT_FAULT(jump(kFree), kGp, kFree);
}

TEST_F(Transfers, ConformingCodeKeepsTheRing) {
  ring(3);
  ASSERT_DONE(jump(kConforming0 | 3));
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.segment[kCs].selector, kConforming0 | 3);
  set(kFree, descriptor(0, 0xfffff, kAccessConforming | dpl(3)));
  ring(0);
  EXPECT_FAULT(jump(kFree), kGp, kFree);
}

TEST_F(Transfers, JumpThroughACallGate) {
  set(kFree, gate(kCode0 | 3, 0x12345678, kCall32));
  ASSERT_DONE(jump(kFree, 0xffffffff));
  EXPECT_EQ(state.eip, 0x12345678u);
  EXPECT_EQ(state.segment[kCs].selector, kCode0);
  set(kFree, gate(kCode0, 0x12345678, kCall16));
  ASSERT_DONE(jump(kFree));
  EXPECT_EQ(state.eip, 0x5678u);
  ring(3);
  EXPECT_FAULT(jump(kFree), kGp, kFree);  // The gate's DPL.
  set(kFree, gate(kCode0, 0, kCall32 | dpl(3)));
  EXPECT_FAULT(jump(kFree), kGp, kCode0);  // JMP never goes inward.
  set(kFree, gate(kCode3, 0, (kCall32 & 0x7f) | dpl(3)));
  EXPECT_FAULT(jump(kFree), kNp, kFree);
  set(kFree, gate(0, 0, kCall32 | dpl(3)));
  EXPECT_FAULT(jump(kFree), kGp, 0);
  set(kFree, gate(kData3, 0, kCall32 | dpl(3)));
  EXPECT_FAULT(jump(kFree), kGp, kData3 & ~3);
  set(kFree, gate(0x100, 0, kCall32 | dpl(3)));
  EXPECT_FAULT(jump(kFree), kGp, 0x100);
}

TEST_F(Transfers, CallWithinARingPushesCsAndEip) {
  ASSERT_DONE(call(kCode0, 0x5000));
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 8);
  EXPECT_EQ(stack32(0), kCode + 7);
  EXPECT_EQ(stack32(1), kCode0);
  state.gpr[kEsp] = kStack0;
  ASSERT_DONE(call(kCode0, 0x5000, k16));
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 4);
  EXPECT_EQ(stack16(0), 0x5007);
  EXPECT_EQ(stack16(1), kCode0);
}

TEST_F(Transfers, CallChecksTheStackBeforeTheTarget) {
  state.segment[kSs].limit = 0xfff;
  state.segment[kSs].derive();
  set(kFree, descriptor(0, 0xfff, kAccessCode, 0x4));
  EXPECT_FAULT(call(kFree, 0x1000), kSsFault, 0);
  state.segment[kSs].limit = ~0u;
  EXPECT_FAULT(call(kFree, 0x1000), kGp, 0);
  memory.make_absent((kStack0 - 8) >> kPageShift);
  EXPECT_FAULT(call(kCode0), Vector::kPageFault, page_fault::kWrite);
}

TEST_F(Transfers, AFrameAcrossPagesIsWrittenWholeOrNotAtAll) {
  state.gpr[kEsp] = 0x8004;
  memory.make_absent(7);
  EXPECT_FAULT(call(kCode0), Vector::kPageFault, page_fault::kWrite);
  memory.make_all_present();
  ASSERT_DONE(call(kCode0));
  EXPECT_EQ(stack32(0), kCode + 7);
  EXPECT_EQ(stack32(1), kCode0);
}

TEST_F(Transfers, SixteenBitStacksWrap) {
  state.segment[kSs] = Segment::real(0x900, false);
  state.gpr[kEsp] = 0xabcd0002;
  ASSERT_DONE(call(kCode0, 0x5000, k16));
  EXPECT_EQ(state.gpr[kEsp], 0xabcdfffeu);
  EXPECT_EQ(memory.peek<uint16_t>(0x9000), kCode0);
  EXPECT_EQ(memory.peek<uint16_t>(0x18ffe), 0x0007);
}

TEST_F(Transfers, CallGateToAnInnerRingCopiesParameters) {
  ring(3);
  push32(0x1111);
  push32(0x2222);
  set(kFree, gate(kCode0, 0x6000, kCall32 | dpl(3), 2));
  const uint32_t outer = state.gpr[kEsp];
  ASSERT_DONE(call(kFree | 3));
  EXPECT_EQ(state.cpl, 0);
  EXPECT_EQ(state.eip, 0x6000u);
  EXPECT_EQ(state.segment[kCs].selector, kCode0);
  EXPECT_EQ(state.segment[kSs].selector, kData0);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 24);
  EXPECT_EQ(stack32(0), kCode + 7);
  EXPECT_EQ(stack32(1), kCode3);
  EXPECT_EQ(stack32(2), 0x2222u);
  EXPECT_EQ(stack32(3), 0x1111u);
  EXPECT_EQ(stack32(4), outer);
  EXPECT_EQ(stack32(5), kData3);
}

TEST_F(Transfers, SixteenBitCallGate) {
  ring(3);
  push16(0x1111);
  set(kFree, gate(kCode1, 0xdead6000, kCall16 | dpl(3), 1));
  ASSERT_DONE(call(kFree | 3));
  EXPECT_EQ(state.cpl, 1);
  EXPECT_EQ(state.eip, 0x6000u);
  EXPECT_EQ(state.gpr[kEsp], kStack1 - 10);
  EXPECT_EQ(stack16(0), 0x0007);
  EXPECT_EQ(stack16(1), kCode3);
  EXPECT_EQ(stack16(2), 0x1111);
  EXPECT_EQ(stack16(3), kStack3 - 2);
  EXPECT_EQ(stack16(4), kData3);
}

TEST_F(Transfers, CallGateStackFaults) {
  ring(3);
  set(kFree, gate(kCode0, 0x6000, kCall32 | dpl(3)));
  memory.poke<uint16_t>(kTss + 8, 0);
  EXPECT_FAULT(call(kFree), kTs, 0);
  memory.poke<uint16_t>(kTss + 8, 0x100);
  EXPECT_FAULT(call(kFree), kTs, 0x100);
  memory.poke<uint16_t>(kTss + 8, kData0 | 1);
  EXPECT_FAULT(call(kFree), kTs, kData0);
  memory.poke<uint16_t>(kTss + 8, kCode0);
  EXPECT_FAULT(call(kFree), kTs, kCode0);
  memory.poke<uint16_t>(kTss + 8, kFree + 8);
  set(kFree + 8, descriptor(0, 0xfffff, kAccessData & 0x7f));
  EXPECT_FAULT(call(kFree), kSsFault, kFree + 8);
  set(kFree + 8, descriptor(0, 0xfff, kAccessData, 0x4));
  EXPECT_FAULT(call(kFree), kSsFault, kFree + 8);
  memory.poke<uint16_t>(kTss + 8, kData0);
  state.tr.limit = 8;
  EXPECT_FAULT(call(kFree), kTs, kTssSelector);
}

TEST_F(Transfers, CallGateOf16BitTss) {
  state.tr.attributes = segment::kPresent | 3;
  memory.poke<uint16_t>(kTss + 2, 0x8800);
  memory.poke<uint16_t>(kTss + 4, kData0);
  ring(3);
  set(kFree, gate(kCode0, 0x6000, kCall32 | dpl(3)));
  ASSERT_DONE(call(kFree));
  EXPECT_EQ(state.gpr[kEsp], 0x8800u - 16);
}

TEST_F(Transfers, CallGateToTheSameRingAndConforming) {
  ring(3);
  set(kFree, gate(kConforming0, 0x6000, kCall32 | dpl(3)));
  ASSERT_DONE(call(kFree));
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.segment[kCs].selector, kConforming0 | 3);
  EXPECT_EQ(state.gpr[kEsp], kStack3 - 8);
  set(kFree, gate(kCode3, 0x6000, kCall32 | dpl(3)));
  ring(0);
  EXPECT_FAULT(call(kFree), kGp, kCode3 & ~3);
}

TEST_F(Transfers, FarReturnWithinARing) {
  push32(0xaaaa);
  push32(kCode0);
  push32(0x7000);
  ASSERT_DONE(far_return(cpu, k32, 4));
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
}

TEST_F(Transfers, FarReturnToAnOuterRingNullsSegments) {
  push32(kData3);
  push32(0xb000);
  push32(0xaaaa);
  push32(kCode3);
  push32(0x7000);
  state.segment[kEs] = Segment::flat(kData3, false, 3);
  state.segment[kFs] = Segment::flat(kConforming0, true, 0);
  state.segment[kFs].attributes |= segment::kConforming;
  ASSERT_DONE(far_return(cpu, k32, 4));
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.gpr[kEsp], 0xb004u);
  EXPECT_EQ(state.segment[kSs].selector, kData3);
  EXPECT_EQ(state.segment[kEs].selector, kData3);
  EXPECT_EQ(state.segment[kFs].selector, kConforming0);
  EXPECT_TRUE(state.segment[kDs].unusable());
  EXPECT_EQ(state.segment[kDs].selector, 0);
  EXPECT_TRUE(state.segment[kGs].unusable());
}

TEST_F(Transfers, FarReturnChecks) {
  const auto with = [&](uint32_t cs, uint32_t ss, uint32_t eip = 0x7000) {
    state.gpr[kEsp] = kStack0 + 0x1000u * state.cpl;
    push32(ss);
    push32(0xb000);
    push32(cs);
    push32(eip);
  };
  with(0, 0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, 0);
  with(0x100, 0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, 0x100);
  with(kData0, 0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, kData0);
  with(kCode0 | 3, kData3);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, kCode0);
  with(kCode3, 0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, 0);
  with(kCode3, kData0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, kData0);
  with(kCode3, kCode3);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, kCode3 & ~3);
  set(kFree, descriptor(0, 0xfffff, (kAccessData & 0x7f) | dpl(3)));
  with(kCode3, kFree | 3);
  EXPECT_FAULT(far_return(cpu, k32, 0), kSsFault, kFree);
  set(kFree, descriptor(0, 0xfff, kAccessCode | dpl(3), 0x4));
  with(kFree | 3, kData3, 0x1000);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, 0);
  ring(3);
  with(kCode0, kData0);
  EXPECT_FAULT(far_return(cpu, k32, 0), kGp, kCode0);
}

TEST_F(Transfers, ReturnToA16BitStackKeepsTheUpperHalf) {
  set(kFree, descriptor(0, 0xffff, kAccessData | dpl(3), 0));
  state.gpr[kEsp] = 0x18800;
  push32(kFree | 3);
  push32(0x12345678);
  push32(0x202);
  push32(kCode3);
  push32(0x7000);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.gpr[kEsp], 0x15678u);
}

TEST_F(Transfers, IretWithinARingRestoresFlags) {
  push32(0x3000 | eflags::kIf | eflags::kTf | eflags::kCf | eflags::kAc | eflags::kRf | 0x8028);
  push32(kCode0);
  push32(0x7000);
  state.nmi_blocked = true;
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
  EXPECT_EQ(state.eflags, 0x3000 | eflags::kIf | eflags::kTf | eflags::kCf | eflags::kAc |
                              eflags::kRf | eflags::kFixed1);
  EXPECT_FALSE(state.nmi_blocked);
}

TEST_F(Transfers, IretUnblocksNmisEvenWhenItFaults) {
  push32(eflags::kIf);
  push32(0);
  push32(0x7000);
  state.nmi_blocked = true;
  EXPECT_FALSE(iret(cpu, k32, 0).ok());
  EXPECT_FALSE(state.nmi_blocked);
}

TEST_F(Transfers, IretObeysIoplAndCpl) {
  ring(3);
  push32(0x3000 | eflags::kIf | eflags::kZf | eflags::kVm | eflags::kVif);
  push32(kCode3);
  push32(0x7000);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.eflags, eflags::kZf | eflags::kFixed1);
  state.eflags |= 0x3000;
  push32(eflags::kIf);
  push32(kCode3);
  push32(0x7000);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.eflags, 0x3000 | eflags::kIf | eflags::kFixed1);
}

TEST_F(Transfers, Iret16LeavesTheUpperFlags) {
  state.eflags |= eflags::kAc | eflags::kId;
  push16(eflags::kCf);
  push16(kCode0);
  push16(0x7000);
  ASSERT_DONE(iret(cpu, k16, 0));
  EXPECT_EQ(state.eflags, eflags::kAc | eflags::kId | eflags::kCf | eflags::kFixed1);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
}

TEST_F(Transfers, IretToAnOuterRing) {
  push32(kData3);
  push32(0xb000);
  push32(0x202);
  push32(kCode3);
  push32(0x7000);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.gpr[kEsp], 0xb000u);
  EXPECT_EQ(state.eflags, 0x202u);
  EXPECT_TRUE(state.segment[kDs].unusable());
}

TEST_F(Transfers, IretFaultsLeaveAllAsItWas) {
  push32(0x202);
  push32(kCode0);
  push32(0x7000);
  state.segment[kSs].limit = state.gpr[kEsp] + 10;
  EXPECT_FAULT(iret(cpu, k32, 0), kSsFault, 0);
  state.segment[kSs].limit = ~0u;
  memory.make_absent(state.gpr[kEsp] >> kPageShift);
  EXPECT_FAULT(iret(cpu, k32, 0), Vector::kPageFault, 0);
}

TEST_F(Transfers, IretToV86) {
  for (uint32_t selector : {6u, 5u, 4u, 3u, 2u}) push32(selector * 0x100);  // GS FS DS ES SS
  push32(0x1234);
  push32(eflags::kVm | eflags::kIf | 0x3000);
  push32(0x700);
  push32(0x55);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_TRUE(state.v86());
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.eip, 0x55u);
  EXPECT_EQ(state.gpr[kEsp], 0x1234u);
  EXPECT_EQ(state.segment[kCs].base, 0x7000u);
  EXPECT_EQ(state.segment[kSs].base, 0x2000u);
  EXPECT_EQ(state.segment[kEs].base, 0x3000u);
  EXPECT_EQ(state.segment[kDs].base, 0x4000u);
  EXPECT_EQ(state.segment[kFs].base, 0x5000u);
  EXPECT_EQ(state.segment[kGs].base, 0x6000u);
  EXPECT_EQ(state.segment[kGs].limit, 0xffffu);
  EXPECT_EQ(state.iopl(), 3);
}

TEST_F(Transfers, V86IretNeedsIopl3) {
  v86();
  EXPECT_FAULT(iret(cpu, k16, 0), kGp, 0);
  state.eflags |= 0x3000;
  push16(eflags::kIf | eflags::kCf);
  push16(0x1234);
  push16(0x10);
  ASSERT_DONE(iret(cpu, k16, 0));
  EXPECT_EQ(state.eip, 0x10u);
  EXPECT_EQ(state.segment[kCs].base, 0x12340u);
  EXPECT_EQ(state.eflags, eflags::kVm | 0x3000 | eflags::kIf | eflags::kCf | eflags::kFixed1);
}

TEST_F(Transfers, RealModeForms) {
  real_mode();
  ASSERT_DONE(call(0x1234, 0x10, k16));
  EXPECT_EQ(state.segment[kCs].base, 0x12340u);
  EXPECT_EQ(state.eip, 0x10u);
  EXPECT_EQ(stack16(0), 7);
  EXPECT_EQ(stack16(1), 0x1000);
  ASSERT_DONE(far_return(cpu, k16, 2));
  EXPECT_EQ(state.eip, 7u);
  EXPECT_EQ(state.gpr[kEsp], 0x8002u);
  push16(0x7fd7);
  push16(0x2000);
  push16(0x44);
  ASSERT_DONE(iret(cpu, k16, 0));
  EXPECT_EQ(state.eflags, 0x7fd7u);
  EXPECT_EQ(state.segment[kCs].base, 0x20000u);
  EXPECT_FAULT(jump(0x1000, 0x10000, k32), kGp, 0);
  ASSERT_DONE(jump(0xf000, 0xfff0, k16));
  EXPECT_EQ(state.segment[kCs].base, 0xf0000u);
}

TEST_F(Transfers, SysenterAndSysexit) {
  ring(3);
  EXPECT_FAULT(sysenter(cpu), kGp, 0);
  state.msr.sysenter_cs = kCode0;
  state.msr.sysenter_esp = 0x8800;
  state.msr.sysenter_eip = 0x6000;
  state.eflags |= eflags::kIf;
  ASSERT_DONE(sysenter(cpu));
  EXPECT_EQ(state.cpl, 0);
  EXPECT_EQ(state.eip, 0x6000u);
  EXPECT_EQ(state.gpr[kEsp], 0x8800u);
  EXPECT_FALSE(state.eflags & eflags::kIf);
  EXPECT_EQ(state.segment[kCs].selector, kCode0);
  EXPECT_EQ(state.segment[kSs].selector, kCode0 + 8);
  EXPECT_EQ(state.segment[kCs].klass, SegmentClass::kChecked);  // Code cannot be written.
  EXPECT_EQ(state.segment[kSs].klass, SegmentClass::kFlat);
  state.gpr[kEdx] = 0x7000;
  state.gpr[kEcx] = 0xb000;
  ASSERT_DONE(sysexit(cpu));
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.gpr[kEsp], 0xb000u);
  EXPECT_EQ(state.segment[kCs].selector, (kCode0 + 16) | 3);
  EXPECT_EQ(state.segment[kSs].selector, (kCode0 + 24) | 3);
  EXPECT_FAULT(sysexit(cpu), kGp, 0);
}

}  // namespace
}  // namespace trapline
