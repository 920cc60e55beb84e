#include "runtime/native/native_space.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

namespace trapline {
namespace {

class NativeSpaceTest : public testing::Test {
 protected:
  void SetUp() override {
    ram_ = memfd_create("test-ram", MFD_CLOEXEC);
    ASSERT_GE(ram_, 0);
    ASSERT_EQ(ftruncate(ram_, 0x10000), 0);
    auto files = ContainerFiles::create(ram_);
    ASSERT_TRUE(files.ok()) << files.error().message;
    files_ = files.take();
    auto container = Container::start(*files_);
    ASSERT_TRUE(container.ok()) << container.error().message;
    space_ = NativeSpace::make(container.take(), 1000, counters_);
    ASSERT_TRUE(space_);
  }
  void TearDown() override { close(ram_); }

  int ram_ = -1;
  NativeMapCounters counters_;
  std::unique_ptr<ContainerFiles> files_;
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
