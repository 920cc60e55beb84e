#include "runtime/boot/memory_map.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
using Kind = MemoryKind;

MemoryMap map_of(uint64_t ram, std::vector<MemoryRange> special = {}) {
  return MemoryMap(RamLayout{ram}, special);
}

TEST(MemoryMap, IsThatOfAPc) {
  EXPECT_EQ(map_of(64 * kMiB).ranges(),
            (std::vector<MemoryRange>{{0, 0x9fc00},
                                      {0x9fc00, 0x400, Kind::kReserved},
                                      {0xf0000, 0x10000, Kind::kReserved},
                                      {kMiB, 63 * kMiB}}));
}

TEST(MemoryMap, ContinuesAboveTheHole) {
  const auto ranges = map_of(5 * kGiB).ranges();
  ASSERT_EQ(ranges.size(), 5u);
  EXPECT_EQ(ranges[3], (MemoryRange{kMiB, 3 * kGiB - kMiB}));
  EXPECT_EQ(ranges[4], (MemoryRange{4 * kGiB, 2 * kGiB}));
  EXPECT_EQ(map_of(3 * kGiB).ranges().size(), 4u);
}

TEST(MemoryMap, OfALittleMachineHasNothingHigh) {
  EXPECT_EQ(map_of(kMiB).ranges().back(), (MemoryRange{0xf0000, 0x10000, Kind::kReserved}));
  EXPECT_EQ(map_of(0x1000).ranges().front(), (MemoryRange{0, 0x1000}));
}

TEST(MemoryMap, GivesSpecialRangesPrecedence) {
  const auto map = map_of(64 * kMiB, {{63 * kMiB, kMiB, Kind::kAcpiData},
                                      {32 * kMiB, 0x1000, Kind::kReserved},
                                      {0xfec00000, 0x1000, Kind::kReserved},
                                      {0, 0, Kind::kReserved}});
  const std::vector<MemoryRange> high(map.ranges().begin() + 3, map.ranges().end());
  EXPECT_EQ(high, (std::vector<MemoryRange>{{kMiB, 31 * kMiB},
                                            {32 * kMiB, 0x1000, Kind::kReserved},
                                            {32 * kMiB + 0x1000, 31 * kMiB - 0x1000},
                                            {63 * kMiB, kMiB, Kind::kAcpiData},
                                            {0xfec00000, 0x1000, Kind::kReserved}}));
  EXPECT_FALSE(map.usable(32 * kMiB, 1));
  EXPECT_FALSE(map.usable(31 * kMiB, kMiB + 1));
  EXPECT_TRUE(map.usable(31 * kMiB, kMiB));
  EXPECT_FALSE(map.usable(0x9f000, 0x1000));
}

TEST(MemoryMap, LaterSpecialRangesWin) {
  const auto map =
      map_of(64 * kMiB, {{2 * kMiB, 4 * kMiB, Kind::kReserved}, {3 * kMiB, kMiB, Kind::kAcpiNvs}});
  const std::vector<MemoryRange> high(map.ranges().begin() + 4, map.ranges().end() - 1);
  EXPECT_EQ(high, (std::vector<MemoryRange>{{2 * kMiB, kMiB, Kind::kReserved},
                                            {3 * kMiB, kMiB, Kind::kAcpiNvs},
                                            {4 * kMiB, 2 * kMiB, Kind::kReserved}}));
}

TEST(MemoryMap, FindsTheHighestRoom) {
  const auto map = map_of(64 * kMiB, {{32 * kMiB, 24 * kMiB, Kind::kReserved}});
  constexpr uint64_t kAny = UINT64_MAX;
  EXPECT_EQ(map.highest_room(1, 0, kAny), 64 * kMiB - 0x1000);
  EXPECT_EQ(map.highest_room(8 * kMiB, 0, kAny), 56 * kMiB);
  EXPECT_EQ(map.highest_room(8 * kMiB + 1, 0, kAny), 24 * kMiB - 0x1000);
  EXPECT_EQ(map.highest_room(8 * kMiB + 1, 24 * kMiB, kAny), std::nullopt);
  EXPECT_EQ(map.highest_room(0x1000, 0, 60 * kMiB + 5), 60 * kMiB - 0x1000);
  EXPECT_EQ(map.highest_room(0x1000, 60 * kMiB, 60 * kMiB), std::nullopt);
  EXPECT_EQ(map.highest_room(32 * kMiB, 0, kAny), std::nullopt);
}

}  // namespace
}  // namespace trapline
