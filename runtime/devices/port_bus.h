// The I/O space of a PC: devices claim ranges of ports. A port that nobody claimed reads as all
// ones and swallows what is written to it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "vcpu/memory.h"

namespace trapline {

/// A device's registers. `offset` counts from the first port of the claimed range.
class PortDevice {
 public:
  virtual ~PortDevice() = default;
  virtual uint8_t port_read(uint16_t offset) = 0;
  virtual void port_write(uint16_t offset, uint8_t value) = 0;
  /// Whether a read changes nothing, and gives what it gives now until a timer of the event queue
  /// is due, a line's level or the outside changes, or the guest writes. False is always right; a
  /// guest that polls elsewhere is taken for busy.
  virtual bool changes_by_events_only(uint16_t) const { return false; }
  /// Whether it only tells interrupts from one another, so that every handler accesses it.
  virtual bool is_interrupt_controller() const { return false; }

  /// Accesses of 2 or 4 bytes that lie wholly in the range. An 8-bit device sees one access for
  /// each byte, the lowest port first, as the ISA bus does it; others override these.
  virtual uint32_t port_read_wide(uint16_t offset, uint32_t size);
  virtual void port_write_wide(uint16_t offset, uint32_t size, uint32_t value);
};

class PortBus : public PortSpace {
 public:
  /// The device must outlive the bus. No range may be claimed twice.
  void claim(uint16_t first, uint16_t count, PortDevice& device);
  /// A range that was claimed as a whole.
  void release(uint16_t first, uint16_t count);
  /// Whether nobody has claimed any of these ports.
  bool is_free(uint16_t first, uint16_t count) const;

  uint32_t in(uint16_t port, uint32_t size) override;
  void out(uint16_t port, uint32_t size, uint32_t value) override;
  /// PortDevice::changes_by_events_only() of all bytes; so is a port that nobody claimed.
  bool changes_by_events_only(uint16_t port, uint32_t size) const;
  /// Accesses to anything but interrupt controllers.
  uint64_t accesses() const { return accesses_; }

 private:
  struct Range {
    PortDevice* device = nullptr;
    uint16_t first = 0;
  };
  /// nullptr when the access is not wholly one device's.
  const Range* owner_of(uint16_t port, uint32_t size) const;
  void count(const Range* range) {
    if (!range || !range->device->is_interrupt_controller()) ++accesses_;
  }

  std::vector<Range> ranges_{Range{}};  ///< The first stands for nobody.
  uint64_t accesses_ = 0;
  std::array<uint8_t, 0x10000> slot_{};  ///< For each port, an index into ranges_.
};

}  // namespace trapline
