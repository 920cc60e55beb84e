#include "runtime/boot/linux_header.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/boot/little_endian.h"

namespace trapline {
namespace {

namespace field = linux_header;

constexpr uint64_t kSector = 512;
constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint16_t kOldest = 0x202;
constexpr uint16_t kKernel64 = 1u << 0;  // In kMoreLoadFlags.

using Bytes = std::vector<std::byte>;

bool begins_with(const Bytes& content, std::string_view text) {
  return content.size() >= text.size() &&
         std::memcmp(content.data(), text.data(), text.size()) == 0;
}

std::string version_text(uint16_t version) {
  char text[16];
  std::snprintf(text, sizeof text, "%d.%02d", version >> 8, version & 0xff);
  return text;
}

/// Why this is no kernel image, as helpfully as the file allows.
Error no_image(const InputFile& file, const Bytes& start) {
  if (file.size() == 0) return file.bad("is empty; copy or build it again");
  if (begins_with(start, "\177ELF"))
    return file.bad(
        "is an ELF file; give the bzImage that was built from it (arch/x86/boot/bzImage), or use "
        "--multiboot if it is a Multiboot kernel");
  if (begins_with(start, "\x1f\x8b") || begins_with(start,
                                                    "\xfd"
                                                    "7zXZ"))
    return file.bad("is a compressed file; give the kernel image itself, a bzImage");
  if (begins_with(start, "0707"))
    return file.bad("is a cpio archive; give the kernel here and this with --initrd");
  return file.bad(
      "is not a Linux kernel image, since it lacks the magic 'HdrS' at offset 514; "
      "give a bzImage");
}

Result<void> check_kind(const InputFile& file, const Bytes& setup, uint16_t version) {
  if (version < kOldest)
    return file.bad("follows boot protocol " + version_text(version) +
                    ", which is too old; 2.02 (Linux 2.4) is the first that works");
  if (!(std::to_integer<uint8_t>(setup[field::kLoadFlags]) & field::kLoadedHigh))
    return file.bad("is a zImage, which loads into low memory; build a bzImage");
  if (version >= 0x20c && (load16(setup, field::kMoreLoadFlags) & kKernel64))
    return file.bad(
        "is a 64-bit kernel, and this machine is a 32-bit PC; give the 32-bit one (of Debian's "
        "Linux: linux-image-686)");
  return {};
}

/// How much of the file behind the setup code is the kernel. The size that the header gives may
/// exceed it by less than its unit, and signatures may follow.
Result<uint64_t> kernel_bytes(const InputFile& file, const LinuxHeader& header) {
  const uint64_t there = file.size() - std::min(file.size(), header.kernel_offset);
  // Before 2.04 the field had 16 bits, too few for most kernels.
  const uint64_t units = header.version >= 0x204 ? load32(header.setup, field::kSystemSize) : 0;
  const uint64_t named = 16 * units;
  if (there == 0 || (units != 0 && there <= named - 16))
    return file.bad("is truncated: its header promises " +
                    std::to_string(header.kernel_offset + std::max<uint64_t>(named, 1)) +
                    " bytes, and the file has " + std::to_string(file.size()) +
                    "; copy or build it again");
  return units == 0 ? there : std::min(there, named);
}

/// The kernel moves itself from where it is loaded to where it unpacks.
uint64_t memory_end(const LinuxHeader& header) {
  const uint64_t loaded_end = LinuxHeader::kLoadAddress + header.kernel_bytes;
  if (header.version < 0x20a) return loaded_end;
  uint64_t start = load_little(header.setup, field::kPreferred, 8);
  if (std::to_integer<int>(header.setup[field::kRelocatable]) != 0) {
    const uint64_t alignment = std::max<uint64_t>(load32(header.setup, field::kAlignment), 1);
    const uint64_t aligned = (LinuxHeader::kLoadAddress + alignment - 1) / alignment * alignment;
    start = std::max(start, aligned);
  }
  constexpr uint64_t kNowhere = uint64_t{1} << 32;  // Keeps the sum from wrapping.
  return std::max(loaded_end, std::min(start, kNowhere) + load32(header.setup, field::kInitSize));
}

void read_limits(LinuxHeader& header) {
  header.initrd_limit =
      header.version >= 0x203 ? uint64_t{load32(header.setup, field::kInitrdMax)} + 1 : 0x38000000;
  header.command_line_max =
      header.version >= 0x206 ? load32(header.setup, field::kCommandLineMax) : 255;
}

}  // namespace

Result<LinuxHeader> read_linux_header(const InputFile& file) {
  auto start = file.read(0, std::min(file.size(), 2 * kSector));
  if (!start.ok()) return start.error();
  const Bytes& raw = start.value();
  if (raw.size() < field::kMagic + 4 || load16(raw, field::kBootFlag) != kBootFlag ||
      std::memcmp(raw.data() + field::kMagic, "HdrS", 4) != 0)
    return no_image(file, raw);
  if (raw.size() < 2 * kSector)
    return file.bad("is truncated in its setup header; copy or build it again");

  LinuxHeader header;
  header.version = load16(raw, field::kVersion);
  if (auto checked = check_kind(file, raw, header.version); !checked.ok()) return checked.error();
  const uint64_t sectors = std::to_integer<uint64_t>(raw[field::kSetupSectors]);
  header.kernel_offset = ((sectors == 0 ? 4 : sectors) + 1) * kSector;
  auto setup = file.read(0, header.kernel_offset);
  if (!setup.ok()) return setup.error();
  header.setup = setup.take();
  header.header_end = field::kMagic + std::to_integer<size_t>(raw[field::kJumpOffset]);
  if (header.header_end > field::kLongestEnd || header.header_end < field::kInitrdMax)
    return file.bad("has a setup header of a senseless length; copy or build it again");
  auto bytes = kernel_bytes(file, header);
  if (!bytes.ok()) return bytes.error();
  header.kernel_bytes = bytes.value();
  header.entry = load32(header.setup, field::kEntry);
  if (header.entry != 0 && (header.entry < LinuxHeader::kLoadAddress ||
                            header.entry - LinuxHeader::kLoadAddress >= header.kernel_bytes))
    return file.bad("has its entry outside of what is loaded; copy or build it again");
  header.memory_end = memory_end(header);
  read_limits(header);
  return header;
}

}  // namespace trapline
