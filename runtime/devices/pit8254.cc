#include "runtime/devices/pit8254.h"

#include <algorithm>

#include "runtime/devices/tick_rate.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "pit8254";
constexpr uint32_t kVersion = 2;

constexpr TickRate kRate(Pit8254::kHertz);
constexpr uint16_t kControlPort = 3;
constexpr uint8_t kReadBack = 3;  // Among the channel numbers of a control word.
constexpr uint8_t kAccessBits = 0x30;
constexpr uint8_t kNoCountLatch = 0x20, kNoStatusLatch = 0x10;

/// Port 0x61.
constexpr uint8_t kGate2 = 1, kWritable = 0x0f, kRefresh = 0x10, kOut2 = 0x20;
/// Memory was refreshed at this many ticks of the 8254's clock: every 15.085 us.
constexpr PitChannel::Tick kRefreshTicks = 18;

/// Edges come no more often than this (20 us): a guest that programs a shorter period must not
/// keep the machine from running it.
constexpr PitChannel::Tick kShortestPeriod = 24;

/// So many edges are made up for: a storm would be no help.
constexpr PitChannel::Tick kMostMissed = 64;

}  // namespace

Pit8254::Pit8254(EventQueue& queue, InterruptLine& irq0)
    : queue_(queue), irq0_(irq0), timer_(queue, [this] { on_rise(); }) {
  channels_[2].reset(false);
}

void Pit8254::connect(PortBus& bus) {
  bus.claim(kCounters, kCounterPorts, counter_ports_);
  bus.claim(kSystemControl, 1, system_control_port_);
}

PitChannel::Tick Pit8254::now() const {
  return static_cast<Tick>(kRate.ticks_at(queue_.now()));
}

uint8_t Pit8254::CounterPorts::port_read(uint16_t offset) {
  if (offset >= kChannels) return 0xff;  // The control word cannot be read.
  return pit_.channels_[offset].read(pit_.now());
}

void Pit8254::CounterPorts::port_write(uint16_t offset, uint8_t value) {
  if (offset >= kControlPort) {
    pit_.write_control(value);
    return;
  }
  pit_.channels_[offset].write(value, pit_.now());
  if (offset == 0) pit_.follow_channel_0();
}

void Pit8254::write_control(uint8_t value) {
  const uint8_t index = value >> 6;
  if (index == kReadBack) {
    read_back(value);
  } else if ((value & kAccessBits) == 0) {
    channels_[index].latch_count(now());
  } else {
    channels_[index].write_control(value, now());
    if (index == 0) follow_channel_0();
  }
}

void Pit8254::read_back(uint8_t value) {
  for (size_t i = 0; i < kChannels; ++i) {
    if (!(value >> (i + 1) & 1)) continue;
    if (!(value & kNoCountLatch)) channels_[i].latch_count(now());
    if (!(value & kNoStatusLatch)) channels_[i].latch_status(now());
  }
}

uint8_t Pit8254::read_system_control() {
  const Tick tick = now();
  return static_cast<uint8_t>(system_control_ | (tick / kRefreshTicks & 1 ? kRefresh : 0) |
                              (channels_[2].out(tick) ? kOut2 : 0));
}

void Pit8254::write_system_control(uint8_t value) {
  system_control_ = value & kWritable;
  channels_[2].set_gate(value & kGate2, now());
}

void Pit8254::set_irq(bool level) {
  irq_level_ = level;
  irq0_.set(level);
}

/// After channel 0 was programmed.
void Pit8254::follow_channel_0() {
  const Tick tick = now();
  const bool out = channels_[0].out(tick);
  if (out != irq_level_) set_irq(out);
  arm(tick);
}

void Pit8254::arm(Tick after) {
  const auto rise = channels_[0].next_rise(after);
  if (!rise) return timer_.disarm();
  rise_ = *rise;
  const uint64_t due = kRate.time_of(static_cast<uint64_t>(rise_));
  const auto period = static_cast<uint64_t>(channels_[0].period());
  timer_.arm(due, slack_of_period(kRate.time_of(period)));
}

/// Guests count periodic interrupts to know the time, and to find out whether the line works at
/// all. When the host has kept the machine from running, the edges that it missed follow one by
/// one.
void Pit8254::on_rise() {
  set_irq(false);
  set_irq(true);
  const Tick tick = now();
  if (!channels_[0].periodic()) return arm(tick);
  const Tick period = channels_[0].next_rise(rise_).value_or(rise_ + 1) - rise_;
  arm(std::clamp(rise_, tick - kMostMissed * period, tick));
  const uint64_t earliest = kRate.time_of(static_cast<uint64_t>(tick + kShortestPeriod));
  if (timer_.armed() && timer_.due() < earliest) timer_.arm(earliest);
}

void Pit8254::interrupt_taken() {
  if (timer_.armed() && channels_[0].periodic() && rise_ < now()) on_rise();
}

void Pit8254::reset() {
  for (size_t i = 0; i < kChannels; ++i) channels_[i].reset(i != 2);
  system_control_ = 0;
  timer_.disarm();
  if (irq_level_) set_irq(false);
}

void Pit8254::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  for (const PitChannel& channel : channels_) channel.save(out);
  out.u8(system_control_);
  out.boolean(irq_level_);
  out.boolean(timer_.armed());
  out.u64(timer_.armed() ? timer_.due() : 0);  // An edge that is late must not get lost.
  out.u64(static_cast<uint64_t>(rise_));
  out.end();
}

Result<void> Pit8254::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  std::array<PitChannel, kChannels> channels;
  for (PitChannel& channel : channels) channel = PitChannel::load(in);
  const uint8_t system_control = in.u8() & kWritable;
  const bool irq_level = in.boolean();
  const bool armed = in.boolean();
  const uint64_t due = in.u64();
  const auto rise = static_cast<Tick>(in.u64());
  if (auto read = in.end(); !read.ok()) return read;
  channels_ = channels;
  system_control_ = system_control;
  rise_ = rise;
  if (armed)
    timer_.arm(due);
  else
    timer_.disarm();
  set_irq(irq_level);
  return {};
}

}  // namespace trapline
