// The setup header of a kernel image that follows the Linux boot protocol ("bzImage"), read with
// the meaning that its protocol version gives each field.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/boot/input_file.h"
#include "vcpu/result.h"

namespace trapline {

/// Where fields stand in the setup header, in the image as well as in the zero page.
namespace linux_header {
inline constexpr size_t kStart = 0x1f1;
inline constexpr size_t kSetupSectors = 0x1f1, kSystemSize = 0x1f4, kBootFlag = 0x1fe;
inline constexpr size_t kJumpOffset = 0x201, kMagic = 0x202, kVersion = 0x206;
inline constexpr size_t kTypeOfLoader = 0x210, kLoadFlags = 0x211, kEntry = 0x214;
inline constexpr size_t kInitrd = 0x218, kInitrdSize = 0x21c, kHeapEnd = 0x224;
inline constexpr size_t kCommandLine = 0x228, kInitrdMax = 0x22c, kAlignment = 0x230;
inline constexpr size_t kRelocatable = 0x234, kMoreLoadFlags = 0x236, kCommandLineMax = 0x238;
inline constexpr size_t kSetupData = 0x250, kPreferred = 0x258, kInitSize = 0x260;
/// What the zero page has room for.
inline constexpr size_t kLongestEnd = 0x290;

inline constexpr uint8_t kLoadedHigh = 1u << 0, kCanUseHeap = 1u << 7;
}  // namespace linux_header

struct LinuxHeader {
  static constexpr uint64_t kLoadAddress = 0x100000;  ///< Of every bzImage.

  uint16_t version = 0;
  /// The 16-bit part: boot sector and setup code.
  std::vector<std::byte> setup;
  size_t header_end = 0;  ///< In `setup`; one past the header's last byte.
  /// The rest of the file, as far as it is to be loaded.
  uint64_t kernel_offset = 0;
  uint64_t kernel_bytes = 0;
  /// Where the 32-bit part is entered; 0 when the image can be entered in real mode only.
  uint32_t entry = 0;
  uint64_t initrd_limit = 0;  ///< One past the highest address that an initrd may have.
  uint64_t command_line_max = 0;
  /// One past the highest address that the kernel uses before it reads the memory map.
  uint64_t memory_end = 0;
};

/// The header, when this is a whole image of a 32-bit kernel that this loader can start.
Result<LinuxHeader> read_linux_header(const InputFile& file);

}  // namespace trapline
