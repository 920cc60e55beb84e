#include "runtime/devices/apic_timer.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr uint8_t kDivideBits = 0b1011;

}  // namespace

ApicTimer::ApicTimer(EventQueue& queue, std::function<void()> on_expiry)
    : queue_(queue), on_expiry_(std::move(on_expiry)), timer_(queue, [this] {
        settle();
        rearm();
      }) {}

/// 0 to 6 divide by 2 to 128, and 7 by 1.
uint32_t ApicTimer::shift() const {
  const uint32_t code = (state_.divide & 3u) | (state_.divide >> 1 & 4u);
  return (code + 1) & 7;
}

uint64_t ApicTimer::elapsed() const {
  const uint64_t now = queue_.now();
  return now > state_.start ? now - state_.start : 0;
}

uint32_t ApicTimer::current_count() const {
  if (!state_.running) return 0;
  uint64_t ticks = elapsed() >> shift();
  if (ticks >= state_.initial) {
    if (!periodic()) return 0;
    ticks %= state_.initial;
  }
  return state_.initial - static_cast<uint32_t>(ticks);
}

void ApicTimer::write_initial_count(uint32_t value) {
  settle();
  state_.initial = value;
  state_.running = value != 0;
  state_.start = queue_.now();
  rearm();
}

/// The count goes on from where it is, at the new speed.
void ApicTimer::write_divide_configuration(uint32_t value) {
  settle();
  const uint64_t done = state_.initial - current_count();
  state_.divide = value & kDivideBits;
  if (!state_.running) return;
  const uint64_t now = queue_.now();
  // Soon after power-on this may lie before the clock's zero: then the count is a little late.
  state_.start = now - std::min(now, done << shift());
  rearm();
}

void ApicTimer::write_entry(uint32_t entry) {
  entry_ = entry;
  rearm();
}

void ApicTimer::settle() {
  if (!state_.running) return;
  const uint64_t passed = elapsed();
  if (passed < span()) return;
  if (periodic())
    state_.start += passed - passed % span();
  else
    state_.running = false;
  if (!masked()) on_expiry_();
}

void ApicTimer::rearm() {
  if (!state_.running || masked()) {
    timer_.disarm();
    return;
  }
  const uint64_t due = state_.start + span();
  timer_.arm(periodic() ? std::max(due, queue_.now() + kShortestPeriod) : due);
}

void ApicTimer::reset() {
  state_ = {};
  write_entry(kMasked);
}

void ApicTimer::save(SnapshotWriter& out) const {
  out.u64(state_.start);
  out.u32(state_.initial);
  out.u8(state_.divide);
  out.boolean(state_.running);
}

ApicTimer::State ApicTimer::read_state(SnapshotReader& in) {
  State state;
  state.start = in.u64();
  state.initial = in.u32();
  state.divide = in.u8() & kDivideBits;
  state.running = in.boolean() && state.initial != 0;
  return state;
}

void ApicTimer::load(const State& state, uint32_t entry) {
  state_ = state;
  // A count cannot have begun later than now.
  state_.start = std::min(state_.start, queue_.now());
  write_entry(entry);
}

}  // namespace trapline
