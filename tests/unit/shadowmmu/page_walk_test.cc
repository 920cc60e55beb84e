#include "shadowmmu/page_walk.h"

#include <gtest/gtest.h>

#include <ostream>

#include "tests/unit/shadowmmu/guest_tables.h"

namespace trapline {
namespace {

using namespace entry;

constexpr uint32_t kDirectory = 0x1000, kTable = 0x5000, kTarget = 0x345000;
constexpr uint32_t kLinear = 0x00c03123;  // Directory entry 3, table entry 3; PAE: 6 and 3.
constexpr uint32_t kDirectoryEntry = kDirectory + 3 * 4, kTableEntry = kTable + 3 * 4;
constexpr uint32_t kPaeDirectoryEntry = kDirectory + 6 * 8, kPaeTableEntry = kTable + 3 * 8;

enum class Who : uint8_t { kSupervisor, kUser };

struct Case {
  const char* name;
  uint64_t directory_entry;
  uint64_t table_entry;
  Access access;
  Who who;
  int64_t error;  // -1: no fault.
  bool wp = true;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

constexpr uint64_t kTo = kTable, kPage = kTarget;
constexpr int64_t kOk = -1;

const Case kRightsCases[] = {
    {"UserReadsUserPage", kTo | kAll, kPage | kAll, Access::kRead, Who::kUser, kOk},
    {"UserWritesUserPage", kTo | kAll, kPage | kAll, Access::kWrite, Who::kUser, kOk},
    {"DirectoryAbsent", kTo, kPage | kAll, Access::kRead, Who::kUser, 4},
    {"TableEntryAbsent", kTo | kAll, kPage | kW, Access::kWrite, Who::kSupervisor, 2},
    {"UserReadsSupervisorPage", kTo | kAll, kPage | kP | kW, Access::kRead, Who::kUser, 5},
    {"UserReadsBelowSupervisorDirectory", kTo | kP | kW, kPage | kAll, Access::kRead, Who::kUser,
     5},
    {"UserWritesReadOnly", kTo | kAll, kPage | kP | kU, Access::kWrite, Who::kUser, 7},
    {"UserWritesBelowReadOnlyDirectory", kTo | kP | kU, kPage | kAll, Access::kWrite, Who::kUser,
     7},
    {"SupervisorWritesReadOnly", kTo | kAll, kPage | kP, Access::kWrite, Who::kSupervisor, 3},
    {"NoWpSupervisor", kTo | kAll, kPage | kP, Access::kWrite, Who::kSupervisor, kOk, false},
    {"NoWpUser", kTo | kAll, kPage | kP | kU, Access::kWrite, Who::kUser, 7, false},
    {"SupervisorReadsUserPage", kTo | kAll, kPage | kAll, Access::kRead, Who::kSupervisor, kOk},
    {"UserFetches", kTo | kAll, kPage | kP | kU, Access::kExecute, Who::kUser, kOk},
    {"TableEntryPat", kTo | kAll, kPage | kAll | kPs, Access::kRead, Who::kUser, kOk},
};

class WalkRights : public testing::TestWithParam<Case> {};

TEST_P(WalkRights, TwoLevel) {
  const Case& c = GetParam();
  GuestTables guest;
  guest.put32(kDirectoryEntry, c.directory_entry);
  guest.put32(kTableEntry, c.table_entry);
  PagingContext context = GuestTables::two_level(kDirectory);
  context.write_protect = c.wp;
  const auto walk = walk_page(context, guest.memory(), {kLinear}, c.access, c.who == Who::kUser);
  ASSERT_EQ(walk.ok(), c.error == kOk);
  if (walk.ok()) {
    EXPECT_EQ(walk->address, Physical{kTarget + 0x123});
    EXPECT_EQ(walk->steps, 2);
    EXPECT_EQ(walk->step[0].entry, Physical{kDirectoryEntry});
    EXPECT_EQ(walk->step[1].entry, Physical{kTableEntry});
  } else {
    EXPECT_EQ(walk.fault(), Fault::page(kLinear, static_cast<uint32_t>(c.error)));
  }
}

// With NXE a fetch fault also carries the fetch bit; none of these cases is one.
TEST_P(WalkRights, Pae) {
  const Case& c = GetParam();
  GuestTables guest;
  guest.put64(kPaeDirectoryEntry, c.directory_entry);
  guest.put64(kPaeTableEntry, c.table_entry);
  PagingContext context = GuestTables::pae(kDirectory);
  context.write_protect = c.wp;
  const auto walk = walk_page(context, guest.memory(), {kLinear}, c.access, c.who == Who::kUser);
  ASSERT_EQ(walk.ok(), c.error == kOk);
  if (walk.ok())
    EXPECT_EQ(walk->address, Physical{kTarget + 0x123});
  else
    EXPECT_EQ(walk.fault(), Fault::page(kLinear, static_cast<uint32_t>(c.error)));
}

INSTANTIATE_TEST_SUITE_P(, WalkRights, testing::ValuesIn(kRightsCases),
                         [](const auto& test) { return std::string(test.param.name); });

class WalkTest : public testing::Test {
 protected:
  OrFault<Walk> walk(const PagingContext& context, uint32_t linear, Access access,
                     Who who = Who::kSupervisor, WalkMode mode = WalkMode::kArchitectural) {
    return walk_page(context, guest.memory(), {linear}, access, who == Who::kUser, mode);
  }
  void expect_error(const OrFault<Walk>& result, uint32_t linear, uint32_t error) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.fault(), Fault::page(linear, error));
  }

