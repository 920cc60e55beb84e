#include "runtime/devices/pci_config.h"

#include <algorithm>

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr uint32_t kVersion = 1;

constexpr uint8_t byte_of(uint32_t value, uint32_t index) {
  return static_cast<uint8_t>(value >> (8 * index));
}

}  // namespace

PciConfig::PciConfig(const Identity& identity) {
  define(pci::kVendor, 2, identity.vendor);
  define(pci::kDevice, 2, identity.device);
  define(pci::kRevision, 4, identity.class_code << 8 | identity.revision);
  define(pci::kHeaderType, 1, identity.header_type);
}

void PciConfig::define(uint8_t offset, uint32_t size, uint32_t reset_value, uint32_t writable) {
  TRAPLINE_ASSERT(offset + size <= kBytes);
  for (uint32_t i = 0; i < size; ++i) {
    bytes_[offset + i] = reset_[offset + i] = byte_of(reset_value, i);
    writable_[offset + i] = byte_of(writable, i);
  }
}

void PciConfig::define_cleared_by_ones(uint8_t offset, uint32_t size, uint32_t bits) {
  TRAPLINE_ASSERT(offset + size <= kBytes);
  for (uint32_t i = 0; i < size; ++i) cleared_by_ones_[offset + i] = byte_of(bits, i);
}

uint32_t PciConfig::read(uint8_t offset, uint32_t size) const {
  TRAPLINE_ASSERT(offset + size <= kBytes);
  uint32_t value = 0;
  for (uint32_t i = 0; i < size; ++i) value |= uint32_t{bytes_[offset + i]} << (8 * i);
  return value;
}

void PciConfig::write(uint8_t offset, uint32_t size, uint32_t value) {
  TRAPLINE_ASSERT(offset + size <= kBytes);
  for (uint32_t i = 0; i < size; ++i) {
    uint8_t& byte = bytes_[offset + i];
    const uint8_t writable = writable_[offset + i], written = byte_of(value, i);
    byte = static_cast<uint8_t>((byte & ~writable) | (written & writable));
    byte &= static_cast<uint8_t>(~(written & cleared_by_ones_[offset + i]));
  }
}

PciConfig::Bytes PciConfig::read_content(SnapshotReader& in) const {
  Bytes content = reset_;
  const auto bytes = in.bytes(kBytes);
  if (bytes.size() != kBytes) {
    in.reject("a configuration space is too short");
    return content;
  }
  std::ranges::copy(bytes, content.begin());
  for (uint32_t i = 0; i < kBytes; ++i) {
    const int changeable = writable_[i] | cleared_by_ones_[i];
    if ((content[i] ^ reset_[i]) & ~changeable) in.reject("a fixed PCI register has another value");
  }
  return content;
}

void PciFunction::config_write(uint8_t offset, uint32_t size, uint32_t value) {
  config_.write(offset, size, value);
  config_changed();
}

void PciFunction::reset() {
  config_.reset();
  config_changed();
}

void PciFunction::save(SnapshotWriter& out) const {
  out.begin(tag_, kVersion);
  config_.save(out);
  out.end();
}

Result<void> PciFunction::load(SnapshotReader& in) {
  in.begin(tag_, kVersion);
  const auto content = config_.read_content(in);
  if (auto read = in.end(); !read.ok()) return read;
  config_.load(content);
  config_changed();
  return {};
}

}  // namespace trapline
