#include "runtime/devices/coprocessor_error.h"

#include <utility>

namespace trapline {

namespace {
constexpr std::string_view kTag = "coprocessor-error";
constexpr uint32_t kVersion = 2;
}  // namespace

void CoprocessorError::hold(bool held) {
  held_ = held;
  irq13_.set(held);
}

void CoprocessorError::ignore(bool ignored) {
  if (std::exchange(ignored_, ignored) != ignored) ignne_(ignored);
}

void CoprocessorError::port_write(uint16_t, uint8_t) {
  if (held_) ignore(true);
  hold(false);
}

void CoprocessorError::clear() {
  ignore(false);
}

void CoprocessorError::reset() {
  hold(false);
  ignore(false);
}

void CoprocessorError::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.boolean(held_);
  out.boolean(ignored_);
  out.end();
}

Result<void> CoprocessorError::load(SnapshotReader& in) {
  const uint32_t version = in.begin(kTag, kVersion);
  const bool held = in.boolean();
  const bool ignored = version >= 2 && in.boolean();
  if (auto read = in.end(); !read.ok()) return read;
  hold(held);
  ignored_ = ignored;
  ignne_(ignored);
  return {};
}

}  // namespace trapline
