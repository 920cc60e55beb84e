// The Multiboot 1 loader (version 0.6.96 of the specification): turns a kernel file, modules and a
// command line into what has to be put into RAM and the CPU's state at the kernel's entry.
//
// Kernels are ELF32 executables, or any format with the header's address fields. What the kernel is
// told: memory sizes and map, command line ("FILE TEXT", as QEMU gives it), modules with their
// strings, the loader's name. The information structure stands on the first page after the kernel
// (at 1 MiB when the kernel lies below), its lists and strings behind it, then the modules, each on
// pages of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/boot/boot_image.h"
#include "vcpu/result.h"

namespace trapline {

struct MultibootRequest {
  std::string kernel_path;
  std::string append;  ///< What follows the kernel's path on its command line.
  /// "PATH" or "PATH ARGUMENTS"; the whole text becomes the module's string.
  std::vector<std::string> modules;
};

/// Everything that can be wrong with the files is ExitStatus::kBadInput with one sentence.
Result<BootImage> load_multiboot(const MultibootRequest& request, uint64_t ram_bytes);

}  // namespace trapline
