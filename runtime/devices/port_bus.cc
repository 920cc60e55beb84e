#include "runtime/devices/port_bus.h"

#include "vcpu/assert.h"

namespace trapline {

uint32_t PortDevice::port_read_wide(uint16_t offset, uint32_t size) {
  uint32_t value = 0;
  for (uint32_t i = 0; i < size; ++i)
    value |= uint32_t{port_read(static_cast<uint16_t>(offset + i))} << (8 * i);
  return value;
}

void PortDevice::port_write_wide(uint16_t offset, uint32_t size, uint32_t value) {
  for (uint32_t i = 0; i < size; ++i)
    port_write(static_cast<uint16_t>(offset + i), static_cast<uint8_t>(value >> (8 * i)));
}

void PortBus::claim(uint16_t first, uint16_t count, PortDevice& device) {
  TRAPLINE_ASSERT(count > 0 && uint32_t{first} + count <= slot_.size());
  TRAPLINE_ASSERT(ranges_.size() < 256);
  const auto slot = static_cast<uint8_t>(ranges_.size());
  ranges_.push_back({&device, first});
  for (uint32_t port = first; port < uint32_t{first} + count; ++port) {
    TRAPLINE_ASSERT(slot_[port] == 0);
    slot_[port] = slot;
  }
}

const PortBus::Range* PortBus::owner_of(uint16_t port, uint32_t size) const {
  const uint32_t last = uint32_t{port} + size - 1;
  if (slot_[port] == 0 || last >= slot_.size() || slot_[port] != slot_[last]) return nullptr;
  return &ranges_[slot_[port]];
}

uint32_t PortBus::in(uint16_t port, uint32_t size) {
  if (const Range* range = owner_of(port, size)) {
    const auto offset = static_cast<uint16_t>(port - range->first);
    return size == 1 ? range->device->port_read(offset)
                     : range->device->port_read_wide(offset, size);
  }
  if (size == 1) return 0xff;
  uint32_t value = 0;
  for (uint32_t i = 0; i < size; ++i) value |= in(static_cast<uint16_t>(port + i), 1) << (8 * i);
  return value;
}

bool PortBus::changes_by_events_only(uint16_t port, uint32_t size) const {
  for (uint32_t at = port; at < port + size && at < slot_.size(); ++at) {
    const Range& range = ranges_[slot_[at]];
    if (range.device &&
        !range.device->changes_by_events_only(static_cast<uint16_t>(at - range.first)))
      return false;
  }
  return true;
}

void PortBus::out(uint16_t port, uint32_t size, uint32_t value) {
  if (const Range* range = owner_of(port, size)) {
    const auto offset = static_cast<uint16_t>(port - range->first);
    if (size == 1)
      range->device->port_write(offset, static_cast<uint8_t>(value));
    else
      range->device->port_write_wide(offset, size, value);
    return;
  }
  if (size == 1) return;
  for (uint32_t i = 0; i < size; ++i)
    out(static_cast<uint16_t>(port + i), 1, value >> (8 * i) & 0xff);
}

}  // namespace trapline
