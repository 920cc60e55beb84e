#include "runtime/devices/system_control.h"

#include <utility>

namespace trapline {
namespace {

constexpr std::string_view kTag = "system-control";
constexpr uint32_t kVersion = 1;

/// Port 0x92.
constexpr uint8_t kFastReset = 1, kA20 = 2, kPortAKept = kFastReset | kA20;
/// Port 0xCF9: what kind of reset, and the bit whose rise causes it.
constexpr uint8_t kResetCpu = 4, kResetKept = 0x0e;

}  // namespace

SystemControl::SystemControl(std::function<void(bool)> a20, std::function<void()> reset)
    : on_a20_(std::move(a20)), on_reset_(std::move(reset)) {}

void SystemControl::write_port_a(uint8_t value) {
  const uint8_t before = std::exchange(port_a_value_, value & kPortAKept);
  if ((before ^ value) & kA20) on_a20_(value & kA20);
  if (value & ~before & kFastReset) on_reset_();
}

void SystemControl::write_reset_control(uint8_t value) {
  const uint8_t before = std::exchange(reset_control_value_, value & kResetKept);
  if (value & ~before & kResetCpu) on_reset_();
}

void SystemControl::reset() {
  reset_control_value_ = 0;
  if (std::exchange(port_a_value_, uint8_t{0}) & kA20) on_a20_(false);
}

void SystemControl::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u8(port_a_value_);
  out.u8(reset_control_value_);
  out.end();
}

Result<void> SystemControl::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  const uint8_t port_a_value = in.u8() & kPortAKept;
  const uint8_t reset_control_value = in.u8() & kResetKept;
  if (auto read = in.end(); !read.ok()) return read;
  port_a_value_ = port_a_value;
  reset_control_value_ = reset_control_value;
  on_a20_(port_a_value_ & kA20);
  return {};
}

}  // namespace trapline
