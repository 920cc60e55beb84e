// Just enough of an assembler for generated kernel code.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

namespace trapline::differential {

class Assembler {
 public:
  explicit Assembler(uint32_t origin) : origin_(origin) {}

  uint32_t here() const { return origin_ + static_cast<uint32_t>(bytes_.size()); }
  uint32_t size() const { return static_cast<uint32_t>(bytes_.size()); }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

  void put(std::initializer_list<uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void put16(uint16_t value) { append(&value, 2); }
  void put32(uint32_t value) { append(&value, 4); }
  void patch16(uint32_t address, uint32_t value) {
    std::memcpy(&bytes_[address - origin_], &value, 2);
  }
  void patch32(uint32_t address, uint32_t value) {
    std::memcpy(&bytes_[address - origin_], &value, 4);
  }

  void move(uint8_t reg, uint32_t value) {
    put({static_cast<uint8_t>(0xb8 | reg)});
    put32(value);
  }
  void push(uint32_t value) {
    put({0x68});
    put32(value);
  }
  /// mov dword ss:[address], value
  void store(uint32_t address, uint32_t value) {
    put({0x36, 0xc7, 0x05});
    put32(address);
    put32(value);
  }
  /// invlpg ss:[address]
  void invlpg(uint32_t address) {
    put({0x36, 0x0f, 0x01, 0x3d});
    put32(address);
  }
  void breakpoint() { put({0xcc}); }

 private:
  void append(const void* data, size_t size) {
    const auto* const first = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
  }

  uint32_t origin_;
  std::vector<uint8_t> bytes_;
};

}  // namespace trapline::differential
