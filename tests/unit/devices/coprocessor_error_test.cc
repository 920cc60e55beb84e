#include "runtime/devices/coprocessor_error.h"

#include <gtest/gtest.h>

#include "tests/unit/devices/device_checks.h"
#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

struct CoprocessorErrorTest : ::testing::Test {
  FakeLine irq13, other_irq13;
  bool ignne = false, other_ignne = false;
  CoprocessorError error{irq13, [this](bool on) { ignne = on; }};
  CoprocessorError other{other_irq13, [this](bool on) { other_ignne = on; }};
};

TEST_F(CoprocessorErrorTest, IsHeldUntilTheGuestWrites) {
  EXPECT_FALSE(irq13.level);
  error.raise();
  EXPECT_TRUE(irq13.level);
  error.port_read(0);
  EXPECT_TRUE(irq13.level);
  error.port_write(0, 0);
  EXPECT_FALSE(irq13.level);
}

TEST_F(CoprocessorErrorTest, IsIgnoredFromTheWriteUntilItIsCleared) {
  error.port_write(0, 0);
  EXPECT_FALSE(ignne);
  error.raise();
  EXPECT_FALSE(ignne);
  error.port_write(0, 0);
  EXPECT_TRUE(ignne);
  error.clear();
  EXPECT_FALSE(ignne);
  error.raise();
  EXPECT_TRUE(irq13.level);
}

TEST_F(CoprocessorErrorTest, ResetLetsTheLineGo) {
  error.raise();
  error.reset();
  EXPECT_FALSE(irq13.level);
  error.raise();
  error.port_write(0, 0);
  error.reset();
  EXPECT_FALSE(ignne);
}

TEST_F(CoprocessorErrorTest, SavedStateDrivesTheLineAgain) {
  error.raise();
  expect_round_trip(error, other);
  EXPECT_TRUE(other_irq13.level);
  error.port_write(0, 0);
  expect_round_trip(error, other);
  EXPECT_FALSE(other_irq13.level);
  EXPECT_TRUE(other_ignne);
}

}  // namespace
}  // namespace trapline
