// Boot-sector-like code: the bytes of a file at an address, and the state that a BIOS leaves to
// what it boots.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/boot/boot_image.h"
#include "vcpu/result.h"

namespace trapline {

struct RawRequest {
  std::string path;
  uint32_t load_address = 0x7c00;
  uint16_t entry_segment = 0;
  uint16_t entry_offset = 0x7c00;
};

/// Real mode, interrupts on, all data segments 0, the stack right below 0x7C00 (or below the image,
/// where that is lower), DL the first hard disk. The image must lie in RAM and above 0x500, where a
/// BIOS's variables end. Everything that can be wrong is ExitStatus::kBadInput with one sentence.
Result<BootImage> load_raw(const RawRequest& request, uint64_t ram_bytes);

}  // namespace trapline
