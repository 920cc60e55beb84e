// The ways back: guest writes to page tables, denials, recycling, changes of the physical map.
#include <algorithm>

#include "tests/unit/shadowmmu/mmu_fixture.h"

namespace trapline {
namespace {

using namespace entry;
using Kind = Resolution::Kind;

class DropTest : public MmuTest {
 protected:
  /// Makes read and write entries for the first `pages` pages from kBase on.
  void fill(View& view, uint32_t pages) {
    for (uint32_t i = 0; i < pages; ++i) resolve(view, kBase + i * kPageSize, Access::kWrite);
  }
  uint64_t both(View& view, uint32_t page) {
    return view.read_entry(page) | view.write_entry(page);
  }
};

TEST_F(DropTest, AWriteToATableEntryDropsThatPageOnly) {
  map_two_level(kDirectory, 3, kAll);
  View& view = activate(kDirectory);
  fill(view, 3);
  const uint64_t removals = mmu.removals();
  mmu.store({kTable + 4}, 4, (kData + 0x9000) | kAll);
  EXPECT_NE(both(view, kBasePage), 0u);
  EXPECT_EQ(both(view, kBasePage + 1), 0u);
  EXPECT_NE(both(view, kBasePage + 2), 0u);
  EXPECT_GT(mmu.removals(), removals);
  ASSERT_EQ(seen.pages.size(), 1u);
  EXPECT_EQ(seen.pages[0], std::pair(view.serial(), kBasePage + 1));
  EXPECT_EQ(resolve(view, kBase + 0x1000, Access::kRead).host, host_of(kData + 0x9000));
}

TEST_F(DropTest, TheLastPageThatGoesIsTold) {
  map_two_level(kDirectory, 3, kAll);
  View& view = activate(kDirectory);
  fill(view, 3);
  mmu.store({kTable + 4}, 4, 0);
  mmu.store({kTable}, 4, 0);
  EXPECT_TRUE(seen.emptied.empty());
  mmu.store({kTable + 8}, 4, 0);
  EXPECT_EQ(seen.emptied, std::vector{&view});
  map_two_level(kDirectory, 1, kAll);
  fill(view, 1);
  mmu.store({kDirectory + 3 * 4}, 4, 0);
  EXPECT_EQ(seen.emptied.size(), 2u);
  map_two_level(kDirectory, 1, kAll);
  fill(view, 1);
  mmu.map_changed();
  EXPECT_EQ(seen.emptied.size(), 2u) << "that is told otherwise";
}

TEST_F(DropTest, AnUnalignedWriteReachesTwoEntriesAndAWideOneToo) {
  map_two_level(kDirectory, 8, kAll);
  View& view = activate(kDirectory);
  fill(view, 8);
  mmu.store({kTable + 6}, 4, 0);   // Entries 1 and 2.
  mmu.store({kTable + 16}, 8, 0);  // Entries 4 and 5.
  for (const uint32_t gone : {1u, 2u, 4u, 5u}) EXPECT_EQ(both(view, kBasePage + gone), 0u) << gone;
  for (const uint32_t kept : {0u, 3u, 6u, 7u}) EXPECT_NE(both(view, kBasePage + kept), 0u) << kept;
}

TEST_F(DropTest, AByteWriteToAnEntryCounts) {
  map_two_level(kDirectory, 2, kAll);
  View& view = activate(kDirectory);
  fill(view, 2);
  mmu.store({kTable + 4 + 2}, 1, 0x77);
  EXPECT_NE(both(view, kBasePage), 0u);
  EXPECT_EQ(both(view, kBasePage + 1), 0u);
}

TEST_F(DropTest, ADirectoryEntryDropsItsRegion) {
  map_two_level(kDirectory, 3, kAll);
  guest.put32(kDirectory + 4 * 4, 0x6000 | kAll);
  guest.put32(0x6000, kData | kAll);
  View& view = activate(kDirectory);
  fill(view, 3);
  resolve(view, 4 << 22, Access::kWrite);
  mmu.store({kDirectory + 3 * 4}, 4, 0);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(both(view, kBasePage + i), 0u);
  EXPECT_NE(both(view, 4 << 10), 0u);
  EXPECT_EQ(seen.pages.size(), 3u);
  EXPECT_FALSE(traced(kTable)) << "nothing is derived through it now";
  EXPECT_TRUE(traced(kDirectory));
}

TEST_F(DropTest, PaeRegionsAreTwoMebibytes) {
  guest.put64(kDirectory + 3 * kPageSize, kTable | kAll);
  guest.put64(kDirectory + 3 * kPageSize + 8, kData | kAll | kPs);
  guest.put64(kTable + 511 * 8, kData | kAll);
  View& view = mmu.activate(GuestTables::pae(kDirectory), false);
  constexpr uint32_t kTop = 3u << 18;
  resolve(view, (kTop + 511) << kPageShift, Access::kWrite);
  resolve(view, (kTop + 512) << kPageShift, Access::kWrite);
  resolve(view, (kTop + 1023) << kPageShift, Access::kRead);
  mmu.store({kTable + 511 * 8 + 4}, 4, 1u << 31);  // NX, in the upper half.
  EXPECT_EQ(both(view, kTop + 511), 0u);
  EXPECT_NE(both(view, kTop + 512), 0u);
  mmu.store({kDirectory + 3 * kPageSize + 8}, 8, 0);
  EXPECT_EQ(both(view, kTop + 512), 0u);
  EXPECT_EQ(both(view, kTop + 1023), 0u);
  EXPECT_FALSE(traced(kDirectory + 3 * kPageSize));
}

TEST_F(DropTest, BitsThatTakeNothingAwayDropNothing) {
  map_two_level(kDirectory, 1, kP | kU);
  View& view = activate(kDirectory, true);
  resolve(view, kBase, Access::kRead);
  const uint64_t removals = mmu.removals();
  uint64_t now = kData | kP | kU | kA;
  for (const uint64_t gained : {kG, uint64_t{0xe00}, uint64_t{0x18}, kW, kD})
    mmu.store({kTable}, 4, now |= gained);
  mmu.store({kDirectory + 3 * 4}, 4, kTable | kAll | kA | kD | 0xe00);
  EXPECT_EQ(mmu.removals(), removals);
  EXPECT_NE(view.read_entry(kBasePage), 0u);
  EXPECT_EQ(resolve(view, kBase, Access::kWrite).kind, Kind::kHost);
}

TEST_F(DropTest, LosingWritingKeepsReadingAndExecution) {
  map_two_level(kDirectory, 2, kAll);
  View& view = activate(kDirectory, true);
  fill(view, 2);
  resolve(view, kBase, Access::kExecute);
  const uint64_t removals = mmu.removals();
  mmu.store({kTable}, 4, kData | kP | kU | kA | kD);
  mmu.store({kTable + 4}, 4, (kData + kPageSize) | kAll | kA);  // D cleared.
  EXPECT_NE(view.read_entry(kBasePage), 0u);
  EXPECT_EQ(view.write_entry(kBasePage), 0u);
  EXPECT_EQ(view.write_entry(kBasePage + 1), 0u);
  EXPECT_GT(mmu.removals(), removals);
  EXPECT_TRUE(seen.pages.empty());
  EXPECT_TRUE(faults(view, kBase, Access::kWrite));
  resolve(view, kBase + kPageSize, Access::kWrite);
  EXPECT_EQ(guest.get32(kTable + 4) & kD, kD);
}

TEST_F(DropTest, ClearingAccessedDropsSoThatItIsSetAgain) {
  map_two_level(kDirectory, 1, kAll);
  View& view = activate(kDirectory);
  fill(view, 1);
  mmu.store({kTable}, 4, guest.get32(kTable) & ~kA);
  EXPECT_EQ(both(view, kBasePage), 0u);
  resolve(view, kBase, Access::kRead);
  EXPECT_EQ(guest.get32(kTable) & kA, kA);
  mmu.store({kDirectory + 3 * 4}, 4, guest.get32(kDirectory + 3 * 4) & ~kA);
  EXPECT_EQ(both(view, kBasePage), 0u);
}

TEST_F(DropTest, LargePagesLoseWritingOrEverything) {
  guest.put32(kDirectory + 3 * 4, kData | kAll | kPs);
  View& view = activate(kDirectory);
  fill(view, 2);
  mmu.store({kDirectory + 3 * 4}, 4, kData | kP | kU | kPs | kA | kD);
  EXPECT_EQ(view.write_entry(kBasePage) | view.write_entry(kBasePage + 1), 0u);
  EXPECT_NE(view.read_entry(kBasePage), 0u);
  mmu.store({kDirectory + 3 * 4}, 4, (kData + 0x400000) | kP | kU | kPs | kA | kD);
  EXPECT_EQ(both(view, kBasePage) | both(view, kBasePage + 1), 0u);
}

TEST_F(DropTest, TracingDeniesWritesAndEndsWithTheLastEntry) {
  map_two_level(kDirectory, 2, kAll);
  guest.put32(kTable + 2 * 4, kTable | kAll);  // The third page maps the table itself.
  View& view = activate(kDirectory);
  resolve(view, kBase, Access::kRead);
  EXPECT_TRUE(traced(kDirectory));
  EXPECT_TRUE(traced(kTable));
  const Resolution self = resolve(view, kBase + 0x2008, Access::kWrite);
  EXPECT_EQ(self.kind, Kind::kDenied);
  EXPECT_EQ(self.denials, denial::kPageTable);
  EXPECT_EQ(self.host, host_of(kTable + 8));
  EXPECT_NE(view.read_entry(kBasePage + 2), 0u);
  EXPECT_EQ(view.write_entry(kBasePage + 2), 0u);
  mmu.store(self.address, 4, 0);  // Its own entry: nothing but the first page is left.
  EXPECT_EQ(both(view, kBasePage + 2), 0u);
  EXPECT_NE(both(view, kBasePage), 0u);
  mmu.store({kTable}, 4, 0);
  EXPECT_FALSE(traced(kTable));
  EXPECT_FALSE(traced(kDirectory));
  EXPECT_EQ(mmu.counters().traces_cleared, 2u);
}

TEST_F(DropTest, AFrameThatBecomesATableLeavesTheWriteTables) {
  guest.put32(kDirectory + 2 * 4, kData | kAll);  // kData will be a table of its own.
  guest.put32(kData, 0x500000 | kAll);
  map_two_level(kDirectory, 1, kAll);
  View& view = activate(kDirectory);
  fill(view, 1);
  EXPECT_NE(view.write_entry(kBasePage), 0u);
  const uint64_t removals = mmu.removals();
  resolve(view, 2 << 22, Access::kRead);
  EXPECT_EQ(view.write_entry(kBasePage), 0u);
  EXPECT_NE(view.read_entry(kBasePage), 0u);
  EXPECT_GT(mmu.removals(), removals);
}

TEST_F(DropTest, RecursiveTables) {
  // The directory is also the table of its last region, and so maps itself at the very top.
  guest.put32(kDirectory + 1023 * 4, kDirectory | kAll);
  map_two_level(kDirectory, 2, kAll);
  View& view = activate(kDirectory);
  fill(view, 2);
  const uint32_t tables = 0xffc00000, directory = 0xfffff000;
  EXPECT_EQ(resolve(view, directory + 3 * 4, Access::kWrite).host, host_of(kDirectory + 12));
  const Resolution entry = resolve(view, tables + 3 * kPageSize, Access::kWrite);
  EXPECT_EQ(entry.kind, Kind::kDenied);
  EXPECT_EQ(entry.address, Physical{kTable});
  EXPECT_EQ(mmu.check_invariants(), "");
  mmu.store(entry.address, 4, 0);
  EXPECT_EQ(both(view, kBasePage), 0u);
  EXPECT_NE(both(view, kBasePage + 1), 0u);
  EXPECT_EQ(mmu.check_invariants(), "");
  // One write ends the recursion: everything at the top goes, the rest stays.
  mmu.store({kDirectory + 1023 * 4}, 4, 0);
  EXPECT_EQ(both(view, directory >> kPageShift) | both(view, (tables >> kPageShift) + 3), 0u);
  EXPECT_NE(both(view, kBasePage + 1), 0u);
}

TEST_F(DropTest, OneWriteToADirectoryThatIsItsOwnTableDropsBothWays) {
  guest.put32(kDirectory + 1023 * 4, kDirectory | kAll);
  map_two_level(kDirectory, 1, kAll);
  View& view = activate(kDirectory);
  fill(view, 1);
  resolve(view, 0xffc03000, Access::kRead);  // kTable, through the directory as a table.
  mmu.store({kDirectory + 3 * 4}, 4, 0);
  EXPECT_EQ(both(view, kBasePage), 0u);
  EXPECT_EQ(both(view, 0xffc03), 0u);
  EXPECT_FALSE(traced(kDirectory));
}

TEST_F(DropTest, ATableUsedTwiceInOneViewDropsBothPages) {
  map_two_level(kDirectory, 1, kAll);
  guest.put32(kDirectory + 8 * 4, kTable | kAll);
  View& view = activate(kDirectory);
  fill(view, 1);
  resolve(view, 8 << 22, Access::kRead);
  mmu.store({kTable}, 4, 0);
  EXPECT_EQ(both(view, kBasePage) | both(view, 8 << 10), 0u);
  EXPECT_EQ(seen.pages.size(), 2u);
  EXPECT_FALSE(traced(kTable));
}

TEST_F(DropTest, ViewsSurviveSwitchesAndShareTables) {
  map_two_level(kDirectory, 2, kAll);
  map_two_level(0x2000, 2, kAll);
  View& one = activate(kDirectory);
  fill(one, 2);
  View& two = activate(0x2000);
  EXPECT_NE(&one, &two);
  fill(two, 2);
  const uint64_t fills = mmu.counters().fills;
  EXPECT_EQ(&activate(kDirectory), &one);
  EXPECT_NE(both(one, kBasePage), 0u);
  mmu.store({kTable}, 4, 0);  // Reaches the view that is not active as well.
  EXPECT_EQ(both(one, kBasePage) | both(two, kBasePage), 0u);
  EXPECT_NE(both(two, kBasePage + 1), 0u);
  EXPECT_EQ(mmu.counters().fills, fills);
  EXPECT_EQ(mmu.counters().view_switches, 3u);
}

TEST_F(DropTest, PaeViewsBelongToTheirDirectoriesNotToCr3) {
  PagingContext context = GuestTables::pae(kDirectory);
  View& view = mmu.activate(context, false);
  context.root = 0x7000;
  EXPECT_EQ(&mmu.activate(context, false), &view);
  context.pdpte[3] = 0;
  EXPECT_NE(&mmu.activate(context, false), &view);
}

TEST_F(DropTest, TheLeastRecentViewIsRecycled) {
  map_two_level(kDirectory, 1, kAll);
  View& oldest = activate(kDirectory);
  fill(oldest, 1);
  const uint32_t serial = oldest.serial();
  View& kept = activate(0x10000);
  activate(0x11000);
  activate(0x12000);
  EXPECT_TRUE(seen.views.empty());
  View& fifth = activate(0x13000);
  ASSERT_EQ(seen.views.size(), 1u);
  EXPECT_EQ(seen.views[0], &oldest);
  EXPECT_EQ(&fifth, &oldest);
  EXPECT_NE(fifth.serial(), serial);
  EXPECT_EQ(both(fifth, kBasePage), 0u);
  EXPECT_FALSE(traced(kTable));
  EXPECT_EQ(&activate(0x10000), &kept);
  EXPECT_EQ(mmu.counters().views_recycled, 1u);
  EXPECT_EQ(mmu.counters().views_created, 4u);
  View& again = activate(kDirectory);
  resolve(again, kBase, Access::kRead);
}

TEST_F(DropTest, AWidelyUsedViewIsEmptiedToo) {
  for (uint32_t i = 0; i < 200; ++i) guest.put32(kDirectory + i * 4, kData | kAll | kPs);
  View& view = activate(kDirectory);
  for (uint32_t i = 0; i < 200; ++i) resolve(view, i << 22 | i << 12, Access::kWrite);
  mmu.map_changed();
  for (uint32_t page = 0; page < kLinearPages; ++page) ASSERT_EQ(both(view, page), 0u);
  EXPECT_EQ(mmu.check_invariants(), "");
  resolve(activate(kDirectory), 0x5000, Access::kWrite);
}

TEST_F(DropTest, TurningPaeOnEmptiesTheTwoLevelViews) {
  map_two_level(kDirectory, 1, kAll);
  View& narrow = activate(kDirectory);
  fill(narrow, 1);
  View& unpaged = mmu.activate(PagingContext{}, false);
  resolve(unpaged, 0x3000, Access::kRead);
  mmu.activate(GuestTables::pae(0x8000), false);
  EXPECT_EQ(both(narrow, kBasePage), 0u);
  EXPECT_NE(both(unpaged, 3), 0u);
  EXPECT_NE(std::find(seen.views.begin(), seen.views.end(), &narrow), seen.views.end());
}

TEST_F(DropTest, AChangedMapEmptiesEveryView) {
  View& view = mmu.activate(PagingContext{}, false);
  resolve(view, 0xf0000, Access::kWrite);
  const uint32_t serial = view.serial();
  ASSERT_TRUE(guest.memory().map_rom({0xf0000}, std::vector<std::byte>(kPageSize)).ok());
  mmu.map_changed();
  EXPECT_EQ(both(view, 0xf0), 0u);
  EXPECT_EQ(seen.views, std::vector<View*>{&view});
  View& again = mmu.activate(PagingContext{}, false);
  EXPECT_NE(again.serial(), serial);
  EXPECT_EQ(resolve(again, 0xf0000, Access::kWrite).kind, Kind::kAbsent);
}

TEST_F(DropTest, DenialsOfCodeTakeWritingAtOnceAndGiveItBackOnDemand) {
  map_two_level(kDirectory, 1, kAll);
  View& kernel = activate(kDirectory);
  fill(kernel, 1);
  View& user = activate(kDirectory, true);
  fill(user, 1);
  const uint64_t removals = mmu.removals();
  mmu.deny_writes(kData >> kPageShift, denial::kCode);
  EXPECT_EQ(mmu.removals(), removals + 2);
  EXPECT_EQ(kernel.write_entry(kBasePage) | user.write_entry(kBasePage), 0u);
  EXPECT_NE(kernel.read_entry(kBasePage), 0u);
  const Resolution denied = resolve(user, kBase + 4, Access::kWrite);
  EXPECT_EQ(denied.kind, Kind::kDenied);
  EXPECT_EQ(denied.denials, denial::kCode);
  mmu.deny_writes(kData >> kPageShift, denial::kWatch);
  mmu.allow_writes(kData >> kPageShift, denial::kCode);
  EXPECT_EQ(resolve(user, kBase + 4, Access::kWrite).kind, Kind::kDenied);
  mmu.allow_writes(kData >> kPageShift, denial::kWatch);
  EXPECT_EQ(resolve(user, kBase + 4, Access::kWrite).kind, Kind::kHost);
  EXPECT_NE(user.write_entry(kBasePage), 0u);
}

}  // namespace
}  // namespace trapline
