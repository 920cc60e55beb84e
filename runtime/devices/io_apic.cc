#include "runtime/devices/io_apic.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "io-apic";
constexpr uint32_t kVersion = 1;

enum Window : uint32_t { kSelect = 0x00, kData = 0x10 };
enum Register : uint8_t { kId = 0, kVersionNumber = 1, kArbitration = 2, kTable = 0x10 };

constexpr uint32_t kVersionRegister = 0x11 | (IoApic::kPins - 1) << 16;

namespace entry {
constexpr uint64_t kLogical = 1u << 11, kRemoteIrr = 1u << 14, kLevel = 1u << 15,
                   kMasked = 1u << 16;
constexpr uint64_t kWritable = 0xff000000'0001afffull;

constexpr ApicDelivery delivery(uint64_t value) {
  return static_cast<ApicDelivery>(value >> 8 & 7);
}
/// What has no vector has no end of interrupt either, and is edge-triggered whatever the bit says.
constexpr bool level_triggered(uint64_t value) {
  return (value & kLevel) && (delivery(value) == ApicDelivery::kFixed ||
                              delivery(value) == ApicDelivery::kLowestPriority);
}
}  // namespace entry

}  // namespace

IoApic::IoApic(ApicBus& bus) : IoApic(bus, std::make_integer_sequence<uint32_t, kPins>()) {}

IoApic::State IoApic::reset_state() {
  State state;
  state.table.fill(entry::kMasked);
  return state;
}

uint64_t IoApic::mmio_read(Physical address, uint32_t size) {
  const uint64_t all = ~uint64_t{0} >> (64 - 8 * size);
  switch (address.offset() & 0xff) {
    case kSelect:
      return state_.selected;
    case kData:
      return read_selected() & all;
    default:
      return 0;
  }
}

void IoApic::mmio_write(Physical address, uint32_t, uint64_t value) {
  switch (address.offset() & 0xff) {
    case kSelect:
      state_.selected = static_cast<uint8_t>(value);
      break;
    case kData:
      write_selected(static_cast<uint32_t>(value));
      break;
    default:
      break;
  }
}

uint32_t IoApic::read_selected() const {
  if (state_.selected == kId || state_.selected == kArbitration) return uint32_t{state_.id} << 24;
  if (state_.selected == kVersionNumber) return kVersionRegister;
  const uint32_t index = state_.selected - uint32_t{kTable};
  if (index >= 2 * kPins) return 0;
  return static_cast<uint32_t>(state_.table[index / 2] >> 32 * (index % 2));
}

void IoApic::write_selected(uint32_t value) {
  if (state_.selected == kId) state_.id = value >> 24 & 0xf;
  const uint32_t index = state_.selected - uint32_t{kTable};
  if (index >= 2 * kPins) return;
  const uint64_t old = state_.table[index / 2];
  write_entry(index / 2, index % 2 ? (old & 0xffffffff) | uint64_t{value} << 32
                                   : (old & ~uint64_t{0xffffffff}) | value);
}

/// An entry that is made edge-triggered forgets the interrupt that was on its way; guests use that
/// to end one by hand.
void IoApic::write_entry(uint32_t pin, uint64_t value) {
  const uint64_t remote = state_.table[pin] & entry::kRemoteIrr;
  state_.table[pin] = value & entry::kWritable;
  if (!entry::level_triggered(value)) return;
  state_.table[pin] |= remote;
  offer_level(pin);
}

void IoApic::pin_changed(uint32_t pin, bool asserted) {
  const uint32_t bit = 1u << pin;
  const bool rose = asserted && !(state_.asserted & bit);
  state_.asserted = asserted ? state_.asserted | bit : state_.asserted & ~bit;
  const uint64_t value = state_.table[pin];
  if (entry::level_triggered(value))
    offer_level(pin);
  else if (rose && !(value & entry::kMasked))
    send(value);
}

void IoApic::offer_level(uint32_t pin) {
  uint64_t& value = state_.table[pin];
  if (!(state_.asserted >> pin & 1) || (value & (entry::kMasked | entry::kRemoteIrr))) return;
  if (send(value)) value |= entry::kRemoteIrr;
}

bool IoApic::send(uint64_t value) {
  return bus_.deliver({.destination = static_cast<uint8_t>(value >> 56),
                       .logical = (value & entry::kLogical) != 0,
                       .level = entry::level_triggered(value),
                       .delivery = entry::delivery(value),
                       .vector = static_cast<uint8_t>(value)});
}

void IoApic::end_of(uint8_t vector) {
  for (uint32_t pin = 0; pin < kPins; ++pin) {
    uint64_t& value = state_.table[pin];
    if (static_cast<uint8_t>(value) != vector || !(value & entry::kRemoteIrr)) continue;
    value &= ~entry::kRemoteIrr;
    offer_level(pin);
  }
}

void IoApic::reset() {
  const uint32_t asserted = state_.asserted;
  state_ = reset_state();
  state_.asserted = asserted;
}

void IoApic::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u8(state_.selected);
  out.u8(state_.id);
  for (const uint64_t value : state_.table) out.u64(value);
  out.u32(state_.asserted);
  out.end();
}

Result<void> IoApic::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.selected = in.u8();
  loaded.id = in.u8() & 0xf;
  for (uint64_t& value : loaded.table) {
    value = in.u64();
    const bool remote = value & entry::kRemoteIrr;
    if ((value & ~(entry::kWritable | entry::kRemoteIrr)) ||
        (remote && !entry::level_triggered(value)))
      in.reject("a redirection entry has bits that do not exist");
  }
  loaded.asserted = in.u32();
  if (loaded.asserted >> kPins) in.reject("it has more pins than the chip");
  if (auto read = in.end(); !read.ok()) return read;
  state_ = loaded;
  return {};
}

}  // namespace trapline
