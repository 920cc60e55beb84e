#include "world.h"

namespace trapline {
namespace {

constexpr auto kGp = Vector::kGeneralProtection;
constexpr auto k32 = OperandSize::k32;
constexpr auto k16 = OperandSize::k16;

class Control : public World {};
class ControlPentium : public World {
 protected:
  ControlPentium() : World(*CpuModel::find("pentium")) {}
};
class Control486 : public World {
 protected:
  Control486() : World(*CpuModel::find("486")) {}
};

TEST_F(Control, Cr0Legality) {
  EXPECT_FAULT(write_cr0(cpu, cr0::kPg), kGp, 0);
  EXPECT_FAULT(write_cr0(cpu, cr0::kPe | cr0::kNw), kGp, 0);
  ASSERT_DONE(write_cr0(cpu, cr0::kPe | cr0::kNw | cr0::kCd | 0x1ff80));
  EXPECT_EQ(state.cr0, cr0::kPe | cr0::kNw | cr0::kCd | cr0::kEt | cr0::kWp);
  ring(3);
  EXPECT_FAULT(write_cr0(cpu, state.cr0), kGp, 0);
}

TEST_F(Control, Cr0TellsOfPagingChanges) {
  ASSERT_DONE(write_cr0(cpu, state.cr0 | cr0::kTs));
  EXPECT_EQ(events.flushes + events.changes, 0);
  ASSERT_DONE(write_cr0(cpu, state.cr0 | cr0::kPg));
  EXPECT_EQ(events.flushes, 1);
  ASSERT_DONE(write_cr0(cpu, state.cr0 | cr0::kWp));
  EXPECT_EQ(events.changes, 1);
  ASSERT_DONE(write_cr3(cpu, 0x1000));
  EXPECT_EQ(events.flushes, 2);
}

TEST_F(Control, PdptesAreLoadedAndChecked) {
  ASSERT_DONE(write_cr4(cpu, state.cr4 | cr4::kPae));
  ASSERT_DONE(write_cr3(cpu, 0x5020));
  events.physical = {{0x5020, 0x10001}, {0x5028, 0x1e6}, {0x5030, 0}, {0x5038, 0x11001}};
  ASSERT_DONE(write_cr0(cpu, state.cr0 | cr0::kPg));
  EXPECT_EQ(state.pdpte[0], 0x10001u);
  EXPECT_EQ(state.pdpte[1], 0x1e6u);  // Not present: nothing is reserved.
  for (uint64_t bad : {uint64_t{0x3}, uint64_t{0x5}, uint64_t{0x21}, uint64_t{0x101},
                       uint64_t{1} << 40 | 1, uint64_t{1} << 63 | 1}) {
    events.physical[0x6038] = bad;
    EXPECT_FAULT(write_cr3(cpu, 0x6020), kGp, 0);
    events.physical[0x5030] = bad;
    EXPECT_FAULT(write_cr4(cpu, state.cr4 ^ cr4::kPge), kGp, 0);
    EXPECT_FAULT(write_cr0(cpu, state.cr0 ^ cr0::kCd), kGp, 0);
    events.physical[0x5030] = 0;
  }
  events.physical[0x6038] = uint64_t{1} << 39 | 1;
  ASSERT_DONE(write_cr3(cpu, 0x6020));
}

TEST_F(Control, Cr4Legality) {
  EXPECT_FAULT(write_cr4(cpu, 1u << 11), kGp, 0);
  ASSERT_DONE(write_cr4(cpu, cr4::kPge | cr4::kOsfxsr));
  EXPECT_EQ(events.flushes, 1);
  ASSERT_DONE(write_cr4(cpu, cr4::kPge | cr4::kTsd));
  EXPECT_EQ(events.flushes, 1);
  ring(3);
  EXPECT_FAULT(write_cr4(cpu, 0), kGp, 0);
}

TEST_F(ControlPentium, HasNoPae) {
  EXPECT_FAULT(write_cr4(cpu, cr4::kPae), kGp, 0);
  ASSERT_DONE(write_cr4(cpu, cr4::kPse | cr4::kVme | cr4::kMce));
  EXPECT_FAULT(read_msr(cpu, 0x1b), kGp, 0);
  EXPECT_TRUE(read_msr(cpu, 0x0).ok());
  EXPECT_TRUE(read_msr(cpu, 0x10).ok());
}

TEST_F(Control486, HasNoMsrsAndNoVif) {
  EXPECT_FAULT(read_msr(cpu, 0x10), Vector::kInvalidOpcode, 0);
  push32(eflags::kVif | eflags::kVip | eflags::kAc | eflags::kId);
  push32(kCode0);
  push32(0x7000);
  ASSERT_DONE(iret(cpu, k32, 0));
  EXPECT_EQ(state.eflags, eflags::kAc | eflags::kId | eflags::kFixed1);
}

TEST_F(Control, MsrsOfTime) {
  EXPECT_EQ(*read_msr(cpu, 0x10), 1000u);
  ASSERT_DONE(write_msr(cpu, 0x10, 5));
  events.tsc += 10;
  EXPECT_EQ(*read_msr(cpu, 0x10), 15u);
}

TEST_F(Control, AllOfTheTimeStampCounterIsWritten) {
  ASSERT_DONE(write_msr(cpu, 0x10, 0x123400000005));
  EXPECT_EQ(*read_msr(cpu, 0x10), 0x123400000005u);
}

TEST_F(ControlPentium, AWrittenTimeStampCounterLosesItsUpperHalf) {
  ASSERT_DONE(write_msr(cpu, 0x10, 0x123400000005));
  EXPECT_EQ(*read_msr(cpu, 0x10), 5u);
}

TEST_F(Control, MsrsThatGuestsTouch) {
  for (uint32_t index : {0x174u, 0x175u, 0x176u}) {
    ASSERT_DONE(write_msr(cpu, index, 0x12345678));
    EXPECT_EQ(*read_msr(cpu, index), 0x12345678u);
  }
  for (uint32_t index : {0x17u, 0x2au, 0x8bu, 0x179u, 0x17au, 0x400u, 0x401u, 0x402u, 0x403u})
    EXPECT_EQ(*read_msr(cpu, index), 0u);
  EXPECT_EQ(*read_msr(cpu, 0x1b), 0xfee00100u);  // No APIC, so it is off.
  EXPECT_EQ(*read_msr(cpu, 0xfe), 0x508u);
  ASSERT_DONE(write_msr(cpu, 0x79, 0x1000));
  EXPECT_FAULT(read_msr(cpu, 0x79), kGp, 0);
  EXPECT_FAULT(write_msr(cpu, 0xfe, 0), kGp, 0);
  EXPECT_FAULT(write_msr(cpu, 0x401, 1), kGp, 0);
  for (uint32_t unknown : {0x2u, 0x12u, 0x210u, 0x251u, 0x480u, 0xc0000081u, 0xffffffffu})
    EXPECT_FAULT(read_msr(cpu, unknown), kGp, 0);
  ring(3);
  EXPECT_FAULT(read_msr(cpu, 0x10), kGp, 0);
  EXPECT_FAULT(write_msr(cpu, 0x10, 0), kGp, 0);
}

TEST_F(Control, MemoryTypesAreChecked) {
  ASSERT_DONE(write_msr(cpu, 0x277, 0x0007010600070106));
  EXPECT_EQ(*read_msr(cpu, 0x277), 0x0007010600070106u);
  EXPECT_FAULT(write_msr(cpu, 0x277, 2), kGp, 0);
  ASSERT_DONE(write_msr(cpu, 0x2ff, 0xc06));
  EXPECT_FAULT(write_msr(cpu, 0x2ff, 0xc03), kGp, 0);
  ASSERT_DONE(write_msr(cpu, 0x26f, 0x0606060606060606));
  EXPECT_EQ(*read_msr(cpu, 0x26f), 0x0606060606060606u);
  EXPECT_EQ(*read_msr(cpu, 0x26e), 0u);
  EXPECT_FAULT(write_msr(cpu, 0x250, 7), kGp, 0);
  ASSERT_DONE(write_msr(cpu, 0x20e, 0x80000006));
  ASSERT_DONE(write_msr(cpu, 0x20f, 0xff80000800));
  EXPECT_EQ(*read_msr(cpu, 0x20f), 0xff80000800u);
  EXPECT_FAULT(write_msr(cpu, 0x20e, uint64_t{1} << 40), kGp, 0);
}

TEST_F(Control, EferHasNxeOnly) {
  ASSERT_DONE(write_msr(cpu, 0xc0000080, efer::kNxe));
  EXPECT_EQ(events.flushes, 1);
  EXPECT_EQ(*read_msr(cpu, 0xc0000080), efer::kNxe);
  EXPECT_FAULT(write_msr(cpu, 0xc0000080, 1), kGp, 0);
  EXPECT_FAULT(write_msr(cpu, 0xc0000080, 0x100), kGp, 0);
}

TEST_F(Control, PopfRules) {
  constexpr uint32_t kAll = ~0u;
  constexpr uint32_t kUser = eflags::kArithmetic | eflags::kTf | eflags::kDf | eflags::kNt;
  constexpr uint32_t kWide = kUser | eflags::kAc | eflags::kId;
  struct Row {
    uint8_t cpl, iopl;
    OperandSize size;
    uint32_t result;
  };
  constexpr Row kRows[] = {
      {0, 0, k32, kWide | eflags::kIf | eflags::kIopl},
      {0, 0, k16, kUser | eflags::kIf | eflags::kIopl},
      {1, 0, k32, kWide},
      {1, 1, k32, kWide | eflags::kIf | 1u << 12},
      {3, 2, k32, kWide | 2u << 12},
      {3, 3, k32, kWide | eflags::kIf | eflags::kIopl},
      {3, 0, k16, kUser},
  };
  for (const Row& row : kRows) {
    ring(row.cpl);
    state.eflags = eflags::kFixed1 | eflags::kRf | uint32_t{row.iopl} << 12;
    ASSERT_DONE(write_flags(cpu, kAll, row.size));
    EXPECT_EQ(state.eflags, row.result | eflags::kFixed1) << int{row.cpl} << int{row.iopl};
  }
  ring(3);
  state.eflags = eflags::kIf | eflags::kFixed1;
  ASSERT_DONE(write_flags(cpu, 0, k32));
  EXPECT_EQ(state.eflags, eflags::kIf | eflags::kFixed1);
}

TEST_F(Control, FlagsInV86) {
  v86();
  EXPECT_FAULT(write_flags(cpu, 0, k16), kGp, 0);
  EXPECT_FAULT(read_flags(cpu, k16), kGp, 0);
  state.eflags |= eflags::kIopl;
  ASSERT_DONE(write_flags(cpu, eflags::kIf, k16));
  EXPECT_EQ(state.eflags, eflags::kVm | eflags::kIopl | eflags::kIf | eflags::kFixed1);
  EXPECT_EQ(*read_flags(cpu, k32), eflags::kIopl | eflags::kIf | eflags::kFixed1);
  state.eflags &= ~(eflags::kIopl | eflags::kIf);
  state.cr4 |= cr4::kVme;
  ASSERT_DONE(write_flags(cpu, eflags::kIf | eflags::kCf, k16));
  EXPECT_EQ(state.eflags, eflags::kVm | eflags::kVif | eflags::kCf | eflags::kFixed1);
  EXPECT_EQ(*read_flags(cpu, k16), eflags::kIopl | eflags::kIf | eflags::kCf | eflags::kFixed1);
  EXPECT_FAULT(read_flags(cpu, k32), kGp, 0);
  state.eflags |= eflags::kVip;
  EXPECT_FAULT(write_flags(cpu, eflags::kIf, k16), kGp, 0);
  EXPECT_FAULT(sti(cpu), kGp, 0);
  ASSERT_DONE(cli(cpu));
  EXPECT_FALSE(state.eflags & eflags::kVif);
}

TEST_F(Control, CliAndSti) {
  ASSERT_DONE(sti(cpu));
  EXPECT_EQ(state.shadow, InterruptShadow::kSti);
  state.shadow = InterruptShadow::kNone;
  ASSERT_DONE(sti(cpu));
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
  ASSERT_DONE(cli(cpu));
  EXPECT_FALSE(state.eflags & eflags::kIf);
  ring(3);
  EXPECT_FAULT(cli(cpu), kGp, 0);
  EXPECT_FAULT(sti(cpu), kGp, 0);
  state.cr4 |= cr4::kPvi;
  ASSERT_DONE(sti(cpu));
  EXPECT_TRUE(state.eflags & eflags::kVif);
  state.eflags |= eflags::kIopl;
  ASSERT_DONE(sti(cpu));
  EXPECT_TRUE(state.eflags & eflags::kIf);
}

TEST_F(Control, PortsAndThePermissionMap) {
  ports.value = 0x12;
  EXPECT_EQ(*port_in(cpu, 0x3f8, 1), 0x12u);
  EXPECT_EQ(ports.last, "in 1016/1");
  ring(3);
  memory.poke<uint8_t>(kTss + 0x68 + 0x60 / 8, 0xf0);  // 0x60-0x63 allowed, 0x64-0x67 not.
  ASSERT_DONE(port_out(cpu, 0x60, 4, 7));
  EXPECT_EQ(ports.last, "out 96/4");
  EXPECT_FAULT(port_out(cpu, 0x61, 4, 7), kGp, 0);
  EXPECT_FAULT(port_in(cpu, 0x64, 1), kGp, 0);
  EXPECT_FAULT(port_in(cpu, 0x4b8, 1), kGp, 0);  // The second byte read lies past the limit.
  EXPECT_TRUE(port_in(cpu, 0x4b0, 1).ok());
  state.eflags |= eflags::kIopl;
  EXPECT_TRUE(port_in(cpu, 0x64, 1).ok());
  v86();
  state.eflags |= eflags::kIopl;
  EXPECT_FAULT(port_in(cpu, 0x64, 1), kGp, 0);
  EXPECT_TRUE(port_in(cpu, 0x60, 1).ok());
  state.eflags &= ~(eflags::kIopl | eflags::kVm);
  ring(3);
  state.tr.attributes = segment::kPresent | 3;  // A 16-bit TSS has no map.
  EXPECT_FAULT(port_in(cpu, 0x60, 1), kGp, 0);
}

}  // namespace
}  // namespace trapline
