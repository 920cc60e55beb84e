#include "world.h"

namespace trapline {
namespace {

constexpr auto kGp = Vector::kGeneralProtection;
constexpr uint8_t kVector = 0x80;

class Delivery : public World {
 protected:
  void handlers() {
    for (uint32_t vector = 0; vector < 256; ++vector)
      set_gate(static_cast<uint8_t>(vector), gate(kCode0, 0x20000 + vector, kInterrupt32));
  }
  OrFault<void> interrupt(uint8_t vector = kVector) {
    return software_interrupt(cpu, vector, state.eip + 2);
  }
  uint32_t handler() const { return state.eip - 0x20000; }
};

TEST_F(Delivery, InterruptGateFromRing3) {
  ring(3);
  set_gate(kVector, gate(kCode0, 0x12345, kInterrupt32 | dpl(3)));
  state.eflags |= eflags::kIf | eflags::kTf | eflags::kNt | eflags::kCf;
  ASSERT_DONE(interrupt());
  EXPECT_EQ(state.cpl, 0);
  EXPECT_EQ(state.eip, 0x12345u);
  EXPECT_EQ(state.segment[kCs].selector, kCode0);
  EXPECT_EQ(state.segment[kSs].selector, kData0);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 20);
  EXPECT_EQ(stack32(0), kCode + 2);
  EXPECT_EQ(stack32(1), kCode3);
  EXPECT_EQ(stack32(2), eflags::kIf | eflags::kTf | eflags::kNt | eflags::kCf | eflags::kFixed1);
  EXPECT_EQ(stack32(3), kStack3);
  EXPECT_EQ(stack32(4), kData3);
  EXPECT_EQ(state.eflags, eflags::kCf | eflags::kFixed1);
  EXPECT_EQ(state.segment[kDs].selector, kData3);
}

TEST_F(Delivery, TrapGateKeepsIf) {
  set_gate(kVector, gate(kCode0, 0x12345, kTrap32));
  state.eflags |= eflags::kIf;
  ASSERT_DONE(interrupt());
  EXPECT_TRUE(state.eflags & eflags::kIf);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 12);
}

TEST_F(Delivery, SixteenBitGate) {
  ring(3);
  set_gate(kVector, gate(kCode0, 0xdead2345, kInterrupt16 | dpl(3)));
  ASSERT_DONE(interrupt());
  EXPECT_EQ(state.eip, 0x2345u);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 10);
  EXPECT_EQ(stack16(0), (kCode + 2) & 0xffff);
  EXPECT_EQ(stack16(1), kCode3);
  EXPECT_EQ(stack16(3), kStack3);
  EXPECT_EQ(stack16(4), kData3);
}

TEST_F(Delivery, ConformingHandlersRunInTheInterruptedRing) {
  ring(3);
  set_gate(kVector, gate(kConforming0, 0x12345, kInterrupt32 | dpl(3)));
  ASSERT_DONE(interrupt());
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.gpr[kEsp], kStack3 - 12);
}

TEST_F(Delivery, PushesInRing3AreCheckedForAlignment) {
  ring(3);
  state.cr0 |= cr0::kAm;
  state.eflags |= eflags::kAc;
  state.gpr[kEsp] = kStack3 - 2;
  set_gate(kVector, gate(kConforming0, 0x12345, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), Vector::kAlignment, 0);
  set_gate(kVector, gate(kConforming0, 0x12345, kInterrupt16 | dpl(3)));
  ASSERT_DONE(interrupt());
  EXPECT_EQ(state.gpr[kEsp], kStack3 - 8);
  state.gpr[kEsp] = kStack3 - 2;
  // For an event from outside EXT is set; the inner stack is nobody's business.
  set_gate(kVector, gate(kConforming0, 0x12345, kInterrupt32));
  set_gate(17, gate(kCode0, 0x54321, kInterrupt32));
  EXPECT_EQ(deliver_interrupt(cpu, kVector), Delivered::kOk);
  EXPECT_EQ(state.eip, 0x54321u);
  EXPECT_EQ(stack32(0), 1u);
}

