#include "runtime/pc/host_clock.h"

#include <chrono>

namespace trapline {

namespace {
template <typename Source>
int64_t nanoseconds_of() {
  const auto since = Source::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}
}  // namespace

HostClock::HostClock()
    : start_(static_cast<uint64_t>(nanoseconds_of<std::chrono::steady_clock>())),
      wall_at_start_(nanoseconds_of<std::chrono::system_clock>()) {}

uint64_t HostClock::now() const {
  return static_cast<uint64_t>(nanoseconds_of<std::chrono::steady_clock>()) - start_;
}

}  // namespace trapline
