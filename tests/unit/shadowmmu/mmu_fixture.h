// A guest with hand-written tables and a ShadowMmu over it.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "shadowmmu/shadow_mmu.h"
#include "tests/unit/shadowmmu/guest_tables.h"
#include "tests/unit/shadowmmu/recording_observer.h"

namespace trapline {

class MmuTest : public testing::Test {
 protected:
  static constexpr uint32_t kDirectory = 0x1000, kTable = 0x5000, kData = 0x400000;
  static constexpr uint32_t kBase = 0x00c00000;  ///< Directory entry 3 (two-level) or 6 (PAE).
  static constexpr uint32_t kBasePage = kBase >> kPageShift;

  /// Maps kBase.. through kTable to kData.. with the given bits, for `pages` pages.
  void map_two_level(uint32_t directory, uint32_t pages, uint64_t bits) {
    guest.put32(directory + 3 * 4, kTable | entry::kAll);
    for (uint32_t i = 0; i < pages; ++i)
      guest.put32(kTable + i * 4, (kData + i * kPageSize) | bits);
  }

  View& activate(uint32_t directory, bool user = false) {
    return mmu.activate(GuestTables::two_level(directory), user);
  }
  Resolution resolve(View& view, uint32_t linear, Access access) {
    const auto resolution = mmu.resolve(view, {linear}, access);
    EXPECT_TRUE(resolution.ok()) << std::hex << linear;
    return *resolution;
  }
  bool faults(View& view, uint32_t linear, Access access) {
    return !mmu.resolve(view, {linear}, access).ok();
  }
  std::byte* host_of(uint64_t physical) {
    return guest.memory().frame(physical >> kPageShift).host + (physical & kPageMask);
  }
  /// Where an entry leads for the first byte of its page.
  static std::byte* target(uint64_t entry, uint32_t page) {
    return reinterpret_cast<std::byte*>(entry + (uint64_t{page} << kPageShift));
  }
  bool traced(uint64_t physical) {
    return guest.memory().frame(physical >> kPageShift).denials & denial::kPageTable;
  }

  void TearDown() override { EXPECT_EQ(mmu.check_invariants(), ""); }

  GuestTables guest;
  RecordingObserver seen;
  ShadowMmu mmu{guest.memory(), seen, {.views = 4}};
};

}  // namespace trapline
