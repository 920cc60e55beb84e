// From a miss to an entry: what resolve() answers and what it leaves in the tables.
#include "tests/unit/shadowmmu/mmu_fixture.h"

namespace trapline {
namespace {

using namespace entry;
using Kind = Resolution::Kind;

class FillTest : public MmuTest {};

TEST_F(FillTest, ReadingFillsTheReadTable) {
  map_two_level(kDirectory, 1, kAll);
  View& view = activate(kDirectory);
  EXPECT_EQ(view.read_entry(kBasePage), 0u);
  const Resolution r = resolve(view, kBase + 0x123, Access::kRead);
  EXPECT_EQ(r.kind, Kind::kHost);
  EXPECT_EQ(r.host, host_of(kData + 0x123));
  EXPECT_EQ(r.address, Physical{kData + 0x123});
  EXPECT_EQ(target(view.read_entry(kBasePage), kBasePage), host_of(kData));
  EXPECT_EQ(view.write_entry(kBasePage), 0u) << "D is not set yet";
  EXPECT_EQ(guest.get32(kTable), kData | kAll | kA);
  EXPECT_EQ(mmu.counters().fills, 1u);
}

TEST_F(FillTest, WritingFillsBothAndSetsDirty) {
  map_two_level(kDirectory, 1, kAll);
  View& view = activate(kDirectory, true);
  EXPECT_EQ(resolve(view, kBase, Access::kWrite).kind, Kind::kHost);
  EXPECT_EQ(target(view.write_entry(kBasePage), kBasePage), host_of(kData));
  EXPECT_EQ(view.read_entry(kBasePage), view.write_entry(kBasePage));
  EXPECT_EQ(guest.get32(kTable), kData | kAll | kA | kD);
}

TEST_F(FillTest, ReadingADirtyWritablePageFillsBoth) {
  map_two_level(kDirectory, 1, kAll | kD);
  View& view = activate(kDirectory);
  resolve(view, kBase, Access::kRead);
  EXPECT_NE(view.write_entry(kBasePage), 0u);
}

TEST_F(FillTest, AReadOnlyPageIsWritableForTheSupervisorWithoutWriteProtect) {
  map_two_level(kDirectory, 1, kP | kU | kD);
  PagingContext context = GuestTables::two_level(kDirectory);
  View& strict = mmu.activate(context, false);
  context.write_protect = false;
  View& lax = mmu.activate(context, false);
  View& user = mmu.activate(context, true);
  EXPECT_NE(&strict, &lax);
  for (View* view : {&strict, &lax, &user}) resolve(*view, kBase, Access::kRead);
  EXPECT_EQ(strict.write_entry(kBasePage), 0u);
  EXPECT_NE(lax.write_entry(kBasePage), 0u);
  EXPECT_EQ(user.write_entry(kBasePage), 0u);
  EXPECT_TRUE(faults(strict, kBase, Access::kWrite));
  EXPECT_TRUE(faults(user, kBase, Access::kWrite));
  context.write_protect = true;
  EXPECT_EQ(&mmu.activate(context, true), &user) << "WP means nothing to user mode";
}

TEST_F(FillTest, UserAndSupervisorSeeTheirOwn) {
  map_two_level(kDirectory, 1, kP | kW);
  View& kernel = activate(kDirectory);
  View& user = activate(kDirectory, true);
  EXPECT_NE(&kernel, &user);
  EXPECT_FALSE(kernel.user());
  EXPECT_TRUE(user.user());
  resolve(kernel, kBase, Access::kRead);
  const auto refused = mmu.resolve(user, {kBase}, Access::kRead);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.fault(), Fault::page(kBase, 5));
  EXPECT_EQ(user.read_entry(kBasePage), 0u);
}

TEST_F(FillTest, WithoutPagingMemoryIsIdentityAndNothingIsTraced) {
  View& view = mmu.activate(PagingContext{}, false);
  EXPECT_EQ(resolve(view, 0x123456, Access::kWrite).address, Physical{0x123456});
  EXPECT_EQ(target(view.write_entry(0x123), 0x123), host_of(0x123000));
  PagingContext masked;
  masked.address_mask = ~uint64_t{1u << 20};
  View& wrapped = mmu.activate(masked, false);
  EXPECT_EQ(resolve(wrapped, 0x123456, Access::kWrite).address, Physical{0x023456});
  EXPECT_EQ(mmu.counters().traces_set, 0u);
}

TEST_F(FillTest, LargePagesFillPageByPage) {
  guest.put32(kDirectory + 3 * 4, kData | kAll | kPs);
  View& view = activate(kDirectory);
  EXPECT_EQ(resolve(view, kBase + 0x12345, Access::kWrite).host, host_of(kData + 0x12345));
  EXPECT_NE(view.write_entry(kBasePage + 0x12), 0u);
  EXPECT_EQ(view.read_entry(kBasePage + 0x11), 0u);
}

class Echo final : public MmioHandler {
 public:
  uint64_t mmio_read(Physical address, uint32_t size) override { return address.value * 16 + size; }
  void mmio_write(Physical address, uint32_t size, uint64_t value) override {
    last = address.value;
    last_size = size;
    last_value = value;
  }
  uint64_t last = 0, last_value = 0;
  uint32_t last_size = 0;
};

TEST_F(FillTest, DevicesAndNothingGetNoEntries) {
  Echo device;
  ASSERT_TRUE(guest.memory().map_mmio({0xe0000000}, kPageSize, device).ok());
  guest.put32(kDirectory + 3 * 4, kTable | kAll);
  guest.put32(kTable, 0xe0000000 | kAll);
  guest.put32(kTable + 4, 0xd0000000 | kAll);
  View& view = activate(kDirectory);
  for (const Access access : {Access::kRead, Access::kWrite, Access::kExecute}) {
    const Resolution r = resolve(view, kBase + 8, access);
    EXPECT_EQ(r.kind, Kind::kMmio);
    EXPECT_EQ(r.address, Physical{0xe0000008});
    EXPECT_EQ(resolve(view, kBase + 0x1008, access).kind, Kind::kAbsent);
  }
  EXPECT_EQ(view.read_entry(kBasePage) | view.write_entry(kBasePage), 0u);
  EXPECT_EQ(view.read_entry(kBasePage + 1) | view.write_entry(kBasePage + 1), 0u);
  EXPECT_EQ(mmu.load({0xe0000008}, 4), 0xe00000084u);
  mmu.store({0xe0000010}, 2, 0x1234);
  EXPECT_EQ(device.last, 0xe0000010u);
  EXPECT_EQ(device.last_size, 2u);
  EXPECT_EQ(device.last_value, 0x1234u);
  EXPECT_EQ(mmu.load({0xd0000000}, 2), 0xffffu);
  EXPECT_EQ(mmu.load({0xd0000000}, 8), ~uint64_t{0});
  mmu.store({0xd0000000}, 4, 1);
}

TEST_F(FillTest, DevicesAreWalkedToOnceForEachKindOfAccess) {
  Echo device;
  ASSERT_TRUE(guest.memory().map_mmio({0xe0000000}, kPageSize, device).ok());
  map_two_level(kDirectory, 1, kAll);
  guest.put32(kTable, 0xe0000000 | kP | kW);
  View& view = activate(kDirectory);
  const auto walks = [&](Access access) {
    const uint64_t before = mmu.counters().walks;
    EXPECT_EQ(resolve(view, kBase + 0x20, access).kind, Kind::kMmio);
    return mmu.counters().walks - before;
  };
  EXPECT_EQ(walks(Access::kRead), 1u);
  EXPECT_EQ(guest.get32(kTable) & (kA | kD), kA);
  EXPECT_EQ(walks(Access::kWrite), 1u);
  EXPECT_EQ(guest.get32(kTable) & (kA | kD), kA | kD);
  EXPECT_EQ(walks(Access::kRead) + walks(Access::kWrite), 0u);
  EXPECT_TRUE(traced(kTable));

  mmu.store({kTable}, 4, kData | kAll);
  EXPECT_EQ(resolve(view, kBase + 0x20, Access::kWrite).host, host_of(kData + 0x20));
  mmu.store({kTable}, 4, 0xe0000000 | kAll);
  EXPECT_EQ(view.read_entry(kBasePage) | view.write_entry(kBasePage), 0u);
  EXPECT_EQ(walks(Access::kRead), 1u);
  mmu.store({kTable}, 4, 0);
  EXPECT_TRUE(faults(view, kBase + 0x20, Access::kRead));
}

TEST_F(FillTest, RomIsReadAndRunButNeverWritten) {
  ASSERT_TRUE(guest.memory().map_rom({0xf0000}, std::vector<std::byte>(kPageSize)).ok());
  View& view = mmu.activate(PagingContext{}, false);
  EXPECT_EQ(resolve(view, 0xf0010, Access::kRead).kind, Kind::kHost);
  EXPECT_EQ(resolve(view, 0xf0010, Access::kExecute).kind, Kind::kHost);
  EXPECT_EQ(resolve(view, 0xf0010, Access::kWrite).kind, Kind::kAbsent);
  EXPECT_NE(view.read_entry(0xf0), 0u);
  EXPECT_EQ(view.write_entry(0xf0), 0u);
  mmu.store({0xf0010}, 4, 7);
  EXPECT_EQ(mmu.load({0xf0010}, 4), 0u);
}

TEST_F(FillTest, ExecutionIsDerivedButFillsNothing) {
  guest.put64(kDirectory + 6 * 8, kTable | kAll);
  guest.put64(kTable, kData | kAll | kNx);
  guest.put64(kTable + 8, (kData + kPageSize) | kAll);
  View& view = mmu.activate(GuestTables::pae(kDirectory), true);
  EXPECT_EQ(mmu.resolve(view, {kBase}, Access::kExecute).fault(), Fault::page(kBase, 0x15));
  EXPECT_EQ(resolve(view, kBase + 0x1004, Access::kExecute).host, host_of(kData + 0x1004));
  EXPECT_EQ(view.read_entry(kBasePage + 1), 0u);
  const uint64_t walks = mmu.counters().walks;
  EXPECT_EQ(resolve(view, kBase + 0x1008, Access::kExecute).host, host_of(kData + 0x1008));
  EXPECT_EQ(mmu.counters().walks, walks) << "asking again costs no walk";
  mmu.store({kTable + 8}, 8, 0);
  ASSERT_EQ(seen.pages.size(), 1u);
  EXPECT_EQ(seen.pages[0], std::pair(view.serial(), kBasePage + 1));
}

TEST_F(FillTest, AnAliasIsAnotherPageOfTheSameFrame) {
  map_two_level(kDirectory, 2, kAll | kD);
  guest.put32(kTable + 4, kData | kAll | kD);
  View& view = activate(kDirectory);
  resolve(view, kBase, Access::kWrite);
  resolve(view, kBase + kPageSize, Access::kWrite);
  mmu.deny_writes(kData >> kPageShift, denial::kWatch);
  EXPECT_EQ(view.write_entry(kBasePage), 0u);
  EXPECT_EQ(view.write_entry(kBasePage + 1), 0u);
}

TEST_F(FillTest, TablesThatChangeUntilTheyAreTracedAreWalkedAgain) {
  constexpr uint32_t kOther = 0x6000;
  map_two_level(kDirectory, 1, kAll | kD);
  guest.put32(kOther, (kData + kPageSize) | kAll | kD);
  View& view = activate(kDirectory);
  seen.before_denied = [&](uint64_t frame) {
    EXPECT_EQ(frame, kDirectory >> kPageShift);
    guest.put32(kDirectory + 3 * 4, kOther | kAll);
    seen.before_denied = [&](uint64_t) { guest.put32(kTable, 0); };
  };
  EXPECT_EQ(resolve(view, kBase, Access::kRead).address, Physical{kData + kPageSize});
  EXPECT_TRUE(traced(kOther));
  EXPECT_FALSE(traced(kTable));
  mmu.store({kOther}, 4, 0);
  seen.before_denied = [&](uint64_t) { guest.put32(kOther + 4, 0); };
  guest.put32(kOther + 4, kData | kAll | kD);
  EXPECT_TRUE(faults(view, kBase + kPageSize, Access::kRead));
}

}  // namespace
}  // namespace trapline
