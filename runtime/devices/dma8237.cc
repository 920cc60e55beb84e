#include "runtime/devices/dma8237.h"

#include <algorithm>
#include <utility>

namespace trapline {
namespace {

constexpr std::string_view kTag = "dma8237";
constexpr uint32_t kVersion = 1;

/// Below these, addresses and counts of the channels alternate.
enum Register : uint16_t {
  kCommand = 8,  // The status when read.
  kRequest = 9,
  kSingleMask = 10,
  kMode = 11,
  kClearFlipFlop = 12,
  kMasterClear = 13,
  kClearMask = 14,
  kAllMasks = 15,
};

constexpr uint8_t kChannelBits = 3, kSetBit = 4, kAllChannels = 0x0f, kUnusedBits = 0xf0;

void set_channel_bit(uint8_t& bits, uint8_t value) {
  const auto bit = static_cast<uint8_t>(1u << (value & kChannelBits));
  bits = static_cast<uint8_t>(value & kSetBit ? bits | bit : bits & ~bit);
}

}  // namespace

void Dma8237Pair::connect(PortBus& bus) {
  bus.claim(kFirst, kFirstPorts, first_ports_);
  bus.claim(kPages, kPagePorts, page_ports_);
  bus.claim(kSecond, kSecondPorts, second_ports_);
}

uint8_t Dma8237Pair::ChipPorts::port_read(uint16_t offset) {
  if (offset % spacing_ != 0) return 0xff;
  return chip_.read(static_cast<uint16_t>(offset / spacing_));
}

void Dma8237Pair::ChipPorts::port_write(uint16_t offset, uint8_t value) {
  if (offset % spacing_ == 0) chip_.write(static_cast<uint16_t>(offset / spacing_), value);
}

uint16_t& Dma8237Pair::Chip::word(uint16_t index) {
  auto& words = index & 1 ? count : address;
  return words[index / 2 % kChannels];
}

uint8_t Dma8237Pair::Chip::read(uint16_t index) {
  if (index < kCommand) {
    const bool high = std::exchange(high_byte, !high_byte);
    return static_cast<uint8_t>(high ? word(index) >> 8 : word(index));
  }
  // No channel has a request or has come to its end; the temporary register holds nothing.
  return index == kAllMasks ? mask | kUnusedBits : 0;
}

void Dma8237Pair::Chip::write(uint16_t index, uint8_t value) {
  if (index < kCommand) {
    uint16_t& target = word(index);
    const bool high = std::exchange(high_byte, !high_byte);
    target =
        static_cast<uint16_t>(high ? (target & 0x00ff) | value << 8 : (target & 0xff00) | value);
    return;
  }
  switch (index) {
    case kCommand:
      command = value;
      break;
    case kRequest:
      set_channel_bit(request, value);
      break;
    case kSingleMask:
      set_channel_bit(mask, value);
      break;
    case kMode:
      mode[value & kChannelBits] = value;
      break;
    case kClearFlipFlop:
      high_byte = false;
      break;
    case kMasterClear:
      clear();
      break;
    case kClearMask:
      mask = 0;
      break;
    default:
      mask = value & kAllChannels;
  }
}

/// Addresses, counts and modes stay.
void Dma8237Pair::Chip::clear() {
  command = 0;
  request = 0;
  mask = kAllChannels;
  high_byte = false;
}

void Dma8237Pair::Chip::save(SnapshotWriter& out) const {
  for (size_t i = 0; i < kChannels; ++i) {
    out.u16(address[i]);
    out.u16(count[i]);
    out.u8(mode[i]);
  }
  out.u8(command);
  out.u8(request);
  out.u8(mask);
  out.boolean(high_byte);
}

Dma8237Pair::Chip Dma8237Pair::Chip::load(SnapshotReader& in) {
  Chip chip;
  for (size_t i = 0; i < kChannels; ++i) {
    chip.address[i] = in.u16();
    chip.count[i] = in.u16();
    chip.mode[i] = in.u8();
  }
  chip.command = in.u8();
  chip.request = in.u8() & kAllChannels;
  chip.mask = in.u8() & kAllChannels;
  chip.high_byte = in.boolean();
  return chip;
}

void Dma8237Pair::reset() {
  first_.clear();
  second_.clear();
  pages_ = {};
}

void Dma8237Pair::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  first_.save(out);
  second_.save(out);
  out.bytes(pages_);
  out.end();
}

Result<void> Dma8237Pair::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  const Chip first = Chip::load(in);
  const Chip second = Chip::load(in);
  const auto pages = in.bytes(kPagePorts);
  if (pages.size() != kPagePorts) in.reject("page registers are missing");
  if (auto read = in.end(); !read.ok()) return read;
  first_ = first;
  second_ = second;
  std::ranges::copy(pages, pages_.begin());
  return {};
}

}  // namespace trapline
