#include "runtime/cli/input_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace trapline {
namespace {

std::vector<uint8_t> bytes(size_t count) {
  return std::vector<uint8_t>(count, 7);
}

TEST(InputQueue, WakesOnlyWhenItWasEmpty) {
  int wakes = 0;
  InputQueue queue([&] { ++wakes; }, {});
  EXPECT_EQ(queue.read(), std::nullopt);
  queue.put(bytes(2));
  queue.put(bytes(1));
  EXPECT_EQ(wakes, 1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(queue.read(), 7);
  EXPECT_EQ(queue.read(), std::nullopt);
  queue.put({});
  EXPECT_EQ(wakes, 1);
  queue.put(bytes(1));
  EXPECT_EQ(wakes, 2);
}

TEST(InputQueue, TellsOfRoomOnceHalfIsFree) {
  int told = 0;
  InputQueue queue({}, [&] { ++told; });
  queue.put(bytes(InputQueue::kRoom - 1));
  EXPECT_EQ(queue.room(), 1u);
  queue.put(bytes(10));
  EXPECT_EQ(queue.room(), 0u);
  size_t taken = 0;
  for (; told == 0; ++taken) ASSERT_TRUE(queue.read());
  EXPECT_EQ(taken, 9 + InputQueue::kRoom / 2);
  while (queue.read()) ++taken;
  EXPECT_EQ(told, 1);
  EXPECT_EQ(taken, InputQueue::kRoom + 9);
}

TEST(InputQueue, BreaksKeepTheirPlace) {
  int wakes = 0;
  InputQueue queue([&] { ++wakes; }, {});
  queue.put_break();
  EXPECT_EQ(wakes, 1);
  queue.put(bytes(1));
  EXPECT_EQ(queue.read(), std::nullopt);
  EXPECT_TRUE(queue.take_break());
  EXPECT_FALSE(queue.take_break());
  EXPECT_EQ(queue.read(), 7);
  EXPECT_FALSE(queue.take_break());
}

TEST(InputQueue, LosesNothingBetweenThreads) {
  constexpr uint32_t kCount = 300'000;
  InputQueue queue({}, {});
  std::thread source([&] {
    for (uint32_t next = 0; next < kCount;) {
      if (queue.room() == 0) {
        std::this_thread::yield();
        continue;
      }
      const uint8_t byte = static_cast<uint8_t>(next++ * 7);
      queue.put({&byte, 1});
    }
  });
  bool right = true;
  for (uint32_t next = 0; next < kCount;)
    if (const auto byte = queue.read()) right &= *byte == static_cast<uint8_t>(next++ * 7);
  source.join();
  EXPECT_TRUE(right);
}

}  // namespace
}  // namespace trapline
