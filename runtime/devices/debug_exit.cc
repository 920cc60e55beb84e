#include "runtime/devices/debug_exit.h"

namespace trapline {
namespace {
constexpr std::string_view kTag = "debug-exit";
constexpr uint32_t kVersion = 1;
}  // namespace

void DebugExit::port_write_wide(uint16_t, uint32_t, uint32_t value) {
  if (status_) return;
  status_ = static_cast<uint8_t>(value << 1 | 1);
  on_exit_();
}

void DebugExit::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.boolean(status_.has_value());
  out.u8(status_.value_or(0));
  out.end();
}

Result<void> DebugExit::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  const bool ended = in.boolean();
  const uint8_t status = in.u8();
  if (ended && (status & 1) == 0) in.reject("an exit status is even");
  if (auto read = in.end(); !read.ok()) return read;
  status_ = ended ? std::optional(status) : std::nullopt;
  return {};
}

}  // namespace trapline
