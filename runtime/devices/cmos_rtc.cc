#include "runtime/devices/cmos_rtc.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/devices/calendar.h"
#include "runtime/devices/tick_rate.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "cmos-rtc";
constexpr uint32_t kVersion = 1;

enum Register : uint8_t {
  kSeconds = 0,
  kSecondsAlarm = 1,
  kMinutes = 2,
  kMinutesAlarm = 3,
  kHours = 4,
  kHoursAlarm = 5,
  kWeekday = 6,
  kDayOfMonth = 7,
  kMonth = 8,
  kYear = 9,
  kA = 10,
  kB = 11,
  kC = 12,
  kD = 13,
  kEquipment = 0x14,
  kBaseMemory = 0x15,
  kExtendedMemory = 0x17,
  kSumFirst = 0x10,
  kSumLast = 0x2d,
  kSum = 0x2e,
  kExtendedMemoryToo = 0x30,
  kCentury = 0x32,
  kHighMemory = 0x34,
};

namespace a {
constexpr uint8_t kRate = 0x0f, kDividerReset = 0x60, kUpdating = 0x80;
constexpr uint8_t kInitial = 0x26;  // 32768 Hz, and a rate of 1024 Hz.
}  // namespace a
namespace b {
constexpr uint8_t k24Hours = 2, kBinary = 4, kSet = 0x80, kSquareWave = 8, kUpdate = 0x10;
constexpr uint8_t kEvents = 0x70;
}  // namespace b
namespace c {
constexpr uint8_t kUpdate = 0x10, kAlarm = 0x20, kPeriodic = 0x40, kInterrupt = 0x80;
}
constexpr uint8_t kValid = 0x80;      // Register D: the battery is good.
constexpr uint8_t kPm = 0x80;         // Hours, when there are twelve.
constexpr uint8_t kDoNotCare = 0xc0;  // Alarms.
constexpr uint8_t kIndex = 0x7f, kNmiMask = 0x80;
constexpr uint8_t kCoprocessorAndMouse = 0x06;

constexpr int64_t kNanoseconds = 1'000'000'000;
constexpr int64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
constexpr int64_t kUpdateNotice = 244'000;
/// No guest can set the clock farther away (30 000 years); saved state must not either.
constexpr int64_t kFarthest = 1'000'000'000'000;
constexpr TickRate kRate(32768);

uint64_t ticks_of(int64_t chain) {
  return kRate.ticks_at(static_cast<uint64_t>(chain));
}

bool is_time(uint8_t index) {
  return index == kSeconds || index == kMinutes || index == kHours ||
         (index >= kWeekday && index <= kYear) || index == kCentury;
}

}  // namespace

CmosRtc::CmosRtc(EventQueue& queue, InterruptLine& irq8)
    : queue_(queue), irq8_(irq8), timer_(queue, [this] {
        settle();
        update();
      }) {
  state_.bytes[kA] = a::kInitial;
  state_.bytes[kB] = b::k24Hours;
  state_.bytes[kEquipment] = kCoprocessorAndMouse;
  state_.settled = chain();
}

void CmosRtc::set_memory(uint64_t bytes) {
  const auto store = [&](uint8_t at, uint64_t value) {
    const uint64_t most = std::min<uint64_t>(value, 0xffff);
    state_.bytes[at] = static_cast<uint8_t>(most);
    state_.bytes[at + 1u] = static_cast<uint8_t>(most >> 8);
  };
  constexpr uint64_t kMiB = 1 << 20;
  const uint64_t extended = bytes > kMiB ? (bytes - kMiB) / 1024 : 0;
  store(kBaseMemory, std::min<uint64_t>(bytes / 1024, 640));
  store(kExtendedMemory, extended);
  store(kExtendedMemoryToo, extended);
  store(kHighMemory, bytes > 16 * kMiB ? (bytes - 16 * kMiB) / 0x10000 : 0);
  unsigned sum = 0;
  for (size_t at = kSumFirst; at <= kSumLast; ++at) sum += state_.bytes[at];
  state_.bytes[kSum] = static_cast<uint8_t>(sum >> 8);
  state_.bytes[kSum + 1] = static_cast<uint8_t>(sum);
}

bool CmosRtc::nmi_masked() const {
  return state_.index & kNmiMask;
}

/// The divider chain as nanoseconds since 1970; its whole seconds are those of the clock.
int64_t CmosRtc::chain() const {
  return queue_.clock().wall_at_start() + static_cast<int64_t>(queue_.now()) +
         state_.offset_nanoseconds;
}

int64_t CmosRtc::seconds() const {
  return chain() / kNanoseconds + state_.offset_seconds;
}

bool CmosRtc::divider_reset() const {
  return (state_.bytes[kA] & a::kDividerReset) == a::kDividerReset;
}
bool CmosRtc::held() const {
  return divider_reset() || (state_.bytes[kB] & b::kSet);
}
bool CmosRtc::binary() const {
  return state_.bytes[kB] & b::kBinary;
}

