// The two 8237A DMA controllers of a PC and the page registers beside them, among them port 0x80,
// to which firmware writes its progress and others write to pass the time. They keep what is
// written and read it back as the chips do; no device here asks them for a transfer.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/devices/device.h"
#include "runtime/devices/port_bus.h"

namespace trapline {

class Dma8237Pair : public Device {
 public:
  static constexpr uint16_t kFirst = 0x00, kFirstPorts = 0x10;
  static constexpr uint16_t kPages = 0x80, kPagePorts = 0x10;
  static constexpr uint16_t kSecond = 0xc0, kSecondPorts = 0x20;  ///< A register at each even port.

  PortDevice& first_ports() { return first_ports_; }
  PortDevice& second_ports() { return second_ports_; }
  PortDevice& page_ports() { return page_ports_; }
  /// Claims all of them.
  void connect(PortBus& bus);

  void reset() override;
  void save(SnapshotWriter& out) const override;
  Result<void> load(SnapshotReader& in) override;

 private:
  static constexpr size_t kChannels = 4;

  struct Chip {
    std::array<uint16_t, kChannels> address{};
    std::array<uint16_t, kChannels> count{};
    std::array<uint8_t, kChannels> mode{};
    uint8_t command = 0;
    uint8_t request = 0;
    uint8_t mask = 0x0f;
    bool high_byte =
        false;  ///< The flip-flop: the next access of a 16-bit register is its high byte.

    uint8_t read(uint16_t index);
    void write(uint16_t index, uint8_t value);
    void clear();
    void save(SnapshotWriter& out) const;
    static Chip load(SnapshotReader& in);

   private:
    uint16_t& word(uint16_t index);
  };

  class ChipPorts : public PortDevice {
   public:
    ChipPorts(Chip& chip, unsigned spacing) : chip_(chip), spacing_(spacing) {}
    uint8_t port_read(uint16_t offset) override;
    void port_write(uint16_t offset, uint8_t value) override;

   private:
    Chip& chip_;
    unsigned spacing_;
  };
  class PagePorts : public PortDevice {
   public:
    explicit PagePorts(Dma8237Pair& pair) : pair_(pair) {}
    uint8_t port_read(uint16_t offset) override { return pair_.pages_[offset % kPagePorts]; }
    void port_write(uint16_t offset, uint8_t value) override {
      pair_.pages_[offset % kPagePorts] = value;
    }

   private:
    Dma8237Pair& pair_;
  };

  Chip first_;
  Chip second_;
  std::array<uint8_t, kPagePorts> pages_{};
  ChipPorts first_ports_{first_, 1};
  ChipPorts second_ports_{second_, 2};
  PagePorts page_ports_{*this};
};

}  // namespace trapline
