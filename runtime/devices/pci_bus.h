// PCI bus 0, which guests reach by configuration mechanism 1: the address register at 0xCF8 (whole
// accesses only) and the data window at 0xCFC. Functions that are not there read as all ones.
//
// Port 0xCF9 lies inside the address register and is the board's reset control: single-byte
// accesses go there.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/devices/device.h"
#include "runtime/devices/pci_config.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class PciBus : public Device, public PortDevice {
 public:
  static constexpr uint16_t kPort = 0xcf8;
  static constexpr uint16_t kPorts = 8;

  /// `reset_control` sees port 0xCF9 as its offset 0. nullptr: nobody is there.
  explicit PciBus(PortDevice* reset_control = nullptr) : reset_control_(reset_control) {}

  /// The function must outlive the bus. No place may be taken twice.
  void add(int device, int function, PciFunction& what);

  uint8_t port_read(uint16_t offset) override;
  void port_write(uint16_t offset, uint8_t value) override;
  uint32_t port_read_wide(uint16_t offset, uint32_t size) override;
  void port_write_wide(uint16_t offset, uint32_t size, uint32_t value) override;

  void reset() override { address_ = 0; }
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  /// What the address register selects; nullptr when it is nothing.
  PciFunction* selected() const;
  uint32_t data_read(uint32_t byte, uint32_t size) const;
  void data_write(uint32_t byte, uint32_t size, uint32_t value);

  PortDevice* reset_control_;
  std::array<PciFunction*, 256> functions_{};  ///< By device * 8 + function.
  uint32_t address_ = 0;
};

}  // namespace trapline