  GuestTables guest;
};

TEST_F(WalkTest, WithoutPagingAnAddressIsPhysical) {
  PagingContext context;
  const auto result = walk(context, 0x123456, Access::kWrite, Who::kUser);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->address, Physical{0x123456});
  EXPECT_EQ(result->steps, 0);
  EXPECT_TRUE(result->writable && result->user && result->dirty);
}

TEST_F(WalkTest, A20MasksTablesAndTargets) {
  PagingContext context;
  context.address_mask = ~uint64_t{1u << 20};
  EXPECT_EQ(walk(context, 0x123456, Access::kRead)->address, Physical{0x023456});
  context = GuestTables::two_level(0x101000);
  context.address_mask = ~uint64_t{1u << 20};
  guest.put32(0x1000, 0x102000 | kAll);
  guest.put32(0x2000, 0x103000 | kAll);
  const auto result = walk(context, 0x45, Access::kRead);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->address, Physical{0x3045});
  EXPECT_EQ(result->step[1].entry, Physical{0x2000});
}

TEST_F(WalkTest, AccessedAndDirtyAreSetAsHardwareDoes) {
  const PagingContext context = GuestTables::two_level(kDirectory);
  guest.put32(kDirectoryEntry, kTable | kAll);
  guest.put32(kTableEntry, kTarget | kAll);
  EXPECT_TRUE(walk(context, kLinear, Access::kWrite, Who::kUser, WalkMode::kPeek).ok());
  EXPECT_EQ(guest.get32(kDirectoryEntry), kTable | kAll);
  EXPECT_FALSE(walk(context, kLinear, Access::kRead)->dirty);
  EXPECT_EQ(guest.get32(kDirectoryEntry), kTable | kAll | kA);
  EXPECT_EQ(guest.get32(kTableEntry), kTarget | kAll | kA);
  const auto written = walk(context, kLinear, Access::kWrite);
  EXPECT_TRUE(written->dirty);
  EXPECT_EQ(written->step[1].value, kTarget | kAll | kA | kD);
  EXPECT_EQ(guest.get32(kDirectoryEntry), kTable | kAll | kA);
  EXPECT_EQ(guest.get32(kTableEntry), kTarget | kAll | kA | kD);
}

TEST_F(WalkTest, AFaultBelowLeavesTheLeafAloneButMarksTheDirectory) {
  const PagingContext context = GuestTables::two_level(kDirectory);
  guest.put32(kDirectoryEntry, kTable | kAll);
  guest.put32(kTableEntry, kTarget | kP);
  expect_error(walk(context, kLinear, Access::kWrite, Who::kUser), kLinear, 7);
  EXPECT_EQ(guest.get32(kDirectoryEntry), kTable | kAll | kA);
  EXPECT_EQ(guest.get32(kTableEntry), kTarget | kP);
}

TEST_F(WalkTest, LargePages) {
  PagingContext context = GuestTables::two_level(kDirectory);
  guest.put32(kDirectoryEntry, 0x800000 | kAll | kPs);
  const auto large = walk(context, 0x00f45678, Access::kWrite, Who::kUser);
  ASSERT_TRUE(large.ok());
  EXPECT_TRUE(large->large);
  EXPECT_EQ(large->steps, 1);
  EXPECT_EQ(large->address, Physical{0xb45678});
  EXPECT_EQ(guest.get32(kDirectoryEntry), 0x800000 | kAll | kPs | kA | kD);

  context.pse = false;  // Now it is a table at 0x800000, and PS means nothing.
  guest.put32(0x800000 + 0x345 * 4, kTarget | kAll);
  EXPECT_EQ(walk(context, 0x00f45678, Access::kRead)->address, Physical{kTarget + 0x678});
}

