// The chips of a board of 1997 as guests see them on the PCI bus: the 440FX host bridge (device 0),
// the ISA bridge of PIIX3 (device 1, function 0) and the power management of PIIX4 (device 1,
// function 3). Registers that steer hardware which this machine does not have keep what is written.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "runtime/devices/interrupt_router.h"
#include "runtime/devices/pci_config.h"

namespace trapline {

/// Intel 82441FX.
class HostBridge : public PciFunction {
 public:
  static constexpr int kDevice = 0, kFunction = 0;

  /// Who answers an access to a piece of 0xC0000 to 0xFFFFF: RAM, or what lies behind the bridge.
  struct Shadow {
    bool ram_read = false;
    bool ram_write = false;
    bool operator==(const Shadow&) const = default;
  };
  static constexpr uint32_t kShadowStart = 0xc0000, kShadowEnd = 0x100000, kShadowPiece = 0x4000;

  HostBridge();

  /// By an address in the shadow area. The last 64 KiB are one piece.
  Shadow shadow(uint32_t address) const;
  /// SMRAMC: where system management RAM shows.
  uint8_t smram() const { return static_cast<uint8_t>(config_.read(0x72, 1)); }
  /// Called when a PAM register or SMRAMC may have changed.
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }

 protected:
  void config_changed() override;

 private:
  uint64_t seen_ = 0;  ///< PAM and SMRAMC when on_change was last called.
  std::function<void()> on_change_;
};

/// Intel 82371SB. Port 0xCF9 is somebody else's.
class IsaBridge : public PciFunction {
 public:
  static constexpr int kDevice = 1, kFunction = 0;

  /// Where program_as_firmware() routes PIRQA to PIRQD.
  static constexpr std::array<uint8_t, InterruptRouter::kPirqs> kFirmwareIrqs = {10, 11, 10, 11};

  /// The PIRQ registers steer the router.
  explicit IsaBridge(InterruptRouter& router);

  /// Routes the PIRQs as firmware would. To be called after reset() when there is none.
  void program_as_firmware();

 protected:
  void config_changed() override;

 private:
  InterruptRouter& router_;
};

/// Function 3 of Intel 82371AB. No SMBus host answers, and its base is only kept.
class PowerFunction : public PciFunction {
 public:
  static constexpr int kDevice = 1, kFunction = 3;
  static constexpr uint16_t kPorts = 64;

  /// `on_decode` is told where the power management registers are in I/O space, or that they are
  /// nowhere, when that changes. At first they are nowhere.
  explicit PowerFunction(std::function<void(std::optional<uint16_t> base)> on_decode);

  /// Puts the registers at `base` (a multiple of 64) and enables them, as firmware would. To be
  /// called after reset() when there is none.
  void program_as_firmware(uint16_t base);

 protected:
  void config_changed() override;

 private:
  std::function<void(std::optional<uint16_t>)> on_decode_;
  std::optional<uint16_t> decoded_;
};

}  // namespace trapline
