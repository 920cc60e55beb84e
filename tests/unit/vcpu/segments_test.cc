#include "world.h"

namespace trapline {
namespace {

class Segments : public World {
 protected:
  OrFault<Linear> check(SegmentName name, uint32_t offset, uint32_t size,
                        SegmentAccess access = SegmentAccess::kRead, uint32_t align = 1) {
    return check_segment(state, name, offset, size, access, align);
  }
};

TEST_F(Segments, LoadsDataAndSetsAccessed) {
  set(kFree, descriptor(0x12345678, 0x1ff, 0x92, 0x4));
  ASSERT_DONE(load_segment(cpu, kDs, kFree));
  EXPECT_EQ(state.segment[kDs].base, 0x12345678u);
  EXPECT_EQ(state.segment[kDs].limit, 0x1ffu);
  EXPECT_EQ(state.segment[kDs].selector, kFree);
  EXPECT_TRUE(state.segment[kDs].big());
  EXPECT_EQ(state.segment[kDs].read_end, 0x200u);
  EXPECT_EQ(access_of(kFree), 0x93);
}

TEST_F(Segments, AccessedDescriptorsAreNotWritten) {
  memory.make_read_only(kGdt >> kPageShift);
  ASSERT_DONE(load_segment(cpu, kDs, kData0));
  set(kFree, descriptor(0, 0xfffff, 0x92));
  EXPECT_FAULT(load_segment(cpu, kDs, kFree), Vector::kPageFault, 3);
}

TEST_F(Segments, LoadsFromTheLdt) {
  set(0x0c, descriptor(0x5000, 0xfffff, kAccessData));
  ASSERT_DONE(load_segment(cpu, kGs, 0x0c));
  EXPECT_EQ(state.segment[kGs].base, 0x5000u);
  EXPECT_EQ(state.segment[kGs].klass, SegmentClass::kBased);
  EXPECT_FAULT(load_segment(cpu, kGs, 0x104), Vector::kGeneralProtection, 0x104);
  ASSERT_DONE(load_ldtr(cpu, 0));
  EXPECT_FAULT(load_segment(cpu, kGs, 0x0c), Vector::kGeneralProtection, 0x0c);
}

TEST_F(Segments, OnlyFlatOnesWrap) {
  EXPECT_EQ(check(kDs, ~1u, 4)->value, ~1u);
  set(kFree, descriptor(0x5000, 0xfffff, kAccessData));
  ASSERT_DONE(load_segment(cpu, kDs, kFree));
  EXPECT_EQ(state.segment[kDs].klass, SegmentClass::kBased);
  EXPECT_EQ(check(kDs, ~3u, 4)->value, 0x4ffcu);
  EXPECT_FAULT(check(kDs, ~1u, 4), Vector::kGeneralProtection, 0);
  set(kFree, descriptor(0x5001, 0xfffff, kAccessData));
  ASSERT_DONE(load_segment(cpu, kSs, kFree));
  EXPECT_EQ(state.segment[kSs].klass, SegmentClass::kChecked);
  EXPECT_FAULT(check(kSs, ~1u, 4), Vector::kStackFault, 0);
}

TEST_F(Segments, NullMakesUnusable) {
  for (uint16_t selector : {0, 1, 3}) {
    ASSERT_DONE(load_segment(cpu, kEs, selector));
    EXPECT_TRUE(state.segment[kEs].unusable());
    EXPECT_EQ(state.segment[kEs].selector, selector);
  }
  EXPECT_FAULT(check(kEs, 0, 1), Vector::kGeneralProtection, 0);
  EXPECT_FAULT(load_segment(cpu, kSs, 0), Vector::kGeneralProtection, 0);
}

TEST_F(Segments, DataLoadChecks) {
  struct Row {
    uint8_t access;
    uint8_t selector_rpl;
    uint8_t cpl;
    int vector;  // 0: loads.
  };
  constexpr Row kRows[] = {
      {kAccessData, 0, 0, 0},
      {kAccessData, 1, 0, 13},
      {kAccessData, 0, 1, 13},
      {kAccessData | dpl(3), 3, 3, 0},
      {kAccessData | dpl(2), 3, 2, 13},
      {kAccessReadOnly, 0, 0, 0},
      {kAccessExpandDown, 0, 0, 0},
      {kAccessCode, 0, 0, 0},
      {kAccessCode, 0, 3, 13},
      {kAccessConforming, 3, 3, 0},
      {kAccessExecuteOnly, 0, 0, 13},
      {kAccessLdt, 0, 0, 13},
      {kCall32, 0, 0, 13},
      {kAccessData & 0x7f, 0, 0, 11},
      {(kAccessData & 0x7f), 3, 0, 13},
  };
  for (const Row& row : kRows) {
    set(kFree, descriptor(0, 0xfffff, row.access));
    ring(row.cpl);
    const uint16_t selector = kFree | row.selector_rpl;
    if (row.vector == 0)
      ASSERT_DONE(load_segment(cpu, kFs, selector));
    else
      EXPECT_FAULT(load_segment(cpu, kFs, selector), row.vector, kFree);
  }
  EXPECT_FAULT(load_segment(cpu, kFs, 0x103), Vector::kGeneralProtection, 0x100);
}

TEST_F(Segments, StackLoadChecks) {
  ring(0);
  ASSERT_DONE(load_segment(cpu, kSs, kData0));
  EXPECT_FAULT(load_segment(cpu, kSs, kData0 | 1), Vector::kGeneralProtection, kData0);
  EXPECT_FAULT(load_segment(cpu, kSs, kData3), Vector::kGeneralProtection, kData3 & ~3);
  EXPECT_FAULT(load_segment(cpu, kSs, kCode0), Vector::kGeneralProtection, kCode0);
  set(kFree, descriptor(0, 0xfffff, kAccessReadOnly));
  EXPECT_FAULT(load_segment(cpu, kSs, kFree), Vector::kGeneralProtection, kFree);
  set(kFree, descriptor(0, 0xfffff, kAccessData & 0x7f));
  EXPECT_FAULT(load_segment(cpu, kSs, kFree), Vector::kStackFault, kFree);
  ring(3);
  ASSERT_DONE(load_segment(cpu, kSs, kData3));
}

TEST_F(Segments, RealModeKeepsLimits) {
  real_mode();
  state.segment[kDs].limit = 0xffffffff;  // "Unreal" mode.
  ASSERT_DONE(load_segment(cpu, kDs, 0x1234));
  EXPECT_EQ(state.segment[kDs].base, 0x12340u);
  EXPECT_EQ(state.segment[kDs].limit, 0xffffffffu);
  EXPECT_TRUE(check(kCs, 0, 2, SegmentAccess::kWrite).ok());
  EXPECT_FAULT(check(kSs, 0xffff, 2), Vector::kStackFault, 0);
}

TEST_F(Segments, V86SegmentsAreSixteenBit) {
  v86();
  ASSERT_DONE(load_segment(cpu, kSs, 0xffff));
  EXPECT_EQ(state.segment[kSs].base, 0xffff0u);
  EXPECT_EQ(state.segment[kSs].limit, 0xffffu);
  EXPECT_EQ(state.segment[kSs].dpl(), 3);
  EXPECT_TRUE(check(kCs, 0, 2, SegmentAccess::kWrite).ok());
}

TEST_F(Segments, ExpandUpLimits) {
  set(kFree, descriptor(0x1000, 0xfff, kAccessData, 0x4));
  ASSERT_DONE(load_segment(cpu, kDs, kFree));
  EXPECT_EQ(check(kDs, 0xfff, 1)->value, 0x1fffu);
  EXPECT_TRUE(check(kDs, 0xffc, 4).ok());
  EXPECT_FAULT(check(kDs, 0xffd, 4), Vector::kGeneralProtection, 0);
  EXPECT_FAULT(check(kDs, 0xffffffff, 4), Vector::kGeneralProtection, 0);
}

TEST_F(Segments, ExpandDownLimits) {
  set(kFree, descriptor(0, 0xfff, kAccessExpandDown, 0x4));  // Big.
  ASSERT_DONE(load_segment(cpu, kSs, kFree));
  EXPECT_FAULT(check(kSs, 0xfff, 1), Vector::kStackFault, 0);
  EXPECT_TRUE(check(kSs, 0x1000, 4).ok());
  EXPECT_TRUE(check(kSs, 0xfffffffc, 4).ok());
  EXPECT_FAULT(check(kSs, 0xfffffffd, 4), Vector::kStackFault, 0);
  set(kFree, descriptor(0, 0xfff, kAccessExpandDown, 0));
  ASSERT_DONE(load_segment(cpu, kDs, kFree));
  EXPECT_TRUE(check(kDs, 0xfffe, 2).ok());
  EXPECT_FAULT(check(kDs, 0xffff, 2), Vector::kGeneralProtection, 0);
  EXPECT_FAULT(check(kDs, 0x10000, 1), Vector::kGeneralProtection, 0);
  EXPECT_EQ(state.segment[kDs].read_end, 0u);
}

TEST_F(Segments, TypesDecideAccess) {
  set(kFree, descriptor(0, 0xfffff, kAccessReadOnly));
  ASSERT_DONE(load_segment(cpu, kDs, kFree));
  EXPECT_TRUE(check(kDs, 0, 4).ok());
  EXPECT_FAULT(check(kDs, 0, 4, SegmentAccess::kWrite), Vector::kGeneralProtection, 0);
  EXPECT_FAULT(check(kCs, 0, 4, SegmentAccess::kWrite), Vector::kGeneralProtection, 0);
  state.segment[kCs].attributes &= ~segment::kReadable;
  EXPECT_FAULT(check(kCs, 0, 4), Vector::kGeneralProtection, 0);
}

TEST_F(Segments, AlignmentIsCheckedWhenArmed) {
  ring(3);
  EXPECT_TRUE(check(kDs, 1, 4, SegmentAccess::kRead, 4).ok());
  state.cr0 |= cr0::kAm;
  state.eflags |= eflags::kAc;
  EXPECT_FAULT(check(kDs, 2, 4, SegmentAccess::kRead, 4), Vector::kAlignment, 0);
  EXPECT_TRUE(check(kDs, 4, 4, SegmentAccess::kRead, 4).ok());
  ring(0);
  EXPECT_TRUE(check(kDs, 2, 4, SegmentAccess::kRead, 4).ok());
}

TEST_F(Segments, LdtrChecks) {
  EXPECT_FAULT(load_ldtr(cpu, 0x0c), Vector::kGeneralProtection, 0x0c);
  EXPECT_FAULT(load_ldtr(cpu, kData0), Vector::kGeneralProtection, kData0);
  EXPECT_FAULT(load_ldtr(cpu, 0x100), Vector::kGeneralProtection, 0x100);
  set(kFree, descriptor(0, 0xff, kAccessLdt & 0x7f, 0));
  EXPECT_FAULT(load_ldtr(cpu, kFree), Vector::kSegmentNotPresent, kFree);
  ring(3);
  EXPECT_FAULT(load_ldtr(cpu, kLdtSelector), Vector::kGeneralProtection, 0);
}

TEST_F(Segments, TrChecksAndMarksBusy) {
  EXPECT_EQ(access_of(kTssSelector), kAccessTss32 | 2);
  EXPECT_EQ(state.tr.base, kTss);
  EXPECT_FAULT(load_tr(cpu, kTssSelector), Vector::kGeneralProtection, kTssSelector);
  EXPECT_FAULT(load_tr(cpu, 0), Vector::kGeneralProtection, 0);
  EXPECT_FAULT(load_tr(cpu, 0x0c), Vector::kGeneralProtection, 0x0c);
  EXPECT_FAULT(load_tr(cpu, kData0), Vector::kGeneralProtection, kData0);
  set(kFree, descriptor(kTss, 0x67, kAccessTss32 & 0x7f, 0));
  EXPECT_FAULT(load_tr(cpu, kFree), Vector::kSegmentNotPresent, kFree);
}

}  // namespace
}  // namespace trapline
