// A small guest gone mad: it writes its page tables, data and code at random through whatever its
// views allow, in a memory so small that every frame is soon table, data and code at once.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "shadowmmu/shadow_mmu.h"
#include "tests/unit/shadowmmu/guest_tables.h"

namespace trapline {
namespace {

// Knows which pages were derived and checks that each is taken back once.
class DerivedPages final : public MmuObserver {
 public:
  void mapping_dropped(View& view, uint32_t page) override {
    EXPECT_EQ(pages.erase({&view, page}), 1u) << "dropped, but not derived: " << page;
  }
  void view_dropped(View& view) override {
    pages.erase(pages.lower_bound({&view, 0}), pages.upper_bound({&view, ~0u}));
  }
  void code_written(Physical address, uint32_t bytes) override {
    code_bytes += address.offset() + bytes;
  }

  std::set<std::pair<View*, uint32_t>> pages;
  uint64_t code_bytes = 0;
};

class MadGuest {
 public:
  MadGuest(uint64_t seed, uint32_t views)
      : random_(seed), mmu_(guest_.memory(), observer_, {.views = views}) {
    for (uint64_t frame = 0; frame < kFrames; ++frame)
      for (int i = 0; i < 64; ++i) guest_.put32(frame * kPageSize + entry_offset(), random_entry());
    choose_contexts();
    activate();
  }

  void step() {
    const uint32_t dice = below(1000);
    if (dice < 500)
      access();
    else if (dice < 850)
      write();
    else if (dice < 930)
      activate();
    else if (dice < 945)
      dma();
    else if (dice < 970)
      repair();
    else if (dice < 995)
      deny();
    else if (dice < 998)
      choose_contexts();
    else
      mmu_.map_changed(), activate();
  }

  void check() {
    ASSERT_EQ(mmu_.check_invariants(), "");
    for (const auto& [view, page] : observer_.pages) {
      if (view != view_) continue;
      const auto walk = peek(page << kPageShift, Access::kRead);
      ASSERT_TRUE(walk.ok()) << "a derived page that the guest's tables do not map: " << page;
    }
  }

  const MmuCounters& counters() const { return mmu_.counters(); }

 private:
  static constexpr uint64_t kFrames = 48;
  static constexpr uint32_t kBusyRegions[] = {0, 1, 3, 511, 512, 1023, 1024, 2047};

  bool wide() const { return contexts_[1].pae; }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  uint64_t some_frame() { return below(kFrames); }

  // Entries that the walks of busy addresses use, in either width.
  uint64_t entry_offset() {
    static constexpr uint32_t kIndices[] = {0, 1, 2, 3, 510, 511, 512, 1022, 1023};
    return kIndices[below(9)] * 4;
  }

  uint64_t random_entry() {
    uint64_t value = some_frame() << kPageShift | entry::kAll;
    value |= random_() & (entry::kA | entry::kD | entry::kG);
    if (below(6) == 0) value &= ~entry::kW;
    if (below(8) == 0) value &= ~entry::kU;
    if (below(8) == 0) value &= ~entry::kP;
    if (below(10) == 0) value = (value & 0xfff) | entry::kPs;  // The first large page: all of RAM.
    if (below(20) == 0) value ^= uint64_t{1} << below(32);
    return value;
  }

  // PAE is rare, since turning it on or off empties views.
  void choose_contexts() {
    const bool pae = below(3) == 0;
    for (PagingContext& context : contexts_) {
      context = pae ? GuestTables::pae(0) : GuestTables::two_level(0);
      context.root = static_cast<uint32_t>(some_frame()) << kPageShift;
      for (uint64_t& pdpte : context.pdpte)
        pdpte = pae ? some_frame() << kPageShift | (below(8) ? entry::kP : 0) : 0;
      context.pse = !pae && below(4) != 0;
      context.write_protect = below(2);
    }
    contexts_[0] = PagingContext{};
  }

  // Another address space, of the same kind.
  void replace_a_context() {
    PagingContext& context = contexts_[1 + below(kContexts - 1)];
    if (context.pae)
      context.pdpte[below(4)] = some_frame() << kPageShift | entry::kP;
    else
      context.root = static_cast<uint32_t>(some_frame()) << kPageShift;
  }

  void activate() {
    if (below(8) == 0) replace_a_context();
    context_ = contexts_[below(kContexts)];
    user_ = below(2);
    view_ = &mmu_.activate(context_, user_);
    ASSERT_EQ(view_->user(), user_);
  }

  uint32_t busy_linear() {
    const uint32_t region = kBusyRegions[below(8)];
    const uint32_t page = (region * 512 + below(4) + (below(4) ? 0 : 508)) % kLinearPages;
    return page << kPageShift | below(kPageSize / 8) * 8;
  }

  OrFault<Walk> peek(uint32_t linear, Access access) {
    return walk_page(context_, guest_.memory(), {linear}, access, user_, WalkMode::kPeek);
  }

  void access() {
    const uint32_t linear = busy_linear();
    resolve(linear, static_cast<Access>(below(3)));
  }

  // Resolves and compares with a walk that changes nothing.
  const std::byte* resolve(uint32_t linear, Access access) {
    const auto expected = peek(linear, access);
    const auto resolution = mmu_.resolve(*view_, {linear}, access);
    EXPECT_EQ(resolution.ok(), expected.ok());
    if (!resolution.ok() || !expected.ok()) return nullptr;
    EXPECT_EQ(resolution->address, expected->address);
    const Frame& frame = guest_.memory().frame(expected->address.frame());
    if (frame.kind != FrameKind::kRam) {
      EXPECT_EQ(resolution->kind, Resolution::Kind::kAbsent);
      return nullptr;
    }
    observer_.pages.insert({view_, linear >> kPageShift});
    EXPECT_EQ(resolution->host, frame.host + expected->address.offset());
    const bool denied = access == Access::kWrite && frame.denials;
    EXPECT_EQ(resolution->kind, denied ? Resolution::Kind::kDenied : Resolution::Kind::kHost);
    EXPECT_EQ(resolution->denials, denied ? frame.denials : 0);
    return resolution->host;
  }

