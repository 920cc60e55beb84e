#include "runtime/devices/apic_timer.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr uint8_t kDivideBits = 0b1011;

}  // namespace

void TickGrid::add(uint64_t when) {
  const uint64_t distance = when - std::min(when, last_);
  last_ = when;
  const uint64_t lines = period_ == 0 ? 0 : (distance + period_ / 2) / period_;
  const uint64_t nearest = lines * period_;
  const uint64_t off = distance > nearest ? distance - nearest : nearest - distance;
  if (lines >= 1 && lines <= kMostLines && off <= period_ / 16) {
    on_grid_ = std::min(on_grid_ + 1, kEnough);
    period_ += (distance / lines) / 8 - period_ / 8;  // The first may have been far off.
    return;
  }
  period_ = distance;
  on_grid_ = 0;
}

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
  if (state_.running && !periodic()) grid_.add(queue_.now() + span());
  start(queue_.now());
}

/// The count goes on from where it is, at the new speed.
void ApicTimer::write_divide_configuration(uint32_t value) {
  settle();
  const uint64_t done = state_.initial - current_count();
  state_.divide = value & kDivideBits;
  if (!state_.running) return;
  const uint64_t now = queue_.now();
  // Soon after power-on this may lie before the clock's zero: then the count is a little late.
  start(now - std::min(now, done << shift()));
}

void ApicTimer::start(uint64_t when) {
  state_.start = when;
  state_.missed = 0;
  rearm();
}

void ApicTimer::write_entry(uint32_t entry) {
  entry_ = entry;
  if (masked() || !periodic()) state_.missed = 0;
  rearm();
}

void ApicTimer::settle() {
  if (!state_.running) return;
  const uint64_t passed = elapsed();
  if (passed < span()) return;
  if (periodic()) {
    state_.start += passed - passed % span();
    if (!masked() && span() >= kShortestMadeUpFor)
      state_.missed =
          static_cast<uint8_t>(std::min(kMostMissed, state_.missed + passed / span() - 1));
  } else {
    state_.running = false;
  }
  if (!masked()) on_expiry_();
}

void ApicTimer::interrupt_taken() {
  if (state_.missed == 0) return;
  --state_.missed;
  on_expiry_();
}

void ApicTimer::rearm() {
  if (!state_.running || masked()) {
    timer_.disarm();
    return;
  }
  const uint64_t due = state_.start + span();
  if (periodic())
    timer_.arm(std::max(due, queue_.now() + kShortestPeriod),
               span() >= kShortestMadeUpFor ? slack_of_period(span()) : 0);
  else
    timer_.arm(due, slack_of_period(grid_.period()));
}

void ApicTimer::reset() {
  state_ = {};
  grid_ = {};
  write_entry(kMasked);
}

void ApicTimer::save(SnapshotWriter& out) const {
  out.u64(state_.start);
  out.u32(state_.initial);
  out.u8(state_.divide);
  out.boolean(state_.running);
  out.u8(state_.missed);
}

ApicTimer::State ApicTimer::read_state(SnapshotReader& in) {
  State state;
  state.start = in.u64();
  state.initial = in.u32();
  state.divide = in.u8() & kDivideBits;
  state.running = in.boolean() && state.initial != 0;
  state.missed = static_cast<uint8_t>(std::min<uint64_t>(in.u8(), kMostMissed));
  return state;
}

void ApicTimer::load(const State& state, uint32_t entry) {
  state_ = state;
  // A count cannot have begun later than now.
  state_.start = std::min(state_.start, queue_.now());
  write_entry(entry);
}

}  // namespace trapline
