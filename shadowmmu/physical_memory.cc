#include "shadowmmu/physical_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "shadowmmu/host_pages.h"
#include "shadowmmu/ram_gatherer.h"
#include "vcpu/assert.h"
#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

constexpr uint64_t kLowRamEnd = uint64_t{3} << 30;
constexpr uint64_t kHighRamStart = uint64_t{4} << 30;
constexpr Frame kNothing{};

struct Rom {
  HostPages pages;
  uint64_t frames = 0;  // Still mapped somewhere, hidden or not.
};

std::string in_mebibytes(uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

Error host_refuses(uint64_t bytes) {
  return {ExitStatus::kHost, "the host does not give " + in_mebibytes(bytes) +
                                 " for the guest's memory (" + std::strerror(errno) +
                                 "); try a smaller --memory"};
}

bool whole_frames(uint64_t start, uint64_t bytes) {
  return start % kPageSize == 0 && bytes % kPageSize == 0 && bytes != 0 &&
         start < uint64_t{1} << kPhysicalBits && bytes <= (uint64_t{1} << kPhysicalBits) - start;
}

Error not_whole_frames(const char* what) {
  return {ExitStatus::kUsage, std::string(what) +
                                  " can only be mapped in whole 4096-byte pages below the physical "
                                  "address limit; align its start and its size"};
}

}  // namespace

struct PhysicalMemory::Parts {
  int file = -1;
  std::byte* ram = nullptr;
  uint64_t ram_bytes = 0;
  RamGatherer gatherer;
  HostPages chunk_table;
  std::vector<std::unique_ptr<Frame[]>> chunks;
  std::vector<Rom> roms;
  /// By frame number, the ROM and MMIO frames below the one that shows, deepest first.
  std::unordered_map<uint64_t, std::vector<Frame>> hidden;

  ~Parts() {
    if (ram) munmap(ram, ram_bytes);
    if (file >= 0) close(file);
  }

  void forget_rom_frame(const std::byte* host) {
    const auto owner = std::find_if(roms.begin(), roms.end(), [host](const Rom& rom) {
      return host >= rom.pages.data() && host < rom.pages.data() + rom.pages.size();
    });
    TRAPLINE_ASSERT(owner != roms.end());
    if (--owner->frames == 0) roms.erase(owner);
  }
};

PhysicalMemory::PhysicalMemory() : parts_(std::make_unique<Parts>()) {}
PhysicalMemory::~PhysicalMemory() = default;

Result<std::unique_ptr<PhysicalMemory>> PhysicalMemory::create(uint64_t bytes) {
  if (bytes == 0 || bytes % kPageSize != 0)
    return Error{ExitStatus::kUsage,
                 "the guest's memory must be a multiple of 4096 bytes and not nothing; check "
                 "--memory"};
  if (bytes > kMaxRamBytes)
    return Error{ExitStatus::kUsage, "a guest can have at most " + in_mebibytes(kMaxRamBytes) +
                                         " of memory, not " + in_mebibytes(bytes) +
                                         "; try a smaller --memory"};
  std::unique_ptr<PhysicalMemory> memory(new PhysicalMemory);
  Parts& parts = *memory->parts_;
  parts.file = memfd_create("trapline-ram", MFD_CLOEXEC);
  if (parts.file < 0 || ftruncate(parts.file, static_cast<off_t>(bytes)) != 0)
    return host_refuses(bytes);
  void* ram = map_aligned(parts.file, bytes, PROT_READ | PROT_WRITE);
  if (!ram) return host_refuses(bytes);
  TRAPLINE_ASSERT(reinterpret_cast<uintptr_t>(ram) >> 32 != 0);
  parts.ram = static_cast<std::byte*>(ram);
  parts.ram_bytes = bytes;
  parts.gatherer = {parts.ram, bytes, parts.file};
  parts.chunk_table = HostPages::reserve(kFrameLimit / kChunkFrames * sizeof(Frame*));
  if (!parts.chunk_table) return host_refuses(bytes);
  memory->chunks_ = reinterpret_cast<Frame**>(parts.chunk_table.data());
  return memory;
}

void PhysicalMemory::clear() {
  Parts& parts = *parts_;
  const auto bytes = static_cast<off_t>(parts.ram_bytes);
  if (fallocate(parts.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) != 0)
    std::memset(parts.ram, 0, parts.ram_bytes);
  parts.gatherer.start_over();
}

void PhysicalMemory::gather(uint64_t nanoseconds_now) {
  parts_->gatherer.go_on(nanoseconds_now);
}

uint64_t PhysicalMemory::ram_bytes() const {
  return parts_->ram_bytes;
}

int PhysicalMemory::ram_file() const {
  return parts_->file;
}

std::optional<uint64_t> PhysicalMemory::ram_offset(uint64_t frame_number) const {
  const Frame& found = frame(frame_number);
  if (found.kind != FrameKind::kRam) return std::nullopt;
  return static_cast<uint64_t>(found.host - parts_->ram);
}

std::optional<uint64_t> PhysicalMemory::ram_offset_of(const std::byte* host) const {
  if (host < parts_->ram || host >= parts_->ram + parts_->ram_bytes) return std::nullopt;
  return static_cast<uint64_t>(host - parts_->ram);
}

Physical PhysicalMemory::ram_end() const {
  const uint64_t bytes = parts_->ram_bytes;
  return {bytes <= kLowRamEnd ? bytes : kHighRamStart + (bytes - kLowRamEnd)};
}

