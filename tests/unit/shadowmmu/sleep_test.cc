// Views that are not active while their directories are written.
#include <algorithm>
#include <vector>

#include "tests/unit/shadowmmu/mmu_fixture.h"

namespace trapline {
namespace {

using namespace entry;

class SleepTest : public MmuTest {
 protected:
  static constexpr uint32_t kOther = 0x2000;  ///< Another directory.
  static constexpr uint32_t kLarge = 0x08000000;
  static constexpr uint32_t kLargePage = kLarge >> kPageShift;
  static constexpr uint32_t kPlace = kDirectory + 3 * 4;  ///< Of the entry for kBase.
  static constexpr uint32_t kLargePlace = kDirectory + (kLarge >> 22) * 4;

  /// Two pages behind a table and two of a large page, all written.
  View& derive(bool user = false) {
    map_two_level(kDirectory, 2, kAll);
    guest.put32(kLargePlace, kData | kAll | kPs);
    View& view = activate(kDirectory, user);
    for (const uint32_t page : {kBasePage, kBasePage + 1, kLargePage, kLargePage + 1})
      resolve(view, page << kPageShift, Access::kWrite);
    return view;
  }
  static uint64_t both(const View& view, uint32_t page) {
    return view.read_entry(page) | view.write_entry(page);
  }
  /// What a kernel does with a page before anything else.
  void clear(uint32_t frame) {
    for (uint32_t i = 0; i < kPageSize; i += 4) mmu.store({frame + i}, 4, 0);
  }
  void leave() {
    activate(kOther);
    activate(kOther, true);
    seen.clear();
  }
};

TEST_F(SleepTest, WhatComesBackAsItWasHasNeverGone) {
  View& view = derive();
  const uint32_t table = guest.get32(kPlace), large = guest.get32(kLargePlace);
  leave();
  const uint64_t fills = mmu.counters().fills;
  clear(kDirectory);
  EXPECT_FALSE(traced(kDirectory));
  EXPECT_TRUE(traced(kTable)) << "its pages are still derived";
  EXPECT_EQ(mmu.check_invariants(), "");
  mmu.store({kPlace}, 4, table);
  mmu.store({kLargePlace}, 4, large);
  EXPECT_EQ(&activate(kDirectory), &view);
  EXPECT_TRUE(traced(kDirectory));
  for (const uint32_t page : {kBasePage, kBasePage + 1, kLargePage, kLargePage + 1})
    EXPECT_NE(view.write_entry(page), 0u);
  EXPECT_TRUE(seen.pages.empty());
  EXPECT_EQ(mmu.counters().fills, fills);
  EXPECT_EQ(mmu.counters().sleeps, 1u);
}

TEST_F(SleepTest, WhatHasChangedIsGoneOnceItIsActive) {
  View& view = derive();
  const uint32_t large = guest.get32(kLargePlace);
  leave();
  clear(kDirectory);
  mmu.store({kLargePlace}, 4, large);
  mmu.store({kPlace}, 4, 0x6000 | kAll);
  EXPECT_TRUE(seen.pages.empty());
  const uint64_t removals = mmu.removals();
  activate(kDirectory);
  EXPECT_GT(mmu.removals(), removals);
  EXPECT_EQ(both(view, kBasePage) | both(view, kBasePage + 1), 0u);
  EXPECT_NE(view.write_entry(kLargePage), 0u);
  EXPECT_EQ(seen.pages.size(), 2u);
  EXPECT_FALSE(traced(kTable));
  EXPECT_TRUE(faults(view, kBase, Access::kRead));
}

TEST_F(SleepTest, NothingIsLeftOfAClearedDirectory) {
  View& view = derive();
  leave();
  clear(kDirectory);
  activate(kDirectory);
  for (const uint32_t page : {kBasePage, kBasePage + 1, kLargePage, kLargePage + 1})
    EXPECT_EQ(both(view, page), 0u);
  EXPECT_EQ(seen.pages.size(), 4u);
  EXPECT_FALSE(traced(kDirectory));
  EXPECT_FALSE(traced(kTable));
}

TEST_F(SleepTest, TheFirstWriteCountsAsOneInItsSleep) {
  View& view = derive();
  leave();
  mmu.store({kPlace + 1}, 1, 0x60);  // Another table.
  EXPECT_FALSE(traced(kDirectory));
  activate(kDirectory);
  EXPECT_EQ(both(view, kBasePage), 0u);
  EXPECT_NE(both(view, kLargePage), 0u);
}

TEST_F(SleepTest, WritingIsLostByItself) {
  View& view = derive();
  leave();
  mmu.store({kLargePlace}, 4, guest.get32(kLargePlace) & ~kW);
  EXPECT_NE(view.write_entry(kLargePage), 0u);
  activate(kDirectory);
  EXPECT_EQ(view.write_entry(kLargePage) | view.write_entry(kLargePage + 1), 0u);
  EXPECT_NE(view.read_entry(kLargePage), 0u);
  EXPECT_NE(view.write_entry(kBasePage), 0u);
}

TEST_F(SleepTest, TablesAreStillFollowed) {
  View& view = derive();
  leave();
  mmu.store({kDirectory + 4}, 4, 1);
  mmu.store({kLargePlace}, 4, 0);
  ASSERT_FALSE(traced(kDirectory));
  mmu.store({kTable + 4}, 4, 0);
  EXPECT_EQ(seen.pages, (std::vector{std::pair(view.serial(), kBasePage + 1)}));
  activate(kDirectory);
  EXPECT_NE(both(view, kBasePage), 0u);
  EXPECT_EQ(both(view, kBasePage + 1), 0u);
}

TEST_F(SleepTest, ATableIsLetGoWhenItsFrameIsPutToAnotherUse) {
  View& view = derive();
  leave();
  mmu.store({kLargePlace}, 4, 0);
  for (uint32_t i = 100; i < 110; ++i) mmu.store({kTable + i * 4}, 4, i);
  EXPECT_TRUE(traced(kTable));
  for (uint32_t i = 110; i < 120; ++i) mmu.store({kTable + i * 4}, 4, i);
  EXPECT_FALSE(traced(kTable));
  EXPECT_EQ(both(view, kBasePage), 0u);
  EXPECT_EQ(seen.pages.size(), 2u);
}

TEST_F(SleepTest, ADirectoryIsLetGoWhenItsFrameIsPutToAnotherUse) {
  derive();
  for (uint32_t i = 100; i < 200; ++i) mmu.store({kDirectory + i * 4}, 4, i);
  EXPECT_TRUE(traced(kDirectory)) << "it is the active one";
  leave();
  for (uint32_t i = 100; i < 110; ++i) mmu.store({kDirectory + i * 4}, 4, 0);
  EXPECT_TRUE(traced(kDirectory));
  for (uint32_t i = 110; i < 130; ++i) mmu.store({kDirectory + i * 4}, 4, 0);
  EXPECT_FALSE(traced(kDirectory));
}

TEST_F(SleepTest, ActiveViewsDoNotSleep) {
  View& user = derive(true);
  View& supervisor = derive();
  activate(kOther);
  seen.clear();
  mmu.store({kLargePlace}, 4, 0);  // The user's view may be wanted again without a word.
  EXPECT_EQ(both(user, kLargePage), 0u);
  EXPECT_NE(both(supervisor, kLargePage), 0u);
  EXPECT_TRUE(traced(kDirectory));
  activate(kDirectory);
  EXPECT_EQ(both(supervisor, kLargePage), 0u);
  EXPECT_EQ(seen.pages.size(), 4u);
}

TEST_F(SleepTest, DenialsReachThem) {
  View& view = derive();
  const uint32_t large = guest.get32(kLargePlace);
  leave();
  clear(kDirectory);
  mmu.deny_writes((kData >> kPageShift) + 1, denial::kCode);
  EXPECT_EQ(view.write_entry(kLargePage + 1), 0u);
  mmu.store({kLargePlace}, 4, large);
  activate(kDirectory);
  EXPECT_EQ(view.write_entry(kLargePage + 1), 0u);
  EXPECT_NE(view.write_entry(kLargePage), 0u);
}

TEST_F(SleepTest, TheFrameIsDeniedAgainToThoseThatWroteToIt) {
  View& view = derive();
  guest.put32(kOther + 3 * 4, 0 | kAll | kPs);  // All of it, the directory, too.
  View& other = activate(kOther);
  activate(kOther, true);
  mmu.store({kLargePlace}, 4, 0);
  resolve(other, kBase + kDirectory, Access::kWrite);
  EXPECT_NE(other.write_entry(kBasePage + 1), 0u);
  activate(kDirectory);
  EXPECT_EQ(other.write_entry(kBasePage + 1), 0u);
  EXPECT_EQ(both(view, kLargePage), 0u);
}

TEST_F(SleepTest, EmptiedViewsSleepNoMore) {
  View& view = derive();
  leave();
  clear(kDirectory);
  mmu.map_changed();
  EXPECT_EQ(mmu.check_invariants(), "");
  map_two_level(kDirectory, 2, kAll);
  activate(kDirectory);
  EXPECT_EQ(both(view, kBasePage), 0u);
  resolve(view, kBase, Access::kRead);
  EXPECT_TRUE(traced(kDirectory));
}

TEST_F(SleepTest, PaeDirectoriesSleepEachByItself) {
  const auto place = [](uint32_t gigabyte) { return kDirectory + gigabyte * kPageSize; };
  for (const uint32_t gigabyte : {0u, 3u}) guest.put64(place(gigabyte) + 8, kData | kAll | kPs);
  View& view = mmu.activate(GuestTables::pae(kDirectory), false);
  constexpr uint32_t kLow = 0x200000, kHigh = 0xc0200000;
  resolve(view, kLow, Access::kRead);
  resolve(view, kHigh, Access::kRead);
  const uint64_t entry = guest.get64(place(3) + 8);
  for (const bool user : {false, true}) mmu.activate(GuestTables::pae(0x20000), user);
  mmu.store({place(3) + 8}, 8, 0);
  EXPECT_TRUE(traced(place(0)));
  EXPECT_FALSE(traced(place(3)));
  mmu.store({place(0) + 8}, 8, 0);
  EXPECT_FALSE(traced(place(0)));
  mmu.store({place(3) + 8}, 8, entry);
  mmu.activate(GuestTables::pae(kDirectory), false);
  EXPECT_EQ(both(view, kLow >> kPageShift), 0u);
  EXPECT_NE(both(view, kHigh >> kPageShift), 0u);
}

class AdoptTest : public SleepTest {
 protected:
  static constexpr uint32_t kNew = 0x9000;  ///< A directory that nobody has had.
};

TEST_F(AdoptTest, ANewAddressSpaceHasWhatItSharesWithADeadOne) {
  View& dead = derive();
  const uint32_t serial = dead.serial();
  const uint32_t large = guest.get32(kLargePlace);
  leave();
  clear(kDirectory);
  guest.put32(kNew + (kLarge >> 22) * 4, large);
  const uint64_t created = mmu.counters().views_created;
  View& made = activate(kNew);
  EXPECT_EQ(&made, &dead);
  EXPECT_EQ(made.serial(), serial);
  EXPECT_NE(made.write_entry(kLargePage), 0u);
  EXPECT_EQ(both(made, kBasePage), 0u);
  EXPECT_EQ(seen.pages.size(), 2u);
  EXPECT_TRUE(seen.views.empty());
  EXPECT_TRUE(traced(kNew));
  EXPECT_FALSE(traced(kDirectory));
  EXPECT_EQ(mmu.counters().views_created, created);
  EXPECT_EQ(mmu.counters().views_adopted, 1u);
  // Not any more who it was.
  View& other = activate(kDirectory);
  EXPECT_NE(&other, &made);
  EXPECT_TRUE(faults(other, kLarge, Access::kRead));
}

TEST_F(AdoptTest, WhatIsDifferentGoes) {
  derive();
  leave();
  clear(kDirectory);
  guest.put32(kNew + (kLarge >> 22) * 4, (kData + 0x400000) | kAll | kPs);
  View& made = activate(kNew);
  EXPECT_EQ(both(made, kLargePage), 0u);
  EXPECT_EQ(resolve(made, kLarge, Access::kRead).host, host_of(kData + 0x400000));
}

TEST_F(AdoptTest, OthersAreLeftAlone) {
  View& awake = derive();
  leave();
  View& made = activate(kNew);
  EXPECT_NE(&made, &awake) << "its directory is still followed";
  EXPECT_NE(both(awake, kLargePage), 0u);
  EXPECT_EQ(mmu.counters().views_adopted, 0u);
}

TEST_F(AdoptTest, SettingsMustBeTheSame) {
  View& dead = derive();
  leave();
  clear(kDirectory);
  PagingContext other = GuestTables::two_level(kNew);
  other.write_protect = !other.write_protect;
  EXPECT_NE(&mmu.activate(other, false), &dead);
}

TEST_F(AdoptTest, UsersViewsAreNot) {
  View& dead = derive(true);
  leave();
  clear(kDirectory);
  EXPECT_NE(&activate(kNew, true), &dead);
}

TEST_F(AdoptTest, PaeViewsWithNothingOfTheirOwn) {
  constexpr uint32_t kHigh = 0xc0200000;
  const auto space = [](uint32_t low) {
    PagingContext context = GuestTables::pae(kDirectory);
    context.pdpte = {low | kP, 0, 0, kDirectory | kP};
    return context;
  };
  guest.put64(kDirectory + 8, kData | kAll | kPs);
  for (const uint32_t low : {0x20000u, 0x21000u, 0x22000u})
    guest.put64(low, (kData + 0x200000) | kAll | kPs);
  View& first = mmu.activate(space(0x20000), false);
  resolve(first, kHigh, Access::kWrite);
  View& second = mmu.activate(space(0x21000), false);
  EXPECT_NE(&second, &first) << "it is the one before";
  resolve(second, kHigh, Access::kWrite);
  resolve(second, 0, Access::kRead);
  View& third = mmu.activate(space(0x22000), false);
  EXPECT_EQ(&third, &first) << "the second has something of its own";
  EXPECT_NE(third.write_entry(kHigh >> kPageShift), 0u);
  EXPECT_EQ(resolve(third, 0, Access::kRead).host, host_of(kData + 0x200000));
  EXPECT_EQ(mmu.counters().views_adopted, 1u);
}

TEST(ManyViewsTest, NoMoreThanSomeSleep) {
  constexpr uint32_t kTable = 0x5000, kBase = 0x00c00000, kBasePage = kBase >> kPageShift;
  GuestTables guest;
  RecordingObserver seen;
  ShadowMmu mmu{guest.memory(), seen, {.views = 100}};
  constexpr uint32_t kFirst = 0x100000, kViews = 60;
  guest.put32(kTable, 0x400000 | kAll);
  std::vector<View*> views;
  for (uint32_t i = 0; i < kViews; ++i) {
    const uint32_t directory = kFirst + i * kPageSize;
    guest.put32(directory + 3 * 4, kTable | kAll);
    views.push_back(&mmu.activate(GuestTables::two_level(directory), false));
    ASSERT_TRUE(mmu.resolve(*views.back(), {kBase}, Access::kRead).ok());
  }
  mmu.activate(GuestTables::two_level(0x1000), false);
  for (uint32_t i = 0; i < kViews; ++i) mmu.store({kFirst + i * kPageSize + 3 * 4}, 4, 0);
  EXPECT_EQ(mmu.check_invariants(), "");
  const auto holds = [](const View* view) { return view->read_entry(kBasePage) != 0; };
  const auto left = std::ranges::count_if(views, holds);
  EXPECT_GE(left, 10);
  EXPECT_LE(left, 40);
  EXPECT_TRUE(std::ranges::is_partitioned(views, std::not_fn(holds))) << "the last ones stay";
  EXPECT_EQ(seen.pages.size(), kViews - static_cast<uint64_t>(left));
}

}  // namespace
}  // namespace trapline