TEST_F(WalkTest, LargePagesHaveReservedBits) {
  PagingContext context = GuestTables::two_level(kDirectory);
  for (int bit = 13; bit <= 21; ++bit) {
    guest.put32(kDirectoryEntry, 0x800000 | kAll | kPs | 1u << bit);
    context.pse36 = false;
    expect_error(walk(context, kLinear, Access::kRead, Who::kUser), kLinear, 0xd);
    context.pse36 = true;
    EXPECT_EQ(walk(context, kLinear, Access::kRead).ok(), bit != 21);
  }
  guest.put32(kDirectoryEntry, 0x800000 | kAll | kPs | 1u << 12);  // PAT.
  EXPECT_TRUE(walk(context, kLinear, Access::kRead).ok());
}

TEST_F(WalkTest, Pse36ReachesAboveFourGibibytes) {
  PagingContext context = GuestTables::two_level(kDirectory);
  context.pse36 = true;
  guest.put32(kDirectoryEntry, 0x00800000 | 0xa5u << 13 | kAll | kPs);
  EXPECT_EQ(walk(context, kLinear, Access::kRead)->address, Physical{0xa500803123});
}

TEST_F(WalkTest, PaeUsesTheDirectoryOfTheAddressesQuarter) {
  PagingContext context = GuestTables::pae(kDirectory);
  guest.put64(kDirectory + 2 * kPageSize + 5 * 8, kTable | kAll);
  guest.put64(kTable + 7 * 8, 0x1234567000 | kAll);
  const uint32_t linear = 2u << 30 | 5u << 21 | 7u << 12 | 0xabc;
  EXPECT_EQ(walk(context, linear, Access::kRead, Who::kUser)->address, Physical{0x1234567abc});
  context.pdpte[2] &= ~kP;
  expect_error(walk(context, linear, Access::kRead, Who::kUser), linear, 4);
  EXPECT_EQ(guest.get64(kTable + 7 * 8), 0x1234567000 | kAll | kA);
}

TEST_F(WalkTest, PaeLargePages) {
  const PagingContext context = GuestTables::pae(kDirectory);
  guest.put64(kPaeDirectoryEntry, 0x1200600000 | kAll | kPs);
  const auto large = walk(context, 0x00d45678, Access::kWrite, Who::kUser);
  ASSERT_TRUE(large.ok());
  EXPECT_TRUE(large->large);
  EXPECT_EQ(large->address, Physical{0x1200745678});
  EXPECT_EQ(guest.get64(kPaeDirectoryEntry), 0x1200600000 | kAll | kPs | kA | kD);
  for (int bit = 13; bit <= 20; ++bit) {
    guest.put64(kPaeDirectoryEntry, 0x600000 | kAll | kPs | uint64_t{1} << bit);
    expect_error(walk(context, kLinear, Access::kWrite, Who::kUser), kLinear, 0xf);
  }
}

TEST_F(WalkTest, PaeBitsAboveThePhysicalAddressAreReserved) {
  const PagingContext context = GuestTables::pae(kDirectory);
  for (uint32_t bit = kPhysicalBits; bit < 63; ++bit) {
    guest.put64(kPaeDirectoryEntry, kTable | kAll);
    guest.put64(kPaeTableEntry, kTarget | kAll | uint64_t{1} << bit);
    expect_error(walk(context, kLinear, Access::kRead, Who::kUser), kLinear, 0xd);
    guest.put64(kPaeDirectoryEntry, kTable | kAll | uint64_t{1} << bit);
    expect_error(walk(context, kLinear, Access::kRead), kLinear, 9);
  }
}

