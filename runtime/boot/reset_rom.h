// A firmware image, started as a processor starts: at the reset vector.
#pragma once

#include <string>

#include "runtime/boot/boot_image.h"
#include "vcpu/result.h"

namespace trapline {

/// The ROM ends at 4 GiB; its last 128 KiB also end at 1 MiB. Sizes from 4 KiB to 16 MiB, in whole
/// pages. Everything that can be wrong with the file is ExitStatus::kBadInput with one sentence.
Result<BootImage> load_reset_rom(const std::string& path);

}  // namespace trapline