TEST_F(Delivery, AlignmentFaultsForTheirOwnFrameEnd) {
  ring(3);
  state.cr0 |= cr0::kAm;
  state.eflags |= eflags::kAc;
  state.gpr[kEsp] = kStack3 - 2;
  set_gate(17, gate(kConforming0, 0x54321, kInterrupt32));
  EXPECT_EQ(deliver_fault(cpu, Fault::with_error(Vector::kAlignment, 0)), Delivered::kTripleFault);
}

TEST_F(Delivery, SoftwareInterruptChecks) {
  ring(3);
  const uint32_t error = kVector * 8 + 2;
  set_gate(kVector, gate(kCode0, 0, kInterrupt32));
  EXPECT_FAULT(interrupt(), kGp, error);
  set_gate(kVector, gate(kCode0, 0, (kInterrupt32 & 0x7f) | dpl(3)));
  EXPECT_FAULT(interrupt(), Vector::kSegmentNotPresent, error);
  set_gate(kVector, gate(kCode0, 0, kCall32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, error);
  set_gate(kVector, gate(0, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, 0);
  set_gate(kVector, gate(0x100, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, 0x100);
  set_gate(kVector, gate(kData0, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, kData0);
  set(kFree, descriptor(0, 0xfffff, kAccessCode & 0x7f));
  set_gate(kVector, gate(kFree, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), Vector::kSegmentNotPresent, kFree);
  set(kFree, descriptor(0, 0xfff, kAccessCode, 0x4));
  set_gate(kVector, gate(kFree, 0x1000, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, 0);
  state.idtr.limit = kVector * 8 + 6;
  EXPECT_FAULT(interrupt(), kGp, error);
  ring(0);
  state.idtr.limit = 0x7ff;
  set_gate(kVector, gate(kCode3, 0, kInterrupt32));
  EXPECT_FAULT(interrupt(), kGp, kCode3 & ~3);
}

TEST_F(Delivery, InnerStackFaults) {
  ring(3);
  set_gate(kVector, gate(kCode0, 0, kInterrupt32 | dpl(3)));
  memory.poke<uint16_t>(kTss + 8, kData3);
  EXPECT_FAULT(interrupt(), Vector::kInvalidTss, kData3 & ~3);
  set(kFree, descriptor(0, 0xfff, kAccessData, 0x4));
  memory.poke<uint16_t>(kTss + 8, kFree);
  EXPECT_FAULT(interrupt(), Vector::kStackFault, kFree);
  memory.poke<uint16_t>(kTss + 8, kData0);
  memory.poke<uint32_t>(kTss + 4, 0x8008);
  memory.make_absent(7);
  EXPECT_FAULT(interrupt(), Vector::kPageFault, page_fault::kWrite);
  memory.make_all_present();
  ASSERT_DONE(interrupt());
  EXPECT_EQ(stack32(4), kData3);
}

TEST_F(Delivery, FaultPushesErrorCodeAndRf) {
  handlers();
  ring(3);
  EXPECT_EQ(deliver_fault(cpu, Fault::page(0xdeadb000, 6)), Delivered::kOk);
  EXPECT_EQ(handler(), 14u);
  EXPECT_EQ(state.cr2, 0xdeadb000u);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 24);
  EXPECT_EQ(stack32(0), 6u);
  EXPECT_EQ(stack32(1), kCode);
  EXPECT_EQ(stack32(3), eflags::kRf | eflags::kFixed1);
  EXPECT_EQ(state.eflags, eflags::kFixed1);
}

TEST_F(Delivery, DebugExceptionsLiftTheGuardOfTheDebugRegisters) {
  constexpr uint32_t kGuarded = 0x2400;
  handlers();
  state.dr[7] = kGuarded;
  EXPECT_EQ(deliver_trap(cpu, Vector::kDebug), Delivered::kOk);
  EXPECT_EQ(state.dr[7], 0x400u);
  state.dr[7] = kGuarded;
  EXPECT_EQ(deliver_fault(cpu, Fault::plain(Vector::kDebug)), Delivered::kOk);
  EXPECT_EQ(state.dr[7], 0x400u);
  state.dr[7] = kGuarded;
  EXPECT_EQ(deliver_fault(cpu, Fault::plain(Vector::kDivide)), Delivered::kOk);
  EXPECT_EQ(deliver_trap(cpu, Vector::kOverflow), Delivered::kOk);
  EXPECT_EQ(state.dr[7], kGuarded);
}

TEST_F(Delivery, DplOfTheGateDoesNotMatterToFaultsAndInterrupts) {
  handlers();
  ring(3);
  EXPECT_EQ(deliver_interrupt(cpu, 0x20), Delivered::kOk);
  EXPECT_EQ(handler(), 0x20u);
  ring(3);
  EXPECT_EQ(deliver_fault(cpu, Fault::plain(Vector::kDivide)), Delivered::kOk);
  EXPECT_EQ(handler(), 0u);
  ring(3);
  EXPECT_EQ(deliver_trap(cpu, Vector::kDebug), Delivered::kOk);
  EXPECT_EQ(handler(), 1u);
  EXPECT_EQ(stack32(2), eflags::kFixed1);
  ring(3);
  EXPECT_EQ(deliver_nmi(cpu), Delivered::kOk);
  EXPECT_EQ(handler(), 2u);
  EXPECT_TRUE(state.nmi_blocked);
}

TEST_F(Delivery, DeliveryWakesAndEndsShadows) {
  handlers();
  state.halted = true;
  state.shadow = InterruptShadow::kSti;
  EXPECT_EQ(deliver_interrupt(cpu, 0x20), Delivered::kOk);
  EXPECT_FALSE(state.halted);
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
}

TEST_F(Delivery, FaultWhileDeliveringABenignEventIsServedNext) {
  handlers();
  set_gate(0x20, 0);
  EXPECT_EQ(deliver_interrupt(cpu, 0x20), Delivered::kOk);
  EXPECT_EQ(handler(), 13u);
  EXPECT_EQ(stack32(0), 0x20 * 8 + 3u);  // IDT and EXT.
}

TEST_F(Delivery, TwoContributoryFaultsMakeADoubleFault) {
  handlers();
  set_gate(13, 0);
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0x10)), Delivered::kOk);
  EXPECT_EQ(handler(), 8u);
  EXPECT_EQ(stack32(0), 0u);
  EXPECT_EQ(stack32(1), kCode);
}

TEST_F(Delivery, PageFaultDuringAContributoryOneIsServedAlone) {
  handlers();
  state.idtr.base = 0x0f00;
  memory.put(0x0f00, std::vector<uint8_t>(0x100));  // Vectors up to 31 lie in page 0.
  for (uint32_t vector = 0; vector < 32; ++vector)
    memory.poke<uint64_t>(0x0f00 + vector * 8, gate(kCode0, 0x20000 + vector, kInterrupt32));
  set(kFree, descriptor(0, 0xfffff, kAccessCode));
  memory.poke<uint64_t>(0x0f00 + 13 * 8, gate(0x0c, 0x20000 + 13, kInterrupt32));
  memory.make_absent(kLdt >> kPageShift);
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0)), Delivered::kOk);
  EXPECT_EQ(handler(), 14u);
  EXPECT_EQ(state.cr2, kLdt + 8);
}

