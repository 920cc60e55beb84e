#include "runtime/devices/interrupt_router.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

class Router : public ::testing::Test {
 protected:
  static InterruptRouter::Controllers wires(std::array<FakeLine, 16>& pic,
                                            std::array<FakeLine, 24>& io_apic) {
    InterruptRouter::Controllers controllers;
    for (size_t i = 0; i < pic.size(); ++i) controllers.pic[i] = &pic[i];
    for (size_t i = 0; i < io_apic.size(); ++i) controllers.io_apic[i] = &io_apic[i];
    return controllers;
  }
  std::set<int> asserted_pic() const { return asserted(pic); }
  std::set<int> asserted_io_apic() const { return asserted(io_apic); }

  using Set = std::set<int>;
  std::array<FakeLine, 16> pic;
  std::array<FakeLine, 24> io_apic;
  InterruptRouter router{wires(pic, io_apic)};

 private:
  template <typename Lines>
  static std::set<int> asserted(const Lines& lines) {
    std::set<int> set;
    for (size_t i = 0; i < lines.size(); ++i)
      if (lines[i].level) set.insert(static_cast<int>(i));
    return set;
  }
};

TEST_F(Router, IsaInterruptsReachBothControllers) {
  for (int irq = 0; irq < 16; ++irq) {
    router.isa(irq).set(true);
    EXPECT_EQ(asserted_pic(), Set{irq});
    if (irq == 2)
      EXPECT_EQ(asserted_io_apic(), Set{});
    else
      EXPECT_EQ(asserted_io_apic(), Set{irq == 0 ? 2 : irq});
    router.isa(irq).set(false);
  }
  EXPECT_EQ(asserted_pic(), Set{});
  EXPECT_EQ(asserted_io_apic(), Set{});
}

TEST_F(Router, PciWiresRotateByDevice) {
  EXPECT_EQ(InterruptRouter::pirq_of(1, 0), 0);
  EXPECT_EQ(InterruptRouter::pirq_of(1, 3), 3);
  EXPECT_EQ(InterruptRouter::pirq_of(2, 0), 1);
  EXPECT_EQ(InterruptRouter::pirq_of(0, 0), 3);
  EXPECT_EQ(InterruptRouter::pirq_of(31, 2), 0);
  router.pci(3, 0).set(true);
  EXPECT_EQ(asserted_io_apic(), Set{18});
  EXPECT_EQ(asserted_pic(), Set{});
}

TEST_F(Router, RoutesTakeEffectAtOnce) {
  router.pci(1, 0).set(true);
  router.route(0, 10);
  EXPECT_EQ(asserted_pic(), Set{10});
  router.route(0, 11);
  EXPECT_EQ(asserted_pic(), Set{11});
  router.route(0, 0x8b);
  EXPECT_EQ(asserted_pic(), Set{});
  for (const uint8_t reserved : {0, 1, 2, 8, 13}) {
    router.route(0, reserved);
    EXPECT_EQ(asserted_pic(), Set{});
  }
  EXPECT_EQ(asserted_io_apic(), Set{16});
}

TEST_F(Router, SharedWiresAreAssertedByAny) {
  router.route(0, 10);
  router.route(1, 10);
  router.pci(1, 0).set(true);
  router.pci(5, 0).set(true);
  router.pci(1, 0).set(false);
  EXPECT_EQ(asserted_pic(), Set{10});
  EXPECT_EQ(asserted_io_apic(), Set{16});
  router.pci(2, 0).set(true);
  router.isa(10).set(true);
  router.pci(5, 0).set(false);
  router.pci(2, 0).set(false);
  EXPECT_EQ(asserted_pic(), Set{10});
  router.isa(10).set(false);
  EXPECT_EQ(asserted_pic(), Set{});
  EXPECT_EQ(asserted_io_apic(), Set{});
  EXPECT_EQ(pic[10].edges, 1);
}

TEST_F(Router, IsTheOrOfItsWiresWhateverHappens) {
  std::mt19937 random(60);
  std::array<bool, 16> isa{};
  std::array<bool, 128> slots{};
  std::array<uint8_t, 4> routes{0x80, 0x80, 0x80, 0x80};
  for (int i = 0; i < 20'000; ++i) {
    const size_t which = random();
    const bool level = random() % 2;
    if (random() % 3 == 0) {
      isa[which % 16] = level;
      router.isa(static_cast<int>(which % 16)).set(level);
    } else if (random() % 2) {
      slots[which % 128] = level;
      router.pci(static_cast<int>(which % 128 / 4), static_cast<int>(which % 4)).set(level);
    } else {
      routes[which % 4] = static_cast<uint8_t>(random());
      router.route(static_cast<int>(which % 4), routes[which % 4]);
    }
    Set expected;
    for (int irq = 0; irq < 16; ++irq)
      if (isa[static_cast<size_t>(irq)]) expected.insert(irq);
    for (int slot = 0; slot < 128; ++slot) {
      if (!slots[static_cast<size_t>(slot)]) continue;
      const uint8_t route =
          routes[static_cast<size_t>(InterruptRouter::pirq_of(slot / 4, slot % 4))];
      const int irq = route & 15;
      if (route < 0x80 && irq > 2 && irq != 8 && irq != 13) expected.insert(irq);
    }
    ASSERT_EQ(asserted_pic(), expected);
  }
}

}  // namespace
}  // namespace trapline
