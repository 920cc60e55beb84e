#include "runtime/boot/missing_bios.h"

#include <array>
#include <cstdio>

#include "runtime/boot/little_endian.h"
#include "runtime/boot/memory_map.h"
#include "runtime/devices/uart16550.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint16_t kSegment = 0xf000, kOffset = 0xe000;
constexpr uint32_t kVectors = 256;
constexpr uint32_t kData = 0x400;
constexpr std::byte kHlt{0xf4};
constexpr std::byte kInt{0xcd};

/// The vector that led to the halt. Each has one HLT of its own, and EIP is behind it.
std::optional<uint8_t> halted_in(const CpuState& state) {
  const uint32_t index = state.eip - kOffset - 1;
  if (state.protected_mode() || state.segment[kCs].selector != kSegment || index >= kVectors)
    return std::nullopt;
  return static_cast<uint8_t>(index);
}

/// What guests read of the BIOS's variables without asking it.
std::vector<std::byte> data_area() {
  constexpr size_t kCom1 = 0x00, kExtendedArea = 0x0e, kBaseMemory = 0x13, kBytes = 0x100;
  std::vector<std::byte> area(kBytes);
  store_little(area, kCom1, Uart16550::kCom1, 2);
  store_little(area, kExtendedArea, MemoryMap::kBiosData / 16, 2);
  store_little(area, kBaseMemory, MemoryMap::kBiosData / 1024, 2);
  return area;
}

}  // namespace

std::vector<BootPiece> missing_bios_pieces() {
  std::vector<std::byte> table(4 * kVectors);
  for (uint32_t vector = 0; vector < kVectors; ++vector)
    store32(table, size_t{4} * vector, uint32_t{kSegment} << 16 | (kOffset + vector));
  return {{{0}, std::move(table)},
          {{kData}, data_area()},
          {{uint64_t{kSegment} * 16 + kOffset}, std::vector<std::byte>(kVectors, kHlt)}};
}

std::optional<std::string> missing_bios_call(Machine& machine) {
  const CpuState& state = machine.state();
  const auto vector = halted_in(state);
  if (!vector) return std::nullopt;
  std::array<std::byte, 4> frame{};  // IP and CS.
  machine.read_memory({state.segment[kSs].base + (state.gpr[kEsp] & 0xffff)}, frame);
  const uint32_t ip = load16(frame, 0), cs = load16(frame, 2);
  std::array<std::byte, 2> code{};
  machine.read_memory({cs * 16 + ((ip - 2) & 0xffff)}, code);
  const bool called = code[0] == kInt && code[1] == std::byte{*vector};
  char text[128];
  if (called)
    std::snprintf(text, sizeof text,
                  "the guest called the BIOS by INT 0x%02x with AX %04x at %04x:%04x", *vector,
                  state.gpr[kEax] & 0xffff, cs, (ip - 2) & 0xffff);
  else
    std::snprintf(
        text, sizeof text,
        "the guest was interrupted by vector 0x%02x, which is still the BIOS's, at %04x:%04x",
        *vector, cs, ip);
  return text;
}

}  // namespace trapline