TEST_F(Delivery, PageFaultDuringAPageFaultDoubles) {
  handlers();
  set_gate(14, gate(0x0c, 0x20000 + 14, kInterrupt32));
  memory.make_absent(kLdt >> kPageShift);
  EXPECT_EQ(deliver_fault(cpu, Fault::page(0x1234, 0)), Delivered::kOk);
  EXPECT_EQ(handler(), 8u);
  EXPECT_EQ(state.cr2, kLdt + 8);
}

TEST_F(Delivery, NothingLeftIsATripleFault) {
  handlers();
  set_gate(13, 0);
  set_gate(8, 0);
  const CpuState before = state;
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0)), Delivered::kTripleFault);
  EXPECT_TRUE(state_is(before));
  state.idtr.limit = 0;
  EXPECT_EQ(deliver_interrupt(cpu, 0x20), Delivered::kTripleFault);
  EXPECT_EQ(deliver_fault(cpu, Fault::page(0, 0)), Delivered::kTripleFault);
}

TEST_F(Delivery, InvalidOpcodeWithABadGateGoesToGp) {
  handlers();
  set_gate(6, 0);
  EXPECT_EQ(deliver_fault(cpu, Fault::invalid_opcode()), Delivered::kOk);
  EXPECT_EQ(handler(), 13u);
  EXPECT_EQ(stack32(0), 6 * 8 + 3u);
}

