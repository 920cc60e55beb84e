// Guest bytes behind a host pointer, read and written as the guest would: little-endian, sizes 1,
// 2, 4 and 8, and one host access when aligned, so that no other thread sees half of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trapline {

template <typename T>
uint64_t load_as(const std::byte* host) {
  if (reinterpret_cast<uintptr_t>(host) % sizeof(T) == 0)
    return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_RELAXED);
  T value;
  std::memcpy(&value, host, sizeof value);
  return value;
}

template <typename T>
void store_as(std::byte* host, uint64_t wide) {
  const T value = static_cast<T>(wide);
  if (reinterpret_cast<uintptr_t>(host) % sizeof(T) == 0)
    __atomic_store_n(reinterpret_cast<T*>(host), value, __ATOMIC_RELAXED);
  else
    std::memcpy(host, &value, sizeof value);
}

inline uint64_t load_sized(const std::byte* host, uint32_t size) {
  switch (size) {
    case 1:
      return load_as<uint8_t>(host);
    case 2:
      return load_as<uint16_t>(host);
    case 4:
      return load_as<uint32_t>(host);
    default:
      return load_as<uint64_t>(host);
  }
}

inline void store_sized(std::byte* host, uint32_t size, uint64_t value) {
  switch (size) {
    case 1:
      return store_as<uint8_t>(host, value);
    case 2:
      return store_as<uint16_t>(host, value);
    case 4:
      return store_as<uint32_t>(host, value);
    default:
      return store_as<uint64_t>(host, value);
  }
}

}  // namespace trapline
