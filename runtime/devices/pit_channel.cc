#include "runtime/devices/pit_channel.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr uint8_t kLowByte = 1, kHighByte = 2;
constexpr uint8_t kStatusOut = 0x80, kStatusNullCount = 0x40, kStatusControl = 0x3f;

/// The ticks of mode 3's high half; the low half gets the rest.
constexpr PitChannel::Tick high_half(uint32_t count) {
  return (count + 1) / 2;
}

}  // namespace

uint8_t PitChannel::mode() const {
  const auto mode = static_cast<uint8_t>(state_.control >> 1 & 7);
  return mode > 5 ? mode & 3 : mode;
}

uint32_t PitChannel::decode(uint16_t written) const {
  if (!bcd()) return written == 0 ? 0x10000 : written;
  uint32_t count = 0;
  for (int shift = 12; shift >= 0; shift -= 4) count = count * 10 + (written >> shift & 15u);
  return count == 0 ? 10000 : count;
}

uint16_t PitChannel::encode(uint32_t count) const {
  if (!bcd()) return static_cast<uint16_t>(count);
  uint32_t digits = 0;
  for (unsigned shift = 0; shift < 16; shift += 4, count /= 10) digits |= count % 10 << shift;
  return static_cast<uint16_t>(digits);
}

void PitChannel::write_control(uint8_t control, Tick now) {
  settle(now);
  const uint16_t held = value(now);
  const bool gate = state_.gate;
  state_ = State{};
  state_.control = control & kStatusControl;
  state_.held = held;
  state_.gate = gate;
}

void PitChannel::latch_count(Tick now) {
  if (state_.count_latched) return;
  settle(now);
  state_.count_latched = true;
  state_.latched_count = value(now);
}

void PitChannel::latch_status(Tick now) {
  if (state_.status_latched) return;
  settle(now);
  const bool loaded =
      state_.phase == Phase::kCounting && now >= state_.start && state_.pending == 0;
  state_.status_latched = true;
  state_.latched_status = static_cast<uint8_t>(state_.control | (out(now) ? kStatusOut : 0) |
                                               (loaded ? 0 : kStatusNullCount));
}

void PitChannel::write(uint8_t value_written, Tick now) {
  settle(now);
  switch (access()) {
    case kLowByte:
      take_count(value_written, now);
      break;
    case kHighByte:
      take_count(static_cast<uint16_t>(value_written << 8), now);
      break;
    default:
      state_.write_high = !state_.write_high;
      if (!state_.write_high) {
        take_count(static_cast<uint16_t>(value_written << 8 | state_.low_byte), now);
        break;
      }
      state_.low_byte = value_written;
      if (mode() == 0) {  // The first byte stops the count and lowers OUT.
        state_.held = value(now);
        state_.phase = Phase::kNoCount;
      }
  }
}

void PitChannel::take_count(uint16_t written, Tick now) {
  const uint32_t count = decode(written);
  const bool triggered = mode() == 1 || mode() == 5;
  if (!triggered && !(periodic() && state_.phase == Phase::kCounting)) {
    load_count(count, now);
    return;
  }
  if (state_.phase == Phase::kNoCount) state_.phase = Phase::kArmed;
  state_.pending = count;
  state_.pending_since = now;
}

/// The next tick takes the count over.
void PitChannel::load_count(uint32_t count, Tick now) {
  state_.phase = Phase::kCounting;
  state_.count = count;
  state_.pending = 0;
  state_.start = now + 1;
  state_.paused = !state_.gate && mode() != 1 && mode() != 5;
  state_.paused_at = state_.start;
}

uint8_t PitChannel::read(Tick now) {
  if (state_.status_latched) {
    state_.status_latched = false;
    return state_.latched_status;
  }
  settle(now);
  const uint16_t count = state_.count_latched ? state_.latched_count : value(now);
  const bool both = access() != kLowByte && access() != kHighByte;
  const bool high = both ? state_.read_high : access() == kHighByte;
  if (both) state_.read_high = !state_.read_high;
  if (high || !both) state_.count_latched = false;
  return static_cast<uint8_t>(high ? count >> 8 : count);
}

void PitChannel::set_gate(bool gate, Tick now) {
  settle(now);
  if (gate == state_.gate) return;
  state_.gate = gate;
  if (mode() == 1 || mode() == 5) {
    const uint32_t count = state_.pending != 0 ? state_.pending : state_.count;
    if (gate && state_.phase != Phase::kNoCount) load_count(count, now);
    return;
  }
  if (state_.phase != Phase::kCounting) return;
  if (!gate) {
    state_.paused = true;
    state_.paused_at = std::max(now, state_.start);
  } else if (periodic()) {
    load_count(state_.pending != 0 ? state_.pending : state_.count, now);
  } else {
    state_.paused = false;
    state_.start += std::max<Tick>(0, now - state_.paused_at);
  }
}

/// Lets a count that waits for the end of a cycle take over, if that time has come.
void PitChannel::settle(Tick now) {
  if (state_.pending == 0 || !periodic() || state_.paused) return;
  const Tick at = take_over_tick();
  if (at <= now) take_over(at);
}

