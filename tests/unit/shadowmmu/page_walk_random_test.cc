// The walker against the reference walker, over random tables, contexts and accesses.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/shadowmmu/guest_tables.h"
#include "tests/unit/shadowmmu/reference_walker.h"

namespace trapline {
namespace {

class RandomWalk {
 public:
  explicit RandomWalk(uint64_t seed) : random_(seed) {}

  void run_one() {
    const PagingContext context = random_context();
    const uint32_t linear = static_cast<uint32_t>(random_());
    const Access access = static_cast<Access>(random_() % 3);
    const bool user = one_in(2);
    lay_tables(context, linear);
    const auto read = [this](uint64_t address, int size) {
      return guest_.get(address, static_cast<size_t>(size));
    };
    const ReferenceWalk expected = reference_walk(context, read, linear, access, user);

    const auto peeked =
        walk_page(context, guest_.memory(), {linear}, access, user, WalkMode::kPeek);
    EXPECT_EQ(peeked.ok(), !expected.fault);
    for (const auto& [place, value] : before_)
      ASSERT_EQ(guest_.get(place, width_), value) << "a peek changed an entry";

    const auto walk = walk_page(context, guest_.memory(), {linear}, access, user);
    compare(walk, expected, linear);
    for (const auto& [place, value] : expected.updates) before_[place] = value;
    for (const auto& [place, value] : before_) ASSERT_EQ(guest_.get(place, width_), value);
    ++(expected.fault ? faults : successes);
  }

  uint64_t faults = 0, successes = 0;

 private:
  bool one_in(uint32_t n) { return random_() % n == 0; }

  PagingContext random_context() {
    PagingContext context;
    context.paging = !one_in(50);
    context.pae = one_in(2);
    context.nxe = context.pae && !one_in(3);
    context.pse = !context.pae && !one_in(3);
    context.pse36 = context.pse && one_in(2);
    context.write_protect = one_in(2);
    context.physical_bits = one_in(2) ? 36 : 40;
    context.root = table_address();
    for (auto& pdpte : context.pdpte) pdpte = table_address() | (one_in(8) ? 0 : 1);
    if (one_in(8)) context.address_mask = ~(uint64_t{1} << 20);
    return context;
  }

  uint32_t table_address() { return static_cast<uint32_t>(1 + random_() % 0x200) << kPageShift; }

  // Mostly sensible, so that walks get far, with every bit random now and then.
  uint64_t random_entry(const PagingContext& context) {
    uint64_t value = table_address() | (random_() & 0xe7e) | entry::kP;
    if (!one_in(4)) value |= entry::kW | entry::kU;
    if (!one_in(4)) value &= ~entry::kPs;
    if (one_in(10)) value &= ~entry::kP;
    if (context.nxe && one_in(4)) value |= entry::kNx;
    if (one_in(6)) value ^= uint64_t{1} << random_() % 64;
    if (one_in(20)) value = random_() | entry::kP;
    if (value & entry::kPs && !one_in(3)) value &= ~uint64_t{0x3fe000};
    return value;
  }

  void lay_tables(const PagingContext& context, uint32_t linear) {
    before_.clear();
    width_ = context.pae ? 8 : 4;
    const uint64_t directory =
        context.pae ? context.pdpte[linear >> 30] & ~uint64_t{0xfff} : context.root;
    const uint64_t slot = context.pae ? (linear >> 21 & 511) * 8 : (linear >> 22) * 4;
    const uint64_t above = lay((directory + slot) & context.address_mask, random_entry(context));
    const uint64_t index = context.pae ? (linear >> 12 & 511) * 8 : (linear >> 12 & 1023) * 4;
    const uint64_t table = context.pae ? above & 0xfffffff000 : above & 0xfffff000;
    lay((table + index) & context.address_mask, random_entry(context));
  }

  uint64_t lay(uint64_t place, uint64_t value) {
    guest_.put(place, width_, value);
    before_[place] = guest_.get(place, width_);
    return value;
  }

  void compare(const OrFault<Walk>& walk, const ReferenceWalk& expected, uint32_t linear) {
    ASSERT_EQ(walk.ok(), !expected.fault);
    if (!walk.ok()) {
      EXPECT_EQ(walk.fault(), Fault::page(linear, expected.error)) << std::hex << expected.error;
      return;
    }
    EXPECT_EQ(walk->address.value, expected.physical);
    EXPECT_EQ(walk->user, expected.user);
    EXPECT_EQ(walk->writable, expected.writable);
    EXPECT_EQ(walk->executable, !expected.execute_disabled);
    EXPECT_EQ(walk->large, expected.large);
    EXPECT_EQ(walk->dirty, expected.dirty);
  }

  std::mt19937_64 random_;
  GuestTables guest_;
  std::map<uint64_t, uint64_t> before_;
  size_t width_ = 4;
};

TEST(PageWalkRandom, AgreesWithTheReference) {
  const uint64_t seed = testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE("seed " + std::to_string(seed) + " (--gtest_random_seed)");
  RandomWalk walks(seed);
  for (int i = 0; i < 300'000 && !testing::Test::HasFailure(); ++i) walks.run_one();
  EXPECT_GT(walks.faults, 60'000u);
  EXPECT_GT(walks.successes, 60'000u);
}

}  // namespace
}  // namespace trapline
