#include "world.h"

namespace trapline {
namespace {

constexpr auto kGp = Vector::kGeneralProtection;
constexpr uint32_t kNewTss = 0x5000;
constexpr uint16_t kNew = kFree, kGate = kFree + 8;

/// With memory that is reached access by access, and directly.
class Tasks : public World, public testing::WithParamInterface<bool> {
 protected:
  Tasks() {
    memory.set_direct(GetParam());
    set(kNew, descriptor(kNewTss, 0x67, kAccessTss32, 0));
    set(kGate, gate(kNew, 0, kTask));
    put32(0x20, 0x7000);
    put32(0x24, eflags::kCf);
    for (uint32_t i = 0; i < 8; ++i) put32(0x28 + 4 * i, 0x1000 * (i + 1));
    put32(0x28 + 4 * kEsp, kStack1);
    for (uint32_t i = 0; i < 6; ++i) put32(0x48 + 4 * i, i == kCs ? kCode0 : kData0);
    put32(0x60, kLdtSelector);
  }
  void put32(uint32_t offset, uint32_t value) { memory.poke<uint32_t>(kNewTss + offset, value); }
  uint32_t saved(uint32_t offset) const { return memory.peek<uint32_t>(kTss + offset); }
  OrFault<void> jump(uint16_t selector) {
    return far_jump(cpu, selector, 0, OperandSize::k32, state.eip + 7);
  }
  OrFault<void> call(uint16_t selector) {
    return far_call(cpu, selector, 0, OperandSize::k32, state.eip + 7);
  }
};

INSTANTIATE_TEST_SUITE_P(Memory, Tasks, testing::Bool());

TEST_P(Tasks, JumpSavesOneTaskAndLoadsTheOther) {
  state.gpr[kEbx] = 0xb;
  state.dr[7] |= 0x3ff;
  ASSERT_DONE(jump(kNew));
  EXPECT_EQ(saved(0x20), kCode + 7);
  EXPECT_EQ(saved(0x24), eflags::kFixed1);
  EXPECT_EQ(saved(0x28 + 4 * kEbx), 0xbu);
  EXPECT_EQ(saved(0x4c) & 0xffff, kCode0);
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.eflags, eflags::kCf | eflags::kFixed1);
  EXPECT_EQ(state.gpr[kEdi], 0x8000u);
  EXPECT_EQ(state.gpr[kEsp], kStack1);
  EXPECT_EQ(state.tr.selector, kNew);
  EXPECT_EQ(state.segment[kSs].klass, SegmentClass::kFlat);
  EXPECT_EQ(access_of(kTssSelector), kAccessTss32);
  EXPECT_EQ(access_of(kNew), kAccessTss32 | 2);
  EXPECT_TRUE(state.cr0 & cr0::kTs);
  EXPECT_EQ(state.dr[7] & 0x3ff, 0x2aau);
  ASSERT_DONE(jump(kTssSelector));
  EXPECT_EQ(state.eip, kCode + 7);
  EXPECT_EQ(state.gpr[kEbx], 0xbu);
}

TEST_P(Tasks, CallNestsAndIretReturns) {
  ASSERT_DONE(call(kGate));
  EXPECT_TRUE(state.eflags & eflags::kNt);
  EXPECT_EQ(memory.peek<uint16_t>(kNewTss), kTssSelector);
  EXPECT_EQ(access_of(kTssSelector), kAccessTss32 | 2);
  state.nmi_blocked = true;
  ASSERT_DONE(iret(cpu, OperandSize::k32, 0x7001));
  EXPECT_EQ(state.eip, kCode + 7);
  EXPECT_EQ(state.tr.selector, kTssSelector);
  EXPECT_EQ(access_of(kNew), kAccessTss32);
  EXPECT_EQ(memory.peek<uint32_t>(kNewTss + 0x20), 0x7001u);
  EXPECT_FALSE(memory.peek<uint32_t>(kNewTss + 0x24) & eflags::kNt);
  EXPECT_FALSE(state.nmi_blocked);
}

TEST_P(Tasks, FaultThroughATaskGatePushesItsErrorCodeThere) {
  set_gate(8, gate(kNew, 0, kTask));
  EXPECT_EQ(deliver_fault(cpu, Fault::with_error(Vector::kDoubleFault, 0)), Delivered::kOk);
  EXPECT_EQ(state.tr.selector, kNew);
  EXPECT_EQ(state.gpr[kEsp], kStack1 - 4);
  EXPECT_EQ(stack32(0), 0u);
  EXPECT_EQ(saved(0x20), kCode);
}

TEST_P(Tasks, ChecksBeforeTheSwitch) {
  EXPECT_FAULT(jump(kTssSelector), kGp, kTssSelector);
  ring(3);
  EXPECT_FAULT(jump(kNew), kGp, kNew);
  EXPECT_FAULT(jump(kGate), kGp, kGate);
  ring(0);
  set(kGate, gate(kNew, 0, kTask & 0x7f));
  EXPECT_FAULT(jump(kGate), Vector::kSegmentNotPresent, kGate);
  set(kGate, gate(0x0c, 0, kTask));
  EXPECT_FAULT(jump(kGate), kGp, 0x0c);
  set(kGate, gate(kData0, 0, kTask));
  EXPECT_FAULT(jump(kGate), kGp, kData0);
  set(kNew, descriptor(kNewTss, 0x66, kAccessTss32, 0));
  EXPECT_FAULT(jump(kNew), Vector::kInvalidTss, kNew);
  set(kNew, descriptor(kNewTss, 0x67, kAccessTss32 & 0x7f, 0));
  EXPECT_FAULT(jump(kNew), Vector::kSegmentNotPresent, kNew);
  set(kNew, descriptor(kNewTss, 0x67, kAccessTss32, 0));
  memory.make_absent(kNewTss >> kPageShift);
  EXPECT_FAULT(jump(kNew), Vector::kPageFault, page_fault::kWrite);
  state.eflags |= eflags::kNt;
  memory.poke<uint16_t>(kTss, kNew);
  EXPECT_FAULT(iret(cpu, OperandSize::k32, 0), Vector::kInvalidTss, kNew);
}

TEST_P(Tasks, BadSegmentsAreTheNewTasksFaults) {
  put32(0x54, kCode0 | 0x100);
  const auto result = jump(kNew);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.fault(), Fault::with_error(Vector::kInvalidTss, (kCode0 | 0x100) & 0xfffc));
  EXPECT_EQ(state.tr.selector, kNew);
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.segment[kSs].selector, kData0);
  EXPECT_TRUE(state.segment[kDs].unusable());
}