Frame PhysicalMemory::base_frame(uint64_t number) const {
  const uint64_t address = number << kPageShift;
  const uint64_t low = std::min(parts_->ram_bytes, kLowRamEnd);
  Frame frame;
  if (address < low)
    frame.host = parts_->ram + address;
  else if (address >= kHighRamStart && address < ram_end().value)
    frame.host = parts_->ram + kLowRamEnd + (address - kHighRamStart);
  else
    return frame;
  frame.kind = FrameKind::kRam;
  return frame;
}

Frame* PhysicalMemory::chunk_of(uint64_t number) const {
  Frame*& chunk = chunks_[number / kChunkFrames];
  if (!chunk) {
    parts_->chunks.push_back(std::make_unique<Frame[]>(kChunkFrames));
    chunk = parts_->chunks.back().get();
    const uint64_t first = number / kChunkFrames * kChunkFrames;
    for (uint64_t i = 0; i < kChunkFrames; ++i) chunk[i] = base_frame(first + i);
  }
  return chunk;
}

// A guest may look anywhere: only RAM gets a table by being looked at.
const Frame& PhysicalMemory::first_use(uint64_t number) const {
  if (number >= kFrameLimit || base_frame(number).kind == FrameKind::kAbsent) return kNothing;
  return chunk_of(number)[number % kChunkFrames];
}

Frame* PhysicalMemory::deniable(uint64_t number) {
  const FrameKind kind = frame(number).kind;
  if (kind != FrameKind::kRam && kind != FrameKind::kRom) return nullptr;
  return &chunk_of(number)[number % kChunkFrames];
}

void PhysicalMemory::set_denial(uint64_t frame_number, uint8_t reason) {
  if (Frame* frame = deniable(frame_number)) frame->denials |= reason;
}

void PhysicalMemory::clear_denial(uint64_t frame_number, uint8_t reason) {
  if (Frame* frame = deniable(frame_number)) frame->denials &= static_cast<uint8_t>(~reason);
}

void PhysicalMemory::put(uint64_t number, const Frame& frame) {
  Frame& place = chunk_of(number)[number % kChunkFrames];
  if (place.kind == FrameKind::kRom || place.kind == FrameKind::kMmio)
    parts_->hidden[number].push_back(place);
  const uint8_t denials = place.denials;
  place = frame;
  place.denials = denials;
}

void PhysicalMemory::take_off(uint64_t number) {
  const FrameKind kind = frame(number).kind;
  if (kind != FrameKind::kRom && kind != FrameKind::kMmio) return;
  Frame& place = chunk_of(number)[number % kChunkFrames];
  const uint8_t denials = place.denials;
  if (kind == FrameKind::kRom) parts_->forget_rom_frame(place.host);
  const auto below = parts_->hidden.find(number);
  if (below == parts_->hidden.end()) {
    place = base_frame(number);
  } else {
    place = below->second.back();
    below->second.pop_back();
    if (below->second.empty()) parts_->hidden.erase(below);
  }
  place.denials = denials;
}

Result<void> PhysicalMemory::map_rom(Physical start, std::span<const std::byte> content) {
  if (!whole_frames(start.value, content.size())) return not_whole_frames("a ROM");
  Rom rom{HostPages::reserve(content.size()), content.size() / kPageSize};
  if (!rom.pages) return host_refuses(content.size());
  std::memcpy(rom.pages.data(), content.data(), content.size());
  for (uint64_t i = 0; i < rom.frames; ++i)
    put(start.frame() + i, {rom.pages.data() + i * kPageSize, nullptr, FrameKind::kRom, 0});
  parts_->roms.push_back(std::move(rom));
  return {};
}

Result<void> PhysicalMemory::map_mmio(Physical start, uint64_t bytes, MmioHandler& handler) {
  if (!whole_frames(start.value, bytes)) return not_whole_frames("a device's memory");
  for (uint64_t i = 0; i < bytes / kPageSize; ++i)
    put(start.frame() + i, {nullptr, &handler, FrameKind::kMmio, 0});
  return {};
}

void PhysicalMemory::unmap(Physical start, uint64_t bytes) {
  for (uint64_t i = 0; i < bytes / kPageSize; ++i) take_off(start.frame() + i);
}

void PhysicalMemory::read(Physical address, std::span<std::byte> out) const {
  while (!out.empty()) {
    const size_t part = std::min<size_t>(out.size(), kPageSize - address.offset());
    if (const std::byte* host = frame(address.frame()).host)
      std::memcpy(out.data(), host + address.offset(), part);
    else
      std::memset(out.data(), 0xff, part);
    out = out.subspan(part);
    address = address + part;
  }
}

void PhysicalMemory::write(Physical address, std::span<const std::byte> in) {
  while (!in.empty()) {
    const size_t part = std::min<size_t>(in.size(), kPageSize - address.offset());
    const Frame& target = frame(address.frame());
    if (target.kind == FrameKind::kRam)
      std::memcpy(target.host + address.offset(), in.data(), part);
    in = in.subspan(part);
    address = address + part;
  }
}

bool PhysicalMemory::is_ram(Physical address, uint64_t bytes) const {
  if (bytes == 0) return true;
  if (bytes > kMaxRamBytes || address.value + bytes < bytes) return false;
  for (uint64_t number = address.frame(); number <= (address + (bytes - 1)).frame(); ++number)
    if (frame(number).kind != FrameKind::kRam) return false;
  return true;
}

}  // namespace trapline
