#include "runtime/devices/pci_bus.h"

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "pci-bus";
constexpr uint32_t kVersion = 1;

constexpr uint16_t kAddress = 0, kResetControl = 1, kData = 4;  // Offsets of ports.
constexpr uint32_t kEnable = 1u << 31;
constexpr uint32_t kAddressBits = kEnable | 0x00fffffc;

}  // namespace

void PciBus::add(int device, int function, PciFunction& what) {
  TRAPLINE_ASSERT(device >= 0 && device < 32 && function >= 0 && function < 8);
  PciFunction*& place = functions_[static_cast<size_t>(device * 8 + function)];
  TRAPLINE_ASSERT(place == nullptr);
  place = &what;
}

PciFunction* PciBus::selected() const {
  const bool other_bus = address_ >> 16 & 0xff;
  if (!(address_ & kEnable) || other_bus) return nullptr;
  return functions_[address_ >> 8 & 0xff];
}

uint32_t PciBus::data_read(uint32_t byte, uint32_t size) const {
  const PciFunction* function = selected();
  if (function == nullptr) return ~0u >> (32 - 8 * size);
  return function->config_read(static_cast<uint8_t>((address_ & 0xfc) + byte), size);
}

void PciBus::data_write(uint32_t byte, uint32_t size, uint32_t value) {
  if (PciFunction* function = selected())
    function->config_write(static_cast<uint8_t>((address_ & 0xfc) + byte), size, value);
}

uint8_t PciBus::port_read(uint16_t offset) {
  if (offset >= kData) return static_cast<uint8_t>(data_read(offset - kData, 1));
  if (offset == kResetControl && reset_control_ != nullptr) return reset_control_->port_read(0);
  return 0xff;
}

void PciBus::port_write(uint16_t offset, uint8_t value) {
  if (offset >= kData)
    data_write(offset - kData, 1, value);
  else if (offset == kResetControl && reset_control_ != nullptr)
    reset_control_->port_write(0, value);
}

uint32_t PciBus::port_read_wide(uint16_t offset, uint32_t size) {
  if (offset == kAddress && size == 4) return address_;
  if (offset >= kData) return data_read(offset - kData, size);
  return PortDevice::port_read_wide(offset, size);
}

void PciBus::port_write_wide(uint16_t offset, uint32_t size, uint32_t value) {
  if (offset == kAddress && size == 4)
    address_ = value & kAddressBits;
  else if (offset >= kData)
    data_write(offset - kData, size, value);
  else
    PortDevice::port_write_wide(offset, size, value);
}

void PciBus::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u32(address_);
  out.end();
}

Result<void> PciBus::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  const uint32_t address = in.u32();
  if (address & ~kAddressBits) in.reject("the address has bits that do not exist");
  if (auto read = in.end(); !read.ok()) return read;
  address_ = address;
  return {};
}

}  // namespace trapline
