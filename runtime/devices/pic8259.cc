#include "runtime/devices/pic8259.h"

namespace trapline {
namespace {

namespace icw1 {
constexpr uint8_t kIcw4 = 1, kSingle = 2, kIs = 16;
}
namespace icw4 {
constexpr uint8_t kAutomaticEoi = 2, kSpecialFullyNested = 16;
}
namespace ocw2 {
constexpr uint8_t kInput = 7, kEoi = 0x20, kSpecific = 0x40, kRotate = 0x80;
}
namespace ocw3 {
constexpr uint8_t kIs = 8, kInService = 1, kReadRegister = 2, kPoll = 4, kSpecialMask = 0x20,
                  kSetSpecialMask = 0x40;
}

constexpr uint8_t kPollFound = 0x80;

uint8_t bit(uint8_t input) {
  return static_cast<uint8_t>(1u << input);
}

}  // namespace

void Pic8259::set_input(uint8_t input, bool level) {
  const uint8_t mask = bit(input);
  if (!level) {
    state_.levels &= static_cast<uint8_t>(~mask);
    state_.edges &= static_cast<uint8_t>(~mask);
  } else if (!(state_.levels & mask)) {
    state_.levels |= mask;
    state_.edges |= mask;
  }
}

std::optional<uint8_t> Pic8259::pending() const {
  const auto wanted = static_cast<uint8_t>(requests() & ~state_.mask);
  if (wanted == 0) return std::nullopt;
  const uint8_t nested_slaves = state_.special_fully_nested ? slaves_ : 0;
  for (unsigned rank = 0; rank < 8; ++rank) {
    const uint8_t input = by_priority(rank);
    const bool blocked = blocking() & bit(input);
    if ((wanted & bit(input)) && (!blocked || (nested_slaves & bit(input)))) return input;
    if (blocked) return std::nullopt;
  }
  return std::nullopt;
}

std::optional<uint8_t> Pic8259::acknowledge() {
  const auto taken = pending();
  if (!taken) return std::nullopt;
  state_.edges &= static_cast<uint8_t>(~bit(*taken));
  if (!state_.automatic_eoi)
    state_.in_service |= bit(*taken);
  else if (state_.rotate_on_automatic_eoi)
    state_.lowest = *taken;
  return taken;
}

uint8_t Pic8259::read(bool a0) {
  if (state_.poll) return read_poll();
  if (a0) return state_.mask;
  return state_.read_in_service ? state_.in_service : requests();
}

uint8_t Pic8259::read_poll() {
  state_.poll = false;
  const auto taken = acknowledge();
  return taken ? static_cast<uint8_t>(kPollFound | *taken) : 0;
}

void Pic8259::write(bool a0, uint8_t value) {
  if (a0)
    write_odd(value);
  else if (value & icw1::kIs)
    write_icw1(value);
  else if (value & ocw3::kIs)
    write_ocw3(value);
  else
    write_ocw2(value);
}

void Pic8259::write_icw1(uint8_t value) {
  const State before = state_;
  state_ = State{};
  state_.levels = before.levels;
  state_.level_triggered = before.level_triggered;
  state_.vector_base = before.vector_base;
  state_.mask = 0;
  state_.single = value & icw1::kSingle;
  state_.wants_icw4 = value & icw1::kIcw4;
  state_.expects = Expects::kIcw2;
}

void Pic8259::write_odd(uint8_t value) {
  const Expects last = state_.wants_icw4 ? Expects::kIcw4 : Expects::kMask;
  switch (state_.expects) {
    case Expects::kMask:
      state_.mask = value;
      break;
    case Expects::kIcw2:
      state_.vector_base = value & 0xf8;
      state_.expects = state_.single ? last : Expects::kIcw3;
      break;
    case Expects::kIcw3:  // Who is connected where is soldered.
      state_.expects = last;
      break;
    case Expects::kIcw4:
      state_.automatic_eoi = value & icw4::kAutomaticEoi;
      state_.special_fully_nested = value & icw4::kSpecialFullyNested;
      state_.expects = Expects::kMask;
      break;
  }
}

void Pic8259::write_ocw2(uint8_t value) {
  const auto input = static_cast<uint8_t>(value & ocw2::kInput);
  const bool specific = value & ocw2::kSpecific;
  const bool rotate = value & ocw2::kRotate;
  if (value & ocw2::kEoi)
    end_of_interrupt(specific ? std::optional(input) : std::nullopt, rotate);
  else if (!specific)
    state_.rotate_on_automatic_eoi = rotate;
  else if (rotate)
    state_.lowest = input;
}

void Pic8259::end_of_interrupt(std::optional<uint8_t> input, bool rotate) {
  for (unsigned rank = 0; rank < 8 && !input; ++rank)
    if (blocking() & bit(by_priority(rank))) input = by_priority(rank);
  if (!input) return;
  state_.in_service &= static_cast<uint8_t>(~bit(*input));
  if (rotate) state_.lowest = *input;
}

void Pic8259::write_ocw3(uint8_t value) {
  if (value & ocw3::kSetSpecialMask) state_.special_mask = value & ocw3::kSpecialMask;
  state_.poll = value & ocw3::kPoll;
  if (!state_.poll && (value & ocw3::kReadRegister))
    state_.read_in_service = value & ocw3::kInService;
}

void Pic8259::reset() {
  const uint8_t levels = state_.levels;
  state_ = State{};
  state_.levels = levels;
}

void Pic8259::save(SnapshotWriter& out) const {
  out.u8(state_.levels);
  out.u8(state_.edges);
  out.u8(state_.level_triggered);
  out.u8(state_.mask);
  out.u8(state_.in_service);
  out.u8(state_.vector_base);
  out.u8(state_.lowest);
  out.u8(static_cast<uint8_t>(state_.expects));
  out.boolean(state_.single);
  out.boolean(state_.wants_icw4);
  out.boolean(state_.automatic_eoi);
  out.boolean(state_.rotate_on_automatic_eoi);
  out.boolean(state_.special_fully_nested);
  out.boolean(state_.special_mask);
  out.boolean(state_.read_in_service);
  out.boolean(state_.poll);
}

void Pic8259::load(SnapshotReader& in) {
  loaded_ = State{};
  loaded_.levels = in.u8();
  loaded_.edges = in.u8() & loaded_.levels;
  loaded_.level_triggered = in.u8();
  loaded_.mask = in.u8();
  loaded_.in_service = in.u8();
  loaded_.vector_base = in.u8() & 0xf8;
  loaded_.lowest = in.u8();
  const uint8_t expects = in.u8();
  if (loaded_.lowest > 7 || expects > static_cast<uint8_t>(Expects::kIcw4))
    in.reject("an interrupt controller is in a state that does not exist");
  loaded_.expects = static_cast<Expects>(expects & 3);
  loaded_.single = in.boolean();
  loaded_.wants_icw4 = in.boolean();
  loaded_.automatic_eoi = in.boolean();
  loaded_.rotate_on_automatic_eoi = in.boolean();
  loaded_.special_fully_nested = in.boolean();
  loaded_.special_mask = in.boolean();
  loaded_.read_in_service = in.boolean();
  loaded_.poll = in.boolean();
}

}  // namespace trapline
