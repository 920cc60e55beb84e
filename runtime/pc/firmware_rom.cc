#include "runtime/pc/firmware_rom.h"

#include <algorithm>
#include <vector>

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr uint64_t kFourGigabytes = uint64_t{1} << 32;
constexpr size_t kLowBytes = 0x20000;  ///< What shows below 1 MiB.

constexpr uint32_t start_of(uint32_t piece) {
  return HostBridge::kShadowStart + piece * HostBridge::kShadowPiece;
}

}  // namespace

Result<void> FirmwareRom::map_below_4g(Machine& machine, std::span<const std::byte> rom) {
  return machine.memory().map_rom({kFourGigabytes - rom.size()}, rom);
}

FirmwareRom::FirmwareRom(Machine& machine, const HostBridge& bridge, std::span<const std::byte> rom)
    : machine_(machine), bridge_(bridge), rom_(rom.last(std::min(rom.size(), kLowBytes))) {
  update();
}

FirmwareRom::Answer FirmwareRom::wanted(uint32_t piece) const {
  const HostBridge::Shadow shadow = bridge_.shadow(start_of(piece));
  if (shadow.ram_read) return shadow.ram_write ? Answer::kRam : Answer::kReadOnlyRam;
  // Below the ROM there is nothing without RAM; RAM is as good.
  const uint32_t end = start_of(piece) + HostBridge::kShadowPiece;
  return end + rom_.size() > HostBridge::kShadowEnd ? Answer::kRom : Answer::kRam;
}

void FirmwareRom::map(uint32_t piece, Answer answer) {
  PhysicalMemory& memory = machine_.memory();
  const Physical start{start_of(piece)};
  if (shown_[piece] != Answer::kRam) memory.unmap(start, HostBridge::kShadowPiece);
  shown_[piece] = answer;
  if (answer == Answer::kRam) return;
  std::vector<std::byte> content(HostBridge::kShadowPiece, std::byte{0xff});
  if (answer == Answer::kReadOnlyRam) {
    memory.read(start, content);
  } else {
    // From the piece's end on, in the ROM as here.
    const auto behind = HostBridge::kShadowEnd - start_of(piece) - HostBridge::kShadowPiece;
    const auto before = rom_.first(rom_.size() - behind);
    const auto part = before.last(std::min<size_t>(before.size(), content.size()));
    std::copy(part.begin(), part.end(), content.end() - static_cast<ptrdiff_t>(part.size()));
  }
  const auto mapped = memory.map_rom(start, content);
  TRAPLINE_ASSERT(mapped.ok());
}

void FirmwareRom::update() {
  bool changed = false;
  for (uint32_t piece = 0; piece < kPieces; ++piece) {
    const Answer answer = wanted(piece);
    if (answer == shown_[piece]) continue;
    if (!changed) machine_.memory_map_changes();
    changed = true;
    map(piece, answer);
  }
}

}  // namespace trapline
