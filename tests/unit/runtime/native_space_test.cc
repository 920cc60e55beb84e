#include "runtime/native/native_space.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/unit/runtime/container_fixture.h"

namespace trapline {
namespace {

class NativeSpaceTest : public ContainerFixture {
 protected:
  void SetUp() override {
    ContainerFixture::SetUp();
    ASSERT_TRUE(container_);
    space_ = NativeSpace::make(std::move(container_), 1000, counters_);
    ASSERT_TRUE(space_);
  }

  NativeMapCounters counters_;
  std::unique_ptr<NativeSpace> space_;
};

TEST_F(NativeSpaceTest, OneSegmentHasOneSelector) {
  const uint16_t first = space_->selector_of(0x1000, 0xfff);
  EXPECT_NE(space_->selector_of(0x2000, 0xfff), first);
  EXPECT_EQ(space_->selector_of(0x1000, 0xfff), first);
}

TEST_F(NativeSpaceTest, ASelectorOutlivesTheNextOne) {
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint32_t old = i / 200;  // For longer than it takes to replace all.
    const uint16_t fs = space_->selector_of(old << 12, 0xfff);
    const uint16_t gs = space_->selector_of((i + 1000) << 12, 0xfff);
    EXPECT_NE(fs, gs) << i;
    EXPECT_EQ(space_->selector_of(old << 12, 0xfff), fs) << i;
  }
  EXPECT_TRUE(space_->container().flush());
}

}  // namespace
}  // namespace trapline