  // A guest store as translated code does it: through the write table, or the slow path.
  void write() {
    uint32_t linear = busy_linear() & ~kPageMask;
    linear |= static_cast<uint32_t>(entry_offset());
    static constexpr uint32_t kSizes[] = {4, 4, 4, 8, 8, 2, 1};
    uint32_t size = kSizes[below(7)];
    if (below(10) == 0)
      linear += below(4);
    else if (wide() && size >= 4)
      size = 8, linear &= ~7u;
    if ((linear & kPageMask) + size > kPageSize) return;
    const uint64_t value = below(2) ? random_entry() : below(8) ? edited(linear) : 0;
    const uint32_t page = linear >> kPageShift;
    if (view_->write_entry(page) == 0) {
      const auto resolution = mmu_.resolve(*view_, {linear}, Access::kWrite);
      if (!resolution.ok()) return;
      if (guest_.memory().frame(resolution->address.frame()).kind == FrameKind::kRam)
        observer_.pages.insert({view_, page});
      if (resolution->kind != Resolution::Kind::kHost) {
        check_removals([&] { mmu_.store(resolution->address, size, value); });
        return;
      }
    }
    ASSERT_NE(view_->write_entry(page), 0u);
    std::memcpy(reinterpret_cast<std::byte*>(view_->write_entry(page) + linear), &value, size);
  }

  // What is there with one of the bits changed that kernels change.
  uint64_t edited(uint32_t linear) {
    const auto walk = peek(linear, Access::kRead);
    if (!walk.ok()) return random_entry();
    static constexpr uint64_t kEdits[] = {entry::kP, entry::kW, entry::kU, entry::kA, entry::kD};
    return guest_.get64(walk->address.value & ~uint64_t{7}) ^ kEdits[below(5)];
  }

  // V5: whoever compares removals() before and after knows whether any entry went.
  template <typename Action>
  void check_removals(Action action) {
    const uint32_t page = busy_linear() >> kPageShift;
    const uint64_t read = view_->read_entry(page), write = view_->write_entry(page);
    const uint64_t removals = mmu_.removals();
    action();
    if (mmu_.removals() != removals) return;
    ASSERT_EQ(view_->read_entry(page), read);
    ASSERT_EQ(view_->write_entry(page), write);
  }

  void dma() {
    std::vector<std::byte> bytes(1 + below(below(4) ? 16 : 9000));
    const Physical start{some_frame() * kPageSize + entry_offset()};
    mmu_.dma_read(start, bytes);
    for (int i = 0; i < 8; ++i)
      bytes[below(static_cast<uint32_t>(bytes.size()))] ^= std::byte{0x22};
    check_removals([&] { mmu_.dma_write(start, bytes); });
  }

  // Without new entries now and then, a memory full of noise maps nothing any more.
  void repair() {
    for (int i = 0; i < 24; ++i) {
      const uint64_t value = random_entry();
      const Physical place{some_frame() * kPageSize + (entry_offset() & (wide() ? ~7u : ~0u))};
      mmu_.dma_write(place, std::as_bytes(std::span(&value, 1)).first(wide() ? 8 : 4));
    }
  }

  void deny() {
    const uint8_t reason = below(2) ? denial::kCode : denial::kWatch;
    if (below(3) == 0)
      mmu_.deny_writes(some_frame(), reason);
    else
      mmu_.allow_writes(some_frame(), reason);
  }

  static constexpr uint32_t kContexts = 6;

  std::mt19937_64 random_;
  GuestTables guest_{kFrames * kPageSize};
  DerivedPages observer_;
  ShadowMmu mmu_;
  PagingContext contexts_[kContexts];
  PagingContext context_;
  View* view_ = nullptr;
  bool user_ = false;
};

TEST(ShadowMmuStress, InvariantsHoldWhateverTheGuestWrites) {
  const auto seed = static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed());
  uint64_t traced_writes = 0, recycled = 0, cleared = 0, dropped = 0, sleeps = 0;
  uint64_t adopted = 0;
  for (uint64_t round = 0; round < 12; ++round) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " (--gtest_random_seed), round " +
                 std::to_string(round));
    MadGuest guest(seed * 1000 + round, round % 2 ? 4 : 16);
    for (int i = 0; i < 20'000; ++i) {
      guest.step();
      if (i % 100 == 0) guest.check();
      if (testing::Test::HasFailure()) return;
    }
    traced_writes += guest.counters().traced_writes;
    recycled += guest.counters().views_recycled;
    cleared += guest.counters().traces_cleared;
    dropped += guest.counters().entries_dropped;
    sleeps += guest.counters().sleeps;
    adopted += guest.counters().views_adopted;
  }
  EXPECT_GT(traced_writes, 10'000u);
  EXPECT_GT(recycled, 1'000u);
  EXPECT_GT(cleared, 1'000u);
  EXPECT_GT(dropped, 10'000u);
  EXPECT_GT(sleeps, 100u);
  EXPECT_GT(adopted, 50u);
  RecordProperty("traced_writes", std::to_string(traced_writes));
  RecordProperty("entries_dropped", std::to_string(dropped));
}

}  // namespace
}  // namespace trapline