/// The end of the cycle, or in mode 3 of the half cycle, in which the pending count was written.
PitChannel::Tick PitChannel::take_over_tick() const {
  const Tick count = state_.count;
  const Tick into = elapsed(state_.pending_since);
  const Tick cycle = state_.start + into / count * count;
  if (mode() == 3 && into % count < high_half(state_.count)) return cycle + high_half(state_.count);
  return cycle + count;
}

void PitChannel::take_over(Tick at) {
  const Tick into = (at - state_.start) % state_.count;
  // In mode 3 it may be the low half that begins with the new count.
  state_.start = mode() == 3 && into != 0 ? at - high_half(state_.pending) : at;
  state_.count = state_.pending;
  state_.pending = 0;
}

PitChannel::Tick PitChannel::elapsed(Tick now) const {
  return std::max<Tick>(0, (state_.paused ? state_.paused_at : now) - state_.start);
}

uint16_t PitChannel::value(Tick now) const {
  if (state_.phase != Phase::kCounting) return state_.held;
  const Tick passed = elapsed(now);
  const Tick count = state_.count;
  const Tick modulus = bcd() ? 10000 : 0x10000;
  if (mode() == 2) return encode(static_cast<uint32_t>((count - passed % count) % modulus));
  if (mode() != 3)
    return encode(static_cast<uint32_t>(((count - passed) % modulus + modulus) % modulus));
  // By twos, once for each half; an odd count begins with the even one below.
  const Tick half = passed % count % high_half(state_.count);
  return encode(static_cast<uint32_t>(((count & ~Tick{1}) - 2 * half) % modulus));
}

bool PitChannel::out(Tick now) {
  settle(now);
  if (state_.phase == Phase::kNoCount) return mode() != 0;
  if (state_.phase == Phase::kArmed) return true;
  const Tick passed = elapsed(now);
  const Tick count = state_.count;
  switch (mode()) {
    case 0:
    case 1:
      return passed >= count;
    case 2:
      return state_.paused || passed % count != count - 1;
    case 3:
      return state_.paused || passed % count < high_half(state_.count);
    default:
      return passed != count;
  }
}

std::optional<PitChannel::Tick> PitChannel::next_rise(Tick now) {
  settle(now);
  if (state_.phase != Phase::kCounting || state_.paused) return std::nullopt;
  if (!periodic()) {
    const Tick strobe = mode() >= 4 ? 1 : 0;
    const Tick rise = state_.start + state_.count + strobe;
    return rise > now ? std::optional(rise) : std::nullopt;
  }
  if (state_.pending != 0) {
    PitChannel later = *this;
    const Tick at = take_over_tick();
    later.take_over(at);
    if (!out(at - 1) && later.out(at)) return at;
    return later.next_rise(at);
  }
  const Tick count = state_.count;
  if (count < 2) return std::nullopt;  // Not allowed; OUT stays where it is.
  return state_.start + (elapsed(now) / count + 1) * count;
}

void PitChannel::reset(bool gate) {
  state_ = State{};
  state_.gate = gate;
}

void PitChannel::save(SnapshotWriter& out) const {
  out.u8(state_.control);
  out.u8(static_cast<uint8_t>(state_.phase));
  out.boolean(state_.gate);
  out.u16(state_.held);
  out.u32(state_.count);
  out.u64(static_cast<uint64_t>(state_.start));
  out.boolean(state_.paused);
  out.u64(static_cast<uint64_t>(state_.paused_at));
  out.u32(state_.pending);
  out.u64(static_cast<uint64_t>(state_.pending_since));
  out.boolean(state_.write_high);
  out.boolean(state_.read_high);
  out.u8(state_.low_byte);
  out.boolean(state_.count_latched);
  out.boolean(state_.status_latched);
  out.u16(state_.latched_count);
  out.u8(state_.latched_status);
}

PitChannel PitChannel::load(SnapshotReader& in) {
  constexpr Tick kEarliest = -0x100000, kLatest = Tick{1} << 50;
  constexpr uint32_t kMost = 0x10000;
  const auto tick = [&] {
    const auto value = static_cast<Tick>(in.u64());
    if (value < kEarliest || value > kLatest) in.reject("a counter began at an impossible time");
    return value;
  };
  PitChannel channel;
  State& state = channel.state_;
  state.control = in.u8() & kStatusControl;
  const uint8_t phase = in.u8();
  state.phase = static_cast<Phase>(phase);
  state.gate = in.boolean();
  state.held = in.u16();
  state.count = in.u32();
  state.start = tick();
  state.paused = in.boolean();
  state.paused_at = tick();
  state.pending = in.u32();
  state.pending_since = tick();
  state.write_high = in.boolean();
  state.read_high = in.boolean();
  state.low_byte = in.u8();
  state.count_latched = in.boolean();
  state.status_latched = in.boolean();
  state.latched_count = in.u16();
  state.latched_status = in.u8();
  if (phase > static_cast<uint8_t>(Phase::kCounting) || state.count == 0 || state.count > kMost ||
      state.pending > kMost)
    in.reject("a counter counts from an impossible number");
  return channel;
}

}  // namespace trapline
