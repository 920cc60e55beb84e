#include "runtime/boot/linux_kernel.h"

#include <algorithm>

#include "runtime/boot/linux_header.h"
#include "runtime/boot/little_endian.h"

namespace trapline {
namespace {

namespace field = linux_header;
using Bytes = std::vector<std::byte>;

// Low memory: the zero page or, for a start in real mode, the setup code with its heap and stack.
constexpr uint64_t kSetup = 0x90000;
constexpr uint64_t kGdt = 0x91000;
constexpr uint64_t kRandomSeed = 0x92000;
constexpr uint64_t kSetupEnd = 0x98000;
constexpr uint64_t kCommandLine = kSetupEnd;
constexpr uint64_t kCommandLineEnd = 0x9f000;

constexpr uint16_t kCode = 0x10, kData = 0x18;  // As the protocol wants the selectors.
constexpr uint8_t kUnknownLoader = 0xff;
constexpr uint64_t kMebibyte = 1 << 20;
constexpr uint64_t kPage = 4096;

namespace zero_page {
constexpr size_t kSize = 4096;
constexpr size_t kOldExtendedMemory = 0x02, kAcpiRsdp = 0x70, kExtendedMemory = 0x1e0;
constexpr size_t kMapEntries = 0x1e8, kMap = 0x2d0, kMapEntrySize = 20, kMostMapEntries = 128;
}  // namespace zero_page

/// What the zero page has no room for is a list of such.
namespace setup_data {
constexpr size_t kNext = 0, kType = 8, kLength = 12, kHeadSize = 16;
constexpr uint32_t kRandomSeedType = 9;  ///< Known from Linux 6.0 on; others skip it.
constexpr uint32_t kRandomSeedBytes = 32;
constexpr uint16_t kSinceVersion = 0x209;
}  // namespace setup_data

constexpr uint64_t page_up(uint64_t bytes) {
  return (bytes + kPage - 1) & ~(kPage - 1);
}

/// "34M": whole mebibytes, as --memory takes them.
std::string as_memory_option(uint64_t bytes) {
  return std::to_string((bytes + kMebibyte - 1) / kMebibyte) + "M";
}

std::string what_the_machine_has(uint64_t ram_bytes) {
  return "the machine has " + std::to_string(ram_bytes / 1024) + " KiB of RAM";
}

struct InitialRamDisk {
  uint64_t address = 0;
  Bytes content;  ///< Empty: there is none.
};

Result<void> check_memory(const InputFile& file, const LinuxHeader& header, const MemoryMap& map,
                          uint64_t ram_bytes) {
  const uint64_t bytes = header.memory_end - LinuxHeader::kLoadAddress;
  if (map.usable(LinuxHeader::kLoadAddress, bytes) && map.usable(kSetup, kCommandLineEnd - kSetup))
    return {};
  if (header.memory_end > RamLayout::kHoleStart)
    return file.bad("asks for memory up to " + as_memory_option(header.memory_end) +
                    ", more than a PC has in one piece; copy or build it again");
  return file.bad("needs " + as_memory_option(header.memory_end) + " to unpack itself, and " +
                  what_the_machine_has(ram_bytes) + "; give --memory " +
                  as_memory_option(header.memory_end) + " or more");
}

/// Why there is no place, with the amount of RAM that would do if one would.
Error no_room_for_initrd(const InputFile& file, const LinuxHeader& header, const MemoryMap& map,
                         const RamLayout& ram) {
  uint64_t taken = 0;  // RAM above 1 MiB that tables and the like are in.
  for (const MemoryRange& range : map.ranges())
    if (range.kind != MemoryKind::kUsable && range.address >= RamLayout::kHighStart &&
        range.end() <= ram.high_end())
      taken += range.bytes;
  const uint64_t size = page_up(file.size());
  const uint64_t limit = std::min(header.initrd_limit, RamLayout::kHoleStart);
  const uint64_t needed =
      std::max(page_up(header.memory_end) + size + page_up(taken), ram.bytes + size);
  if (needed > limit)
    return file.bad("is too large: it has " + std::to_string(file.size()) +
                    " bytes, and must lie between the kernel and " + as_memory_option(limit) +
                    "; give a smaller one");
  return file.bad("does not fit beside the kernel: " + what_the_machine_has(ram.bytes) +
                  "; give --memory " + as_memory_option(needed) + " or more");
}

Result<InitialRamDisk> place_initrd(const std::string& path, const LinuxHeader& header,
                                    const MemoryMap& map, const RamLayout& ram) {
  InitialRamDisk disk;
  if (path.empty()) return disk;
  auto opened = InputFile::open(path, "initrd");
  if (!opened.ok()) return opened.error();
  const InputFile& file = opened.value();
  if (file.size() == 0) return file.bad("is empty; make it again, or leave --initrd out");
  const auto address = map.highest_room(page_up(file.size()), header.memory_end,
                                        std::min(header.initrd_limit, RamLayout::kHoleStart));
  if (!address) return no_room_for_initrd(file, header, map, ram);
  auto content = file.read(0, file.size());
  if (!content.ok()) return content.error();
  disk.address = *address;
  disk.content = content.take();
  return disk;
}

Result<BootPiece> command_line(const InputFile& kernel, const LinuxHeader& header,
                               const std::string& text) {
  const uint64_t most = std::min(header.command_line_max, kCommandLineEnd - kCommandLine - 1);
  if (text.size() > most)
    return kernel.bad("takes a command line of at most " + std::to_string(most) +
                      " bytes, and --append has " + std::to_string(text.size()) + "; shorten it");
  BootPiece piece{{kCommandLine}, Bytes(text.size() + 1)};
  std::ranges::transform(text, piece.content.begin(),
                         [](char c) { return static_cast<std::byte>(c); });
  return piece;
}

/// What a loader has to tell in the header's own fields.
void fill_header(Bytes& setup, const InitialRamDisk& disk) {
  setup[field::kTypeOfLoader] = std::byte{kUnknownLoader};
  store32(setup, field::kCommandLine, static_cast<uint32_t>(kCommandLine));
  store32(setup, field::kInitrd, static_cast<uint32_t>(disk.address));
  store32(setup, field::kInitrdSize, static_cast<uint32_t>(disk.content.size()));
}

void fill_memory(Bytes& page, const MemoryMap& map, const RamLayout& ram) {
  const auto kib = static_cast<uint32_t>((ram.high_end() - RamLayout::kHighStart) / 1024);
  store32(page, zero_page::kExtendedMemory, kib);
  store_little(page, zero_page::kOldExtendedMemory, std::min<uint32_t>(kib, 0xfc00), 2);
  const size_t count = std::min(map.ranges().size(), zero_page::kMostMapEntries);
  page[zero_page::kMapEntries] = static_cast<std::byte>(count);
  for (size_t i = 0; i < count; ++i) {
    const MemoryRange& range = map.ranges()[i];
    const size_t at = zero_page::kMap + i * zero_page::kMapEntrySize;
    store64(page, at, range.address);
    store64(page, at + 8, range.bytes);
    store32(page, at + 16, static_cast<uint32_t>(range.kind));
  }
}

BootPiece make_zero_page(const LinuxHeader& header, const InitialRamDisk& disk,
                         const MemoryMap& map, const RamLayout& ram, uint64_t acpi_rsdp) {
  Bytes page(zero_page::kSize);
  std::copy(header.setup.begin() + field::kStart,
            header.setup.begin() + static_cast<ptrdiff_t>(header.header_end),
            page.begin() + field::kStart);
  fill_header(page, disk);
  fill_memory(page, map, ram);
  if (header.version >= 0x20e) store64(page, zero_page::kAcpiRsdp, acpi_rsdp);
  return {{kSetup}, std::move(page)};
}

/// Puts it into the list that the zero page begins.
BootPiece make_random_seed(BootPiece& zero_page) {
  store64(zero_page.content, field::kSetupData, kRandomSeed);
  Bytes head(setup_data::kHeadSize);
  store64(head, setup_data::kNext, 0);
  store32(head, setup_data::kType, setup_data::kRandomSeedType);
  store32(head, setup_data::kLength, setup_data::kRandomSeedBytes);
  return {{kRandomSeed}, std::move(head), setup_data::kRandomSeedBytes};
}

uint64_t descriptor(const Segment& flat) {
  return uint64_t{0xffff} | uint64_t{0xf} << 48 | uint64_t{flat.attributes} << 40;
}

void enter_protected(BootImage& image, uint32_t entry) {
  CpuState& state = image.state = CpuState::flat32(0);
  for (Segment& segment : state.segment) segment = Segment::flat(kData, false, 0);
  state.segment[kCs] = Segment::flat(kCode, true, 0);
  state.cr0 = cr0::kPe | cr0::kEt;
  state.cr4 = 0;
  state.idtr = {0, 0};
  state.eip = entry;
  state.gpr[kEsi] = static_cast<uint32_t>(kSetup);
  state.gpr[kEsp] = static_cast<uint32_t>(kSetup);

  Bytes gdt(kData + 8);
  store64(gdt, kCode, descriptor(state.segment[kCs]));
  store64(gdt, kData, descriptor(state.segment[kDs]));
  state.gdtr = {static_cast<uint32_t>(kGdt), static_cast<uint16_t>(gdt.size() - 1)};
  image.pieces.push_back({{kGdt}, std::move(gdt)});
}

/// The heap ends, and the stack begins, where the command line does.
void enter_real(BootImage& image, Bytes setup) {
  setup[field::kLoadFlags] |= std::byte{field::kCanUseHeap};
  store_little(setup, field::kHeapEnd, kSetupEnd - kSetup - 0x200, 2);
  image.pieces.push_back({{kSetup}, std::move(setup)});

  CpuState& state = image.state = CpuState::reset();
  const auto segment = static_cast<uint16_t>(kSetup >> 4);
  for (Segment& each : state.segment) each = Segment::real(segment, false);
  state.segment[kCs] = Segment::real(static_cast<uint16_t>(segment + 0x20), true);
  state.eip = 0;
  state.gpr.fill(0);
  state.gpr[kEsp] = static_cast<uint32_t>(kSetupEnd - kSetup);
}

}  // namespace

Result<BootImage> load_linux(const LinuxRequest& request, uint64_t ram_bytes) {
  const RamLayout ram{ram_bytes};
  const MemoryMap map(ram, request.special);
  auto opened = InputFile::open(request.kernel_path, "kernel");
  if (!opened.ok()) return opened.error();
  const InputFile& kernel = opened.value();
  auto read = read_linux_header(kernel);
  if (!read.ok()) return read.error();
  LinuxHeader& header = read.value();
  if (auto enough = check_memory(kernel, header, map, ram_bytes); !enough.ok())
    return enough.error();
  auto text = command_line(kernel, header, request.command_line);
  if (!text.ok()) return text.error();
  auto placed = place_initrd(request.initrd_path, header, map, ram);
  if (!placed.ok()) return placed.error();
  InitialRamDisk& disk = placed.value();
  auto content = kernel.read(header.kernel_offset, header.kernel_bytes);
  if (!content.ok()) return content.error();

  BootImage image;
  image.pieces.push_back({{LinuxHeader::kLoadAddress}, content.take()});
  image.pieces.push_back(text.take());
  if (header.entry != 0) {
    BootPiece zero_page = make_zero_page(header, disk, map, ram, request.acpi_rsdp);
    if (request.random_seed && header.version >= setup_data::kSinceVersion)
      image.pieces.push_back(make_random_seed(zero_page));
    image.pieces.push_back(std::move(zero_page));
    enter_protected(image, header.entry);
  } else {
    if (header.setup.size() > kSetupEnd - kSetup - 0x1000)
      return kernel.bad("has more setup code than fits into low memory; build it again");
    fill_header(header.setup, disk);
    enter_real(image, std::move(header.setup));
  }
  if (!disk.content.empty()) image.pieces.push_back({{disk.address}, std::move(disk.content)});
  return image;
}

}  // namespace trapline
