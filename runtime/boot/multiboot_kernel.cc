#include "runtime/boot/multiboot_kernel.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "runtime/boot/little_endian.h"

namespace trapline {
namespace {

constexpr uint32_t kMagic = 0x1badb002;
constexpr uint32_t kMagicOfMultiboot2 = 0xe85250d6;
constexpr uint16_t kMagicOfGzip = 0x8b1f;
constexpr uint64_t kSearched = 8192;
constexpr uint32_t kRequirements = 0xffff;  // Flags that a loader must refuse when unknown.
constexpr uint32_t kKnownRequirements = MultibootHeader::kPageAlignModules |
                                        MultibootHeader::kMemoryInformation |
                                        MultibootHeader::kVideoMode;
constexpr uint32_t kTextMode = 1;

using Bytes = std::vector<std::byte>;

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

/// Why there is no header, as helpfully as the file allows.
Error no_header(const InputFile& file, const Bytes& start) {
  for (size_t at = 0; at + 12 <= start.size(); at += 4)
    if (load32(start, at) == kMagic)
      return file.bad("has a Multiboot header at offset " + std::to_string(at) +
                      " with a wrong checksum; magic, flags and checksum must add up to 0");
  for (size_t at = 0; at + 4 <= start.size(); at += 4)
    if (load32(start, at) == kMagicOfMultiboot2)
      return file.bad("has a Multiboot 2 header only; build it with a Multiboot 1 header");
  if (start.size() >= 2 && load16(start, 0) == kMagicOfGzip)
    return file.bad("is compressed; unpack it with gunzip and give the result");
  if (start.size() >= 0x206 && std::memcmp(start.data() + 0x202, "HdrS", 4) == 0)
    return file.bad("is a Linux kernel image, which has no Multiboot header; give a Multiboot one");
  return file.bad(
      "has no Multiboot header in its first 8192 bytes; give a kernel built for Multiboot 1");
}

Result<void> check_requirements(const InputFile& file, const Bytes& start,
                                const MultibootHeader& header) {
  const uint32_t unknown = header.flags & kRequirements & ~kKnownRequirements;
  if (unknown != 0)
    return file.bad("requires Multiboot features that this loader does not have (flags " +
                    hex(unknown) + "); build it without them");
  if (header.flags & MultibootHeader::kVideoMode) {
    if (header.offset + 48 > start.size())
      return file.bad("is truncated in the middle of its Multiboot header");
    if (load32(start, header.offset + 32) != kTextMode)
      return file.bad(
          "requires a graphics mode, and this machine has no screen; build it for text mode");
  }
  return {};
}

constexpr size_t kProgramHeaderSize = 32;

struct ElfHeader {
  uint32_t entry;
  uint32_t program_headers;
  uint16_t program_header_count;
};

Result<ElfHeader> read_elf_header(const InputFile& file) {
  constexpr std::string_view kElf = "\177ELF";
  auto ident = file.read(0, std::min<uint64_t>(file.size(), 6));
  if (!ident.ok()) return ident.error();
  if (ident.value().size() < 6 || std::memcmp(ident.value().data(), kElf.data(), 4) != 0)
    return file.bad(
        "is not an ELF file and its Multiboot header has no address fields (flag bit 16); give one "
        "or the other");
  if (std::to_integer<int>(ident.value()[4]) != 1)
    return file.bad("is a 64-bit ELF file; build it for 32 bits (gcc -m32, ld -m elf_i386)");
  if (std::to_integer<int>(ident.value()[5]) != 1)
    return file.bad("is a big-endian ELF file; build it for x86");
  auto read = file.read(0, 52);
  if (!read.ok()) return read.error();
  const Bytes& raw = read.value();
  if (load16(raw, 18) != 3) return file.bad("is an ELF file for another processor than x86");
  if (load16(raw, 16) != 2)
    return file.bad("is an ELF file but not a linked executable; link it with fixed addresses");
  const ElfHeader header{load32(raw, 24), load32(raw, 28), load16(raw, 44)};
  if (header.program_header_count == 0)
    return file.bad("has no program headers, so nothing of it can be loaded; link it again");
  if (load16(raw, 42) != kProgramHeaderSize)
    return file.bad("has program headers of " + std::to_string(load16(raw, 42)) +
                    " bytes where ELF32 has 32; link it again");
  return header;
}

/// The entry is a virtual address in most kernels, and a physical one in some that are linked high.
Result<KernelLayout> lay_out_elf(const InputFile& file) {
  auto elf = read_elf_header(file);
  if (!elf.ok()) return elf.error();
  const ElfHeader& header = elf.value();
  auto table = file.read(header.program_headers, kProgramHeaderSize * header.program_header_count);
  if (!table.ok()) return table.error();
  KernelLayout layout{{}, header.entry};
  bool entry_found = false;
  for (uint32_t i = 0; i < header.program_header_count; ++i) {
    const auto raw = std::span<const std::byte>(table.value())
                         .subspan(i * kProgramHeaderSize, kProgramHeaderSize);
    const KernelSegment segment{load32(raw, 12), load32(raw, 20), load32(raw, 4), load32(raw, 16)};
    if (load32(raw, 0) != 1 || segment.memory_bytes == 0) continue;
    if (segment.file_bytes > segment.memory_bytes)
      return file.bad("has a segment with more bytes in the file than in memory; link it again");
    const uint32_t virtual_address = load32(raw, 8);
    const uint32_t into = header.entry - virtual_address;
    if (!entry_found && header.entry >= virtual_address && into < segment.memory_bytes) {
      entry_found = true;
      layout.entry = static_cast<uint32_t>(segment.address + into);
    }
    layout.segments.push_back(segment);
  }
  return layout;
}

Result<KernelLayout> lay_out_by_addresses(const InputFile& file, const MultibootHeader& header) {
  const auto senseless = [&](const char* what) {
    return file.bad(std::string("has senseless Multiboot address fields: ") + what +
                    "; correct its header");
  };
  if (header.load_address > header.header_address)
    return senseless("it would load above its own header");
  const uint32_t before_header = header.header_address - header.load_address;
  if (before_header > header.offset)
    return senseless("what should be loaded begins before the file does");
  KernelSegment segment;
  segment.address = header.load_address;
  segment.file_offset = header.offset - before_header;
  segment.file_bytes = file.size() - segment.file_offset;
  if (header.load_end != 0) {
    if (header.load_end <= header.load_address) return senseless("the load ends before it begins");
    segment.file_bytes = header.load_end - header.load_address;
  }
  segment.memory_bytes = segment.file_bytes;
  if (header.bss_end != 0) {
    if (header.bss_end < segment.address + segment.file_bytes)
      return senseless("the zeroed memory ends before the loaded bytes do");
    segment.memory_bytes = header.bss_end - header.load_address;
  }
  return KernelLayout{{segment}, header.entry};
}

Result<void> check_layout(const InputFile& file, const KernelLayout& layout, const RamLayout& ram) {
  if (layout.segments.empty()) return file.bad("has nothing to load; link it again");
  const KernelSegment* previous = nullptr;
  for (const KernelSegment& segment : layout.segments) {
    const std::string place = hex(segment.address) + " to " + hex(segment.end() - 1);
    if (segment.file_offset > file.size() || segment.file_bytes > file.size() - segment.file_offset)
      return file.bad("is truncated: what goes to " + place +
                      " is not all in the file; copy or build it again");
    if (!ram.usable(segment.address, segment.memory_bytes))
      return file.bad("has a segment at " + place +
                      ", where there is no RAM for it; link it elsewhere or give more --memory");
    if (previous != nullptr && segment.address < previous->end())
      return file.bad("has two segments that both cover " + hex(segment.address) +
                      "; link it again");
    previous = &segment;
  }
  const auto holds_entry = [&](const KernelSegment& segment) {
    return layout.entry >= segment.address && layout.entry < segment.end();
  };
  if (std::ranges::none_of(layout.segments, holds_entry))
    return file.bad("has its entry at " + hex(layout.entry) +
                    ", outside of what is loaded; link it again");
  return {};
}

}  // namespace

Result<MultibootHeader> find_multiboot_header(const InputFile& file) {
  if (file.size() == 0) return file.bad("is empty; copy or build it again");
  auto read = file.read(0, std::min(file.size(), kSearched));
  if (!read.ok()) return read.error();
  const Bytes& start = read.value();
  for (uint32_t at = 0; at + 12 <= start.size(); at += 4) {
    const uint32_t flags = load32(start, at + 4);
    if (load32(start, at) != kMagic || kMagic + flags + load32(start, at + 8) != 0) continue;
    MultibootHeader header{.offset = at, .flags = flags};
    if (flags & MultibootHeader::kAddressFields) {
      if (at + 32 > start.size())
        return file.bad("is truncated in the middle of its Multiboot header");
      header.header_address = load32(start, at + 12);
      header.load_address = load32(start, at + 16);
      header.load_end = load32(start, at + 20);
      header.bss_end = load32(start, at + 24);
      header.entry = load32(start, at + 28);
    }
    if (auto known = check_requirements(file, start, header); !known.ok()) return known.error();
    return header;
  }
  return no_header(file, start);
}

Result<KernelLayout> lay_out_kernel(const InputFile& file, const MultibootHeader& header,
                                    const RamLayout& ram) {
  auto layout = header.flags & MultibootHeader::kAddressFields ? lay_out_by_addresses(file, header)
                                                               : lay_out_elf(file);
  if (!layout.ok()) return layout;
  std::ranges::sort(layout.value().segments, {}, &KernelSegment::address);
  if (auto checked = check_layout(file, layout.value(), ram); !checked.ok()) return checked.error();
  return layout;
}

}  // namespace trapline
