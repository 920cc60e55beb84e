#include "runtime/devices/acpi_pm.h"

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "acpi-pm";
constexpr uint32_t kVersion = 2;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint32_t kTimerMask = 0xffffff;
constexpr uint64_t kTicksPerCarry = 1u << 23;  // The top bit changes this often.

// PM1 events: bits of status and enable.
namespace pm1 {
constexpr uint16_t kTimer = 1u << 0, kGlobal = 1u << 5, kPowerButton = 1u << 8, kRtc = 1u << 10,
                   kWake = 1u << 15;
constexpr uint16_t kEnables = kTimer | kGlobal | kPowerButton | kRtc;
constexpr uint16_t kStatuses = kEnables | kWake;
}  // namespace pm1

namespace control {
constexpr uint16_t kSciEnable = 1u << 0, kSleepEnable = 1u << 13;
constexpr uint16_t kWritable = 0x1c02;  // The sleep type, and bus master reload.
constexpr uint8_t sleep_type(uint16_t value) {
  return value >> 10 & 7;
}
}  // namespace control

constexpr uint16_t merge_byte(uint16_t old, uint16_t offset, uint8_t value) {
  return offset % 2 ? static_cast<uint16_t>((old & 0x00ff) | value << 8)
                    : static_cast<uint16_t>((old & 0xff00) | value);
}

}  // namespace

AcpiPm::AcpiPm(EventQueue& queue, InterruptLine& sci, std::function<void()> on_power_off)
    : queue_(queue),
      sci_(sci),
      on_power_off_(std::move(on_power_off)),
      carry_timer_(queue, [this] { update(); }) {
  state_.carries_seen = carries();
}

// --- Time ---------------------------------------------------------------------------------------

uint64_t AcpiPm::ticks() const {
  const uint64_t now = queue_.now();
  return now / kSecond * kTimerHz + now % kSecond * kTimerHz / kSecond;
}

uint64_t AcpiPm::carries() const {
  return ticks() / kTicksPerCarry;
}

uint16_t AcpiPm::status() const {
  return state_.status | (carries() != state_.carries_seen ? pm1::kTimer : 0);
}

// --- Events -------------------------------------------------------------------------------------

void AcpiPm::press_power_button() {
  state_.status |= pm1::kPowerButton;
  update();
}

void AcpiPm::raise_general_event(int number) {
  TRAPLINE_ASSERT(number >= 0 && number < 16);
  state_.general_status |= static_cast<uint16_t>(1u << number);
  update();
}

/// The interrupt, and the event that is needed for it to rise by itself.
void AcpiPm::update() {
  const uint16_t happened = status();
  const bool sci_enabled = state_.control & control::kSciEnable;
  const bool level = sci_enabled && ((happened & state_.enable & pm1::kEnables) ||
                                     (state_.general_status & state_.general_enable));
  const bool carry_interrupts = sci_enabled && (state_.enable & pm1::kTimer);
  if (carry_interrupts && !(happened & pm1::kTimer)) {
    const uint64_t tick = (carries() + 1) * kTicksPerCarry;
    const uint64_t rest = tick % kTimerHz * kSecond;
    carry_timer_.arm(tick / kTimerHz * kSecond + (rest + kTimerHz - 1) / kTimerHz);
  } else {
    carry_timer_.disarm();
  }
  if (level == sci_level_) return;
  sci_level_ = level;
  sci_.set(level);
}

// --- Registers ----------------------------------------------------------------------------------

/// The 16 bits that `offset` lies in; not for the timer.
uint16_t AcpiPm::register_value(uint16_t offset) const {
  switch (offset & ~1u) {
    case kEvents:
      return status();
    case kEvents + 2:
      return state_.enable;
    case kControl:
      return state_.control;
    case kGeneral:
      return state_.general_status;
    case kGeneral + 2:
      return state_.general_enable;
    default:
      return 0;
  }
}

uint8_t AcpiPm::port_read(uint16_t offset) {
  if (offset / 4 == kTimer / 4)
    return static_cast<uint8_t>((ticks() & kTimerMask) >> 8 * (offset % 4));
  return static_cast<uint8_t>(register_value(offset) >> 8 * (offset % 2));
}

uint32_t AcpiPm::port_read_wide(uint16_t offset, uint32_t size) {
  // All bytes of one time.
  if (offset == kTimer) return static_cast<uint32_t>(ticks() & kTimerMask & ~0u >> (32 - 8 * size));
  return PortDevice::port_read_wide(offset, size);
}

/// Wider writes come byte by byte, the lowest first; SLP_EN is in the last one.
void AcpiPm::port_write(uint16_t offset, uint8_t value) {
  switch (offset & ~1u) {
    case kEvents:
      write_status(merge_byte(0, offset, value));
      break;
    case kEvents + 2:
      state_.enable = merge_byte(state_.enable, offset, value) & pm1::kEnables;
      break;
    case kControl:
      write_control(merge_byte(state_.control, offset, value));
      break;
    case kGeneral:
      state_.general_status &= static_cast<uint16_t>(~merge_byte(0, offset, value));
      break;
    case kGeneral + 2:
      state_.general_enable = merge_byte(state_.general_enable, offset, value);
      break;
    default:
      return;
  }
  update();
}

void AcpiPm::write_status(uint16_t value) {
  if (value & pm1::kTimer) state_.carries_seen = carries();
  state_.status &= static_cast<uint16_t>(~value);
}

/// SCI_EN is changed by command only.
void AcpiPm::write_control(uint16_t value) {
  state_.control =
      static_cast<uint16_t>((state_.control & control::kSciEnable) | (value & control::kWritable));
  if (!(value & control::kSleepEnable)) return;
  if (control::sleep_type(value) != kSoftOff)
    state_.status |= pm1::kWake;
  else if (on_power_off_)
    on_power_off_();
}

void AcpiPm::command(uint8_t value) {
  state_.command = value;
  if (value == kAcpiEnable) state_.control |= control::kSciEnable;
  if (value == kAcpiDisable) state_.control &= static_cast<uint16_t>(~control::kSciEnable);
  update();
}

uint8_t AcpiPm::SmiCommand::port_read(uint16_t offset) {
  return offset == 0 ? pm_.state_.command : pm_.state_.command_status;
}

void AcpiPm::SmiCommand::port_write(uint16_t offset, uint8_t value) {
  if (offset == 0)
    pm_.command(value);
  else
    pm_.state_.command_status = value;
}

// --- The whole device ---------------------------------------------------------------------------

void AcpiPm::reset() {
  state_ = {};
  state_.carries_seen = carries();
  update();
}

void AcpiPm::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u16(state_.status);
  out.u16(state_.enable);
  out.u16(state_.control);
  out.u16(state_.general_status);
  out.u16(state_.general_enable);
  out.u64(state_.carries_seen);
  out.u8(state_.command);
  out.u8(state_.command_status);
  out.end();
}

Result<void> AcpiPm::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.status = in.u16() & pm1::kStatuses;
  loaded.enable = in.u16() & pm1::kEnables;
  loaded.control = in.u16() & (control::kWritable | control::kSciEnable);
  loaded.general_status = in.u16();
  loaded.general_enable = in.u16();
  loaded.carries_seen = in.u64();
  loaded.command = in.u8();
  loaded.command_status = in.u8();
  if (auto read = in.end(); !read.ok()) return read;
  state_ = loaded;
  update();
  return {};
}

}  // namespace trapline
