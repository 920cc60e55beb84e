#include "runtime/devices/coprocessor_error.h"

namespace trapline {

namespace {
constexpr std::string_view kTag = "coprocessor-error";
constexpr uint32_t kVersion = 1;
}  // namespace

void CoprocessorError::set(bool held) {
  held_ = held;
  irq13_.set(held);
}

void CoprocessorError::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.boolean(held_);
  out.end();
}

Result<void> CoprocessorError::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  const bool held = in.boolean();
  if (auto read = in.end(); !read.ok()) return read;
  set(held);
  return {};
}

}  // namespace trapline
