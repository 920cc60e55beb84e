// The 256 bytes of a PCI function's configuration space: bytes with masks that say which of their
// bits a guest can write, and which it clears by writing ones. All others read as they were
// defined.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "runtime/devices/device.h"

namespace trapline {

/// Offsets that all functions have in common.
namespace pci {
inline constexpr uint8_t kVendor = 0x00, kDevice = 0x02, kCommand = 0x04, kStatus = 0x06,
                         kRevision = 0x08, kClass = 0x09, kLatencyTimer = 0x0d, kHeaderType = 0x0e,
                         kInterruptLine = 0x3c, kInterruptPin = 0x3d;
inline constexpr uint8_t kMultiFunction = 0x80;  ///< In the header type.
}  // namespace pci

class PciConfig {
 public:
  static constexpr uint32_t kBytes = 256;

  struct Identity {
    uint16_t vendor = 0;
    uint16_t device = 0;
    uint32_t class_code = 0;  ///< Base class, subclass and interface: 24 bits.
    uint8_t revision = 0;
    uint8_t header_type = 0;
  };
  explicit PciConfig(const Identity& identity);

  // Definitions, of 1, 2 or 4 bytes, made once before the first reset().
  void define(uint8_t offset, uint32_t size, uint32_t reset_value, uint32_t writable = 0);
  void define_cleared_by_ones(uint8_t offset, uint32_t size, uint32_t bits);

  /// Size 1, 2 or 4, inside the space.
  uint32_t read(uint8_t offset, uint32_t size) const;
  /// As a guest writes.
  void write(uint8_t offset, uint32_t size, uint32_t value);

  void reset() { bytes_ = reset_; }
  void save(SnapshotWriter& out) const { out.bytes(bytes_); }
  /// Rejects content that no sequence of writes could have made.
  std::array<uint8_t, kBytes> read_content(SnapshotReader& in) const;
  void load(const std::array<uint8_t, kBytes>& content) { bytes_ = content; }

 private:
  using Bytes = std::array<uint8_t, kBytes>;
  Bytes bytes_{};
  Bytes reset_{};
  Bytes writable_{};
  Bytes cleared_by_ones_{};
};

/// A function of a device on the bus.
class PciFunction : public Device {
 public:
  /// `tag` names it in snapshots and must live as long.
  PciFunction(std::string_view tag, const PciConfig::Identity& identity)
      : config_(identity), tag_(tag) {}

  uint32_t config_read(uint8_t offset, uint32_t size) const { return config_.read(offset, size); }
  void config_write(uint8_t offset, uint32_t size, uint32_t value);

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 protected:
  /// After anything that may have changed registers.
  virtual void config_changed() {}

  PciConfig config_;

 private:
  std::string_view tag_;
};

}  // namespace trapline