uint8_t CmosRtc::encode(int64_t value) const {
  const auto two_digits = static_cast<uint8_t>(value % 100);
  return binary() ? two_digits : static_cast<uint8_t>(two_digits / 10 << 4 | two_digits % 10);
}

int64_t CmosRtc::decode(uint8_t value) const {
  return binary() ? value : (value >> 4) * 10 + (value & 15);
}

uint8_t CmosRtc::encode_hour(int64_t hour) const {
  if (state_.bytes[kB] & b::k24Hours) return encode(hour);
  const uint8_t pm = hour >= 12 ? kPm : 0;
  return encode(hour % 12 == 0 ? 12 : hour % 12) | pm;
}

int64_t CmosRtc::decode_hour(uint8_t value) const {
  if (state_.bytes[kB] & b::k24Hours) return decode(value);
  const int64_t hour = decode(static_cast<uint8_t>(value & ~kPm));
  return (hour == 12 ? 0 : hour) + (value & kPm ? 12 : 0);
}

uint8_t CmosRtc::port_read(uint16_t offset) {
  if (offset == 0) return 0xff;  // The index cannot be read.
  return read_register(state_.index & kIndex);
}

void CmosRtc::port_write(uint16_t offset, uint8_t value) {
  if (offset == 0)
    state_.index = value;
  else
    write_register(state_.index & kIndex, value);
}

uint8_t CmosRtc::read_register(uint8_t index) {
  if (is_time(index) && !held()) {
    const State before = state_;
    store_time();
    const uint8_t value = state_.bytes[index];
    state_ = before;
    return value;
  }
  switch (index) {
    case kA:
      return static_cast<uint8_t>(state_.bytes[kA] | (update_in_progress() ? a::kUpdating : 0));
    case kC:
      return read_flags();
    case kD:
      return kValid;
    default:
      return state_.bytes[index];
  }
}

bool CmosRtc::update_in_progress() const {
  const int64_t now = chain();
  return !held() && (now + kUpdateNotice) / kNanoseconds != now / kNanoseconds;
}

uint8_t CmosRtc::read_flags() {
  settle();
  const uint8_t flags = state_.bytes[kC] | (irq_level_ ? c::kInterrupt : 0);
  state_.bytes[kC] = 0;
  update();
  return flags;
}

void CmosRtc::write_register(uint8_t index, uint8_t value) {
  settle();
  if (is_time(index)) {
    write_time(index, value);
  } else if (index == kA || index == kB) {
    write_control(index, value);
  } else if (index != kC && index != kD) {
    state_.bytes[index] = value;
  }
  update();
}

void CmosRtc::write_control(uint8_t index, uint8_t value) {
  const bool was_held = held();
  const bool was_reset = divider_reset();
  if (!was_held) store_time();
  if (index == kA)
    state_.bytes[kA] = static_cast<uint8_t>(value & ~a::kUpdating);
  else
    state_.bytes[kB] = static_cast<uint8_t>(value & b::kSet ? value & ~b::kUpdate : value);
  // After a reset of the divider, the first update comes half a second later.
  if (was_reset && !divider_reset()) {
    const int64_t wanted = state_.offset_nanoseconds + kNanoseconds / 2 - chain() % kNanoseconds;
    state_.offset_nanoseconds = (wanted + kNanoseconds) % kNanoseconds;
    state_.settled = chain();
  }
  if (was_held && !held()) take_time();
}

void CmosRtc::write_time(uint8_t index, uint8_t value) {
  if (held()) {
    state_.bytes[index] = value;
    return;
  }
  store_time();
  state_.bytes[index] = value;
  take_time();
}

/// The registers' time becomes the running one.
void CmosRtc::take_time() {
  const auto& bytes = state_.bytes;
  const int64_t now = seconds_of({.year = decode(bytes[kCentury]) * 100 + decode(bytes[kYear]),
                                  .month = decode(bytes[kMonth]),
                                  .day = decode(bytes[kDayOfMonth]),
                                  .hour = decode_hour(bytes[kHours]),
                                  .minute = decode(bytes[kMinutes]),
                                  .second = decode(bytes[kSeconds])});
  state_.offset_seconds = now - chain() / kNanoseconds;
  state_.weekday_shift = static_cast<uint8_t>((bytes[kWeekday] + 13u - weekday_of(now)) % 7);
}

/// The running time into the registers.
void CmosRtc::store_time() {
  const int64_t now = seconds();
  const CalendarTime time = calendar_of(now);
  state_.bytes[kSeconds] = encode(time.second);
  state_.bytes[kMinutes] = encode(time.minute);
  state_.bytes[kHours] = encode_hour(time.hour);
  state_.bytes[kWeekday] = static_cast<uint8_t>((weekday_of(now) + state_.weekday_shift) % 7 + 1);
  state_.bytes[kDayOfMonth] = encode(time.day);
  state_.bytes[kMonth] = encode(time.month);
  state_.bytes[kYear] = encode(time.year);
  state_.bytes[kCentury] = encode(time.year / 100);
}

