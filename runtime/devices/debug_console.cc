#include "runtime/devices/debug_console.h"

namespace trapline {
namespace {
constexpr std::string_view kTag = "debug-console";
constexpr uint32_t kVersion = 1;
}  // namespace

// It has no state of its own; the empty section says that the machine had one.
void DebugConsole::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.end();
}

Result<void> DebugConsole::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  return in.end();
}

}  // namespace trapline
