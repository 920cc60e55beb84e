// The memory that a firmware ROM answers for: all of it below 4 GiB, and its last 128 KiB below
// 1 MiB, where the host bridge says for each piece whether RAM answers instead.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "runtime/devices/pci_chipset.h"
#include "runtime/machine.h"

namespace trapline {

/// Reads of RAM with writes to the ROM are possible as well, and are how firmware protects its copy
/// of itself; the piece is then a ROM with the RAM's content. Writes to RAM under reads of ROM are
/// lost: nothing is known to use them.
class FirmwareRom {
 public:
  /// `machine` and `bridge` must live as long. Once for each machine.
  static Result<void> map_below_4g(Machine& machine, std::span<const std::byte> rom);

  FirmwareRom(Machine& machine, const HostBridge& bridge, std::span<const std::byte> rom);
  /// After the bridge's registers have changed. The pieces that answer differently are mapped anew.
  void update();

 private:
  enum class Answer : uint8_t { kRam, kRom, kReadOnlyRam };
  static constexpr uint32_t kPieces =
      (HostBridge::kShadowEnd - HostBridge::kShadowStart) / HostBridge::kShadowPiece;

  Answer wanted(uint32_t piece) const;
  void map(uint32_t piece, Answer answer);

  Machine& machine_;
  const HostBridge& bridge_;
  std::span<const std::byte> rom_;
  std::array<Answer, kPieces> shown_{};
};

}  // namespace trapline
