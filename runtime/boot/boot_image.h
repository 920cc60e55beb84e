// What a loader makes of its files: bytes for RAM, and the CPU's state at the first instruction.
#pragma once

#include <cstddef>
#include <vector>

#include "vcpu/address.h"
#include "vcpu/state.h"

namespace trapline {

class Machine;

/// Bytes for RAM. What no piece covers must be zero, as it is in a new machine.
struct BootPiece {
  Physical address;
  std::vector<std::byte> content;
  /// So many bytes from the host's source of randomness follow, others each time. Where the host
  /// has none, nothing of the piece is there.
  size_t random_bytes = 0;
};

struct BootImage {
  std::vector<BootPiece> pieces;  ///< None overlaps another.
  CpuState state;
  /// Firmware: it ends at 4 GiB, and its last part at 1 MiB as well. Empty: there is none, and what
  /// it would have set up is set up already.
  std::vector<std::byte> rom{};
};

/// Puts the pieces into RAM and sets the CPU's state.
void place_boot_image(const BootImage& image, Machine& machine);

}  // namespace trapline
