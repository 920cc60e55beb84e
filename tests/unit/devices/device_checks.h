// What every device's saved state must stand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

inline std::vector<uint8_t> saved(const Device& device) {
  SnapshotWriter writer;
  device.save(writer);
  return {writer.content().begin(), writer.content().end()};
}

inline bool load(Device& device, std::span<const uint8_t> content) {
  SnapshotReader reader(content);
  return device.load(reader).ok();
}

/// `to` becomes a copy of `from`, and every beginning of the saved state is refused without effect.
inline void expect_round_trip(const Device& from, Device& to) {
  const auto content = saved(from);
  const auto before = saved(to);
  for (size_t length = 0; length < content.size(); ++length) {
    ASSERT_FALSE(load(to, std::span(content).first(length))) << length;
    ASSERT_EQ(saved(to), before) << length;
  }
  ASSERT_TRUE(load(to, content));
  EXPECT_EQ(saved(to), content);
}

/// A device that took damaged state must go on working: `use` drives it.
template <typename Use>
void damage_every_byte(const Device& from, Device& to, Use use) {
  const auto content = saved(from);
  for (size_t at = 0; at < content.size(); ++at) {
    for (int value = 0; value < 256; value += 15) {
      auto damaged = content;
      damaged[at] = static_cast<uint8_t>(value);
      if (load(to, damaged)) use();
    }
  }
}

/// Random reads and writes of all sizes, mostly in the given ports.
inline void poke(PortSpace& bus, std::span<const uint16_t> ports, std::mt19937& random, int times) {
  for (int i = 0; i < times; ++i) {
    const uint16_t port = ports[random() % ports.size()];
    const uint32_t size = random() % 8 == 0 ? 1u << (random() % 3) : 1;
    if (random() % 3 == 0)
      bus.in(port, size);
    else
      bus.out(port, size, static_cast<uint32_t>(random()));
  }
}

}  // namespace trapline