TEST_P(Tasks, TheTrapBitEndsInADebugException) {
  put32(0x64, 1);
  const auto result = jump(kNew);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.fault(), Fault::plain(Vector::kDebug));
  EXPECT_TRUE(state.dr[6] & 1u << 15);
}

TEST_P(Tasks, TheTrapBitOfADoubleFaultsTaskIsNoTripleFault) {
  put32(0x64, 1);
  set_gate(8, gate(kNew, 0, kTask));
  set_gate(1, gate(kCode0, 0x20001, kInterrupt32));
  EXPECT_EQ(deliver_fault(cpu, Fault::with_error(Vector::kDoubleFault, 0)), Delivered::kOk);
  EXPECT_EQ(state.tr.selector, kNew);
  EXPECT_EQ(state.eip, 0x20001u);
  EXPECT_EQ(stack32(0), 0x7000u);
  EXPECT_EQ(state.dr[6] & 0xe000, 0x8000u);
}

TEST_P(Tasks, SwitchToAV86Task) {
  put32(0x24, eflags::kVm | eflags::kIf);
  put32(0x4c, 0x1234);
  ASSERT_DONE(jump(kNew));
  EXPECT_TRUE(state.v86());
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.segment[kCs].base, 0x12340u);
}

TEST_P(Tasks, SixteenBitTasks) {
  set(kNew, descriptor(kNewTss, 0x2b, kAccessTss16, 0));
  memory.put(kNewTss, std::vector<uint8_t>(0x2c));
  const auto put16 = [&](uint32_t offset, uint16_t value) {
    memory.poke<uint16_t>(kNewTss + offset, value);
  };
  put16(0x0e, 0x7000);
  put16(0x12 + 2 * kEbx, 0x1234);
  put16(0x24, kCode0);
  put16(0x26, kData0);
  ASSERT_DONE(call(kNew));
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.gpr[kEbx], 0xffff1234u);
  EXPECT_TRUE(state.segment[kFs].unusable());
  state.gpr[kEbx] = 0x55;
  ASSERT_DONE(iret(cpu, OperandSize::k16, 0x7001));
  EXPECT_EQ(memory.peek<uint16_t>(kNewTss + 0x12 + 2 * kEbx), 0x55);
  EXPECT_EQ(state.tr.selector, kTssSelector);
}

TEST_P(Tasks, Cr3FollowsTheTaskWhenPagingIsOn) {
  put32(0x1c, 0x9000);
  ASSERT_DONE(jump(kNew));
  EXPECT_EQ(state.cr3, 0u);
  ASSERT_DONE(jump(kTssSelector));
  state.cr0 |= cr0::kPg;
  ASSERT_DONE(jump(kNew));
  EXPECT_EQ(state.cr3, 0x9000u);
  EXPECT_EQ(events.flushes, 1);
}

}  // namespace
}  // namespace trapline
