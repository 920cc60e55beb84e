// Reading and writing numbers in boot structures, which are little-endian and of any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vcpu/assert.h"

namespace trapline {

inline uint64_t load_little(std::span<const std::byte> from, size_t offset, size_t size) {
  TRAPLINE_ASSERT(offset <= from.size() && size <= from.size() - offset);
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= std::to_integer<uint64_t>(from[offset + i]) << (8 * i);
  return value;
}

inline uint16_t load16(std::span<const std::byte> from, size_t offset) {
  return static_cast<uint16_t>(load_little(from, offset, 2));
}
inline uint32_t load32(std::span<const std::byte> from, size_t offset) {
  return static_cast<uint32_t>(load_little(from, offset, 4));
}

inline void store_little(std::span<std::byte> to, size_t offset, uint64_t value, size_t size) {
  TRAPLINE_ASSERT(offset <= to.size() && size <= to.size() - offset);
  for (size_t i = 0; i < size; ++i) to[offset + i] = static_cast<std::byte>(value >> (8 * i));
}
inline void store32(std::span<std::byte> to, size_t offset, uint32_t value) {
  store_little(to, offset, value, 4);
}
inline void store64(std::span<std::byte> to, size_t offset, uint64_t value) {
  store_little(to, offset, value, 8);
}

}  // namespace trapline
