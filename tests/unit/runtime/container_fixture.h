// A container with 64 KiB of RAM, for tests.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "runtime/native/container.h"

namespace trapline {

class ContainerFixture : public testing::Test {
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
    container_ = container.take();
  }
  void TearDown() override { close(ram_); }

  int ram_ = -1;
  std::unique_ptr<ContainerFiles> files_;
  std::unique_ptr<Container> container_;
};

}  // namespace trapline
