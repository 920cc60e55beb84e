#include "runtime/devices/port_bus.h"

#include <algorithm>

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
  const auto unused = std::find_if(ranges_.begin() + 1, ranges_.end(),
                                   [](const Range& range) { return !range.device; });
  const auto slot = static_cast<uint8_t>(unused - ranges_.begin());
  if (unused == ranges_.end()) {
    TRAPLINE_ASSERT(ranges_.size() < 256);
    ranges_.emplace_back();
  }
  ranges_[slot] = {&device, first};
  for (uint32_t port = first; port < uint32_t{first} + count; ++port) {
    TRAPLINE_ASSERT(slot_[port] == 0);
    slot_[port] = slot;
  }
}

void PortBus::release(uint16_t first, uint16_t count) {
  const uint8_t slot = slot_[first];
  TRAPLINE_ASSERT(slot != 0 && ranges_[slot].first == first);
  for (uint32_t port = first; port < uint32_t{first} + count; ++port) {
    TRAPLINE_ASSERT(slot_[port] == slot);
    slot_[port] = 0;
  }
  ranges_[slot] = {};
}

bool PortBus::is_free(uint16_t first, uint16_t count) const {
  return std::all_of(slot_.begin() + first, slot_.begin() + first + count,
                     [](uint8_t slot) { return slot == 0; });
}

const PortBus::Range* PortBus::owner_of(uint16_t port, uint32_t size) const {
  const uint32_t last = uint32_t{port} + size - 1;
  if (slot_[port] == 0 || last >= slot_.size() || slot_[port] != slot_[last]) return nullptr;
  return &ranges_[slot_[port]];
}

uint32_t PortBus::in(uint16_t port, uint32_t size) {
  const Range* range = owner_of(port, size);
  count(range);
  if (range) {
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
  const Range* range = owner_of(port, size);
  count(range);
  if (range) {
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