TEST_F(Delivery, FromV86PushesAndNullsTheDataSegments) {
  handlers();
  v86();
  state.segment[kGs] = Segment::real(0x6000, false);
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0)), Delivered::kOk);
  EXPECT_EQ(state.cpl, 0);
  EXPECT_FALSE(state.v86());
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 40);
  EXPECT_EQ(stack32(1), 0u);       // EIP
  EXPECT_EQ(stack32(2), 0x1000u);  // CS
  EXPECT_TRUE(stack32(3) & eflags::kVm);
  EXPECT_EQ(stack32(4), 0x8000u);  // ESP
  EXPECT_EQ(stack32(5), 0x1000u);  // SS
  EXPECT_EQ(stack32(9), 0x6000u);  // GS
  EXPECT_TRUE(state.segment[kGs].unusable());
  EXPECT_TRUE(state.segment[kEs].unusable());
}

TEST_F(Delivery, FromV86OnlyToRing0) {
  v86();
  set_gate(3, gate(kCode1, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(software_interrupt(cpu, 3, 1, SoftwareInterrupt::kInt3), kGp, kCode1 & ~3);
  set_gate(3, gate(kConforming0, 0, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(software_interrupt(cpu, 3, 1, SoftwareInterrupt::kInt3), kGp, kConforming0);
}

TEST_F(Delivery, IntNInV86NeedsIopl3) {
  v86();
  set_gate(kVector, gate(kCode0, 0x20000, kInterrupt32 | dpl(3)));
  EXPECT_FAULT(interrupt(), kGp, 0);
  ASSERT_DONE(software_interrupt(cpu, kVector, 1, SoftwareInterrupt::kInto));
  v86();
  state.eflags |= eflags::kIopl;
  ASSERT_DONE(interrupt());
  EXPECT_EQ(state.cpl, 0);
}

TEST_F(Delivery, VmeKeepsRedirectedInterruptsInTheTask) {
  v86();
  state.cr4 |= cr4::kVme;
  memory.poke<uint16_t>(kTss + 0x66, 0xa0);
  memory.poke<uint32_t>(kVector * 4, 0x20000033);
  state.eflags |= eflags::kVif;
  ASSERT_DONE(interrupt());
  EXPECT_TRUE(state.v86());
  EXPECT_EQ(state.eip, 0x33u);
  EXPECT_EQ(state.segment[kCs].base, 0x20000u);
  EXPECT_TRUE(stack16(2) & eflags::kIf);
  EXPECT_EQ(stack16(2) & eflags::kIopl, eflags::kIopl);
  EXPECT_FALSE(state.eflags & eflags::kVif);
  memory.poke<uint8_t>(kTss + 0x80 + kVector / 8, 1);  // Not redirected.
  EXPECT_FAULT(interrupt(), kGp, 0);
}

TEST_F(Delivery, RealModeGoesThroughTheIvt) {
  real_mode();
  memory.poke<uint32_t>(0x21 * 4, 0x20001234);
  state.eflags |= eflags::kIf | eflags::kTf;
  state.gpr[kEsp] = 0xabcd8000;
  ASSERT_DONE(interrupt(0x21));
  EXPECT_EQ(state.eip, 0x1234u);
  EXPECT_EQ(state.segment[kCs].base, 0x20000u);
  EXPECT_EQ(state.gpr[kEsp], 0xabcd7ffau);
  EXPECT_EQ(stack16(0), 2);
  EXPECT_EQ(stack16(1), 0x1000);
  EXPECT_EQ(stack16(2), eflags::kIf | eflags::kTf | eflags::kFixed1);
  EXPECT_EQ(state.eflags, eflags::kFixed1);
}

TEST_F(Delivery, RealModeFaultsPushNoErrorCode) {
  real_mode();
  memory.poke<uint32_t>(13 * 4, 0x20001234);
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0)), Delivered::kOk);
  EXPECT_EQ(state.gpr[kEsp], 0x7ffau);
  state.idtr.limit = 3;
  EXPECT_EQ(deliver_fault(cpu, Fault::general_protection(0)), Delivered::kTripleFault);
}

}  // namespace
}  // namespace trapline
