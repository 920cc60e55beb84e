// The Linux boot protocol: turns a kernel image, an initial RAM disk and a command line into what
// has to be put into RAM and the CPU's state at the kernel's entry.
//
// The kernel's 32-bit part goes to 1 MiB, the RAM disk as high as the kernel and RAM allow. In low
// memory stand the zero page with the setup header and the memory map, the GDT of the entry state,
// and the command line. A kernel finds no screen there: it has the serial console.
//
// An image without a 32-bit entry (iPXE is one) is started as a BIOS boot loader would, at its
// setup code in real mode; it then needs the firmware that such code calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/boot/boot_image.h"
#include "runtime/boot/memory_map.h"
#include "vcpu/result.h"

namespace trapline {

struct LinuxRequest {
  std::string kernel_path;
  std::string initrd_path;  ///< Empty: none.
  std::string command_line;
  /// What of the memory is not for the kernel: tables, ROMs, devices. Nothing is loaded there.
  std::vector<MemoryRange> special;
  uint64_t acpi_rsdp = 0;  ///< Where ACPI's root pointer stands; 0: the kernel must search for it.
  /// The kernel is given random bytes to begin with. Linux otherwise gathers its own for a second,
  /// when the first program asks for some.
  bool random_seed = true;
};

/// Everything that can be wrong with the files is ExitStatus::kBadInput with one sentence.
Result<BootImage> load_linux(const LinuxRequest& request, uint64_t ram_bytes);

}  // namespace trapline