TEST_F(WalkTest, ReservedBitsBeginWhereTheModelsAddressesEnd) {
  PagingContext context = GuestTables::pae(kDirectory);
  context.physical_bits = 36;
  guest.put64(kPaeDirectoryEntry, kTable | kAll);
  guest.put64(kPaeTableEntry, uint64_t{1} << 35 | kAll);
  EXPECT_TRUE(walk(context, kLinear, Access::kRead).ok());
  guest.put64(kPaeTableEntry, uint64_t{1} << 36 | kAll);
  expect_error(walk(context, kLinear, Access::kRead), kLinear, 9);

  context = GuestTables::two_level(kDirectory);
  context.pse36 = true;
  context.physical_bits = 36;
  guest.put32(kDirectoryEntry, 1u << 16 | kAll | kPs);
  EXPECT_TRUE(walk(context, kLinear, Access::kRead).ok());
  guest.put32(kDirectoryEntry, 1u << 17 | kAll | kPs);
  expect_error(walk(context, kLinear, Access::kRead), kLinear, 9);
}

TEST_F(WalkTest, NoExecute) {
  PagingContext context = GuestTables::pae(kDirectory);
  for (const bool in_directory : {false, true}) {
    guest.put64(kPaeDirectoryEntry, kTable | kAll | (in_directory ? kNx : 0));
    guest.put64(kPaeTableEntry, kTarget | kAll | (in_directory ? 0 : kNx));
    context.nxe = true;
    expect_error(walk(context, kLinear, Access::kExecute, Who::kUser), kLinear, 0x15);
    expect_error(walk(context, kLinear, Access::kExecute), kLinear, 0x11);
    const auto read = walk(context, kLinear, Access::kRead, Who::kUser);
    ASSERT_TRUE(read.ok());
    EXPECT_FALSE(read->executable);
    context.nxe = false;  // Then the bit is reserved, and a fetch is not told from a read.
    expect_error(walk(context, kLinear, Access::kExecute, Who::kUser), kLinear, 0xd);
  }
}

TEST_F(WalkTest, FetchFaultsSayFetchOnlyWithNxe) {
  PagingContext context = GuestTables::pae(kDirectory);
  expect_error(walk(context, kLinear, Access::kExecute, Who::kUser), kLinear, 0x14);
  context.nxe = false;
  expect_error(walk(context, kLinear, Access::kExecute, Who::kUser), kLinear, 4);
  expect_error(walk(GuestTables::two_level(kDirectory), kLinear, Access::kExecute), kLinear, 0);
}

TEST_F(WalkTest, TablesInRomAreReadAndTakeNoMarks) {
  std::vector<std::byte> rom(2 * kPageSize);
  const uint32_t directory = 0xf1000 | kAll, page = kTarget | kAll;
  std::memcpy(&rom[0], &directory, 4);
  std::memcpy(&rom[kPageSize], &page, 4);
  ASSERT_TRUE(guest.memory().map_rom({0xf0000}, rom).ok());
  const auto result = walk(GuestTables::two_level(0xf0000), 0x10, Access::kWrite, Who::kUser);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->address, Physical{kTarget + 0x10});
  EXPECT_EQ(guest.get32(0xf1000), page);
}

TEST_F(WalkTest, TablesWhereNothingIsReadAsOnes) {
  PagingContext context = GuestTables::two_level(0x80000000);
  expect_error(walk(context, kLinear, Access::kRead), kLinear, 9);  // A large page's reserved bits.
  context.pse = false;
  const auto result = walk(context, kLinear, Access::kRead, Who::kUser);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->address, Physical{0xfffff123});
}

TEST(PagingContextTest, ComesFromTheControlRegisters) {
  CpuModel model;
  model.features = static_cast<uint32_t>(Feature::kPse36);
  model.physical_bits = 36;
  CpuState state;
  state.cr3 = 0x12345fff;
  state.pdpte = {1, 2, 3, 4};
  state.msr.efer = efer::kNxe;
  state.cr4 = cr4::kPse;
  EXPECT_EQ(PagingContext::from(state, model), PagingContext{});
  state.cr0 |= cr0::kPe | cr0::kPg | cr0::kWp;
  PagingContext context = PagingContext::from(state, model);
  EXPECT_TRUE(context.paging && context.pse && context.pse36 && context.write_protect);
  EXPECT_FALSE(context.pae || context.nxe);
  EXPECT_EQ(context.root, 0x12345000u);
  EXPECT_EQ(context.physical_bits, 36);
  state.cr4 |= cr4::kPae;
  context = PagingContext::from(state, model);
  EXPECT_TRUE(context.pae && context.nxe);
  EXPECT_EQ(context.pdpte, state.pdpte);
  state.cr3 = 0x1000;  // The registers count, not CR3.
  EXPECT_EQ(PagingContext::from(state, model), context);
}

}  // namespace
}  // namespace trapline
