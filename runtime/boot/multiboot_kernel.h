// The kernel file of a Multiboot boot: its header, and what of it goes where.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/boot/input_file.h"
#include "runtime/boot/ram_layout.h"
#include "vcpu/result.h"

namespace trapline {

struct MultibootHeader {
  static constexpr uint32_t kPageAlignModules = 1u << 0;
  static constexpr uint32_t kMemoryInformation = 1u << 1;
  static constexpr uint32_t kVideoMode = 1u << 2;
  static constexpr uint32_t kAddressFields = 1u << 16;

  uint32_t offset = 0;  ///< In the file.
  uint32_t flags = 0;
  // With kAddressFields:
  uint32_t header_address = 0;
  uint32_t load_address = 0;
  uint32_t load_end = 0;  ///< 0: to the end of the file.
  uint32_t bss_end = 0;   ///< 0: none.
  uint32_t entry = 0;
};

/// Physical memory [address, address + memory_bytes), of which the first file_bytes come from the
/// file and the rest is zero.
struct KernelSegment {
  uint64_t address = 0;
  uint64_t memory_bytes = 0;
  uint64_t file_offset = 0;
  uint64_t file_bytes = 0;

  uint64_t end() const { return address + memory_bytes; }
};

struct KernelLayout {
  std::vector<KernelSegment> segments;  ///< By address; in RAM, in the file, none overlaps another.
  uint32_t entry = 0;                   ///< Physical, in one of the segments.
};

/// The header, when this loader can do all that it requires.
Result<MultibootHeader> find_multiboot_header(const InputFile& file);
Result<KernelLayout> lay_out_kernel(const InputFile& file, const MultibootHeader& header,
                                    const RamLayout& ram);

}  // namespace trapline