/// The first second from `from` on at which the alarm goes off.
std::optional<int64_t> CmosRtc::next_alarm(int64_t from) const {
  const auto matches = [](uint8_t alarm, int64_t decoded, int64_t value) {
    return (alarm & kDoNotCare) == kDoNotCare || decoded == value;
  };
  const auto& bytes = state_.bytes;
  const int64_t hour = decode_hour(bytes[kHoursAlarm]);
  const int64_t minute = decode(bytes[kMinutesAlarm]);
  const int64_t second = decode(bytes[kSecondsAlarm]);
  for (int64_t now = from; now <= from + kDay;) {
    const CalendarTime time = calendar_of(now);
    if (!matches(bytes[kHoursAlarm], hour, time.hour))
      now += kHour - time.minute * kMinute - time.second;
    else if (!matches(bytes[kMinutesAlarm], minute, time.minute))
      now += kMinute - time.second;
    else if (!matches(bytes[kSecondsAlarm], second, time.second))
      ++now;
    else
      return now;
  }
  return std::nullopt;
}

/// Of the periodic event, in ticks of 32768 Hz; 0: there is none.
uint64_t CmosRtc::period() const {
  const unsigned rate = state_.bytes[kA] & a::kRate;
  if (rate == 0 || divider_reset()) return 0;
  return uint64_t{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

/// Finds the events since the last time.
void CmosRtc::settle() {
  const int64_t now = chain();
  const int64_t last = std::exchange(state_.settled, now);
  uint8_t& flags = state_.bytes[kC];
  if (period() != 0 && ticks_of(now) / period() != ticks_of(last) / period()) flags |= c::kPeriodic;
  if (held() || now / kNanoseconds == last / kNanoseconds) return;
  flags |= c::kUpdate;
  const auto alarm = next_alarm(last / kNanoseconds + state_.offset_seconds + 1);
  if (alarm && *alarm <= seconds()) flags |= c::kAlarm;
}

/// The line and the timer, after events or registers have changed.
void CmosRtc::update() {
  const bool level = state_.bytes[kC] & state_.bytes[kB] & b::kEvents;
  if (level != irq_level_) {
    irq_level_ = level;
    irq8_.set(level);
  }
  arm();
}

void CmosRtc::arm() {
  timer_.disarm();
  const uint8_t enabled = state_.bytes[kB];
  if (irq_level_ || !(enabled & b::kEvents)) return;
  const int64_t now = chain();
  int64_t next = std::numeric_limits<int64_t>::max();
  if ((enabled & c::kPeriodic) && period() != 0)
    next = static_cast<int64_t>(kRate.time_of((ticks_of(now) / period() + 1) * period()));
  if ((enabled & c::kUpdate) && !held())
    next = std::min(next, (now / kNanoseconds + 1) * kNanoseconds);
  if ((enabled & c::kAlarm) && !held()) {
    if (const auto alarm = next_alarm(seconds() + 1))
      next = std::min(next, (*alarm - state_.offset_seconds) * kNanoseconds);
  }
  if (next == std::numeric_limits<int64_t>::max()) return;
  timer_.arm(queue_.now() + static_cast<uint64_t>(next - now));
}

void CmosRtc::reset() {
  settle();
  state_.bytes[kB] &= static_cast<uint8_t>(~(b::kEvents | b::kSquareWave));
  state_.bytes[kC] = 0;
  state_.index = 0;
  update();
}

void CmosRtc::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u8(state_.index);
  out.bytes(state_.bytes);
  out.u64(static_cast<uint64_t>(state_.offset_seconds));
  out.u32(static_cast<uint32_t>(state_.offset_nanoseconds));
  out.u8(state_.weekday_shift);
  out.u64(static_cast<uint64_t>(state_.settled));
  out.end();
}

Result<void> CmosRtc::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.index = in.u8();
  const auto bytes = in.bytes(kBytes);
  loaded.offset_seconds = static_cast<int64_t>(in.u64());
  loaded.offset_nanoseconds = in.u32();
  loaded.weekday_shift = in.u8();
  loaded.settled = static_cast<int64_t>(in.u64());
  const auto offset = loaded.offset_seconds;
  if (bytes.size() != kBytes || offset < -kFarthest || offset > kFarthest ||
      loaded.offset_nanoseconds >= kNanoseconds || loaded.weekday_shift > 6 || loaded.settled < 0)
    in.reject("the clock shows an impossible time");
  if (auto read = in.end(); !read.ok()) return read;
  std::ranges::copy(bytes, loaded.bytes.begin());
  loaded.bytes[kA] &= static_cast<uint8_t>(~a::kUpdating);
  loaded.bytes[kC] &= b::kEvents;
  state_ = loaded;
  irq_level_ = state_.bytes[kC] & state_.bytes[kB] & b::kEvents;
  irq8_.set(irq_level_);
  arm();
  return {};
}

}  // namespace trapline
