// What the debug registers watch: breakpoints for execution, data and ports.
#pragma once

#include <cstdint>

#include "vcpu/address.h"
#include "vcpu/state.h"

namespace trapline {

namespace dr6 {
inline constexpr uint32_t kBreakpoints = 0xf;  ///< A bit for each that was met.
inline constexpr uint32_t kGeneralDetect = 1u << 13;
inline constexpr uint32_t kSingleStep = 1u << 14;
}  // namespace dr6

namespace dr7 {
inline constexpr uint32_t kGeneralDetect = 1u << 13;
}  // namespace dr7

enum class BreakpointKind : uint8_t { kExecute, kWrite, kPort, kAccess };

class DebugRegisters {
 public:
  static constexpr int kCount = 4;
  explicit DebugRegisters(const CpuState& state) : state_(state) {}

  bool any() const { return state_.dr[7] & 0xff; }
  bool enabled(int number) const { return state_.dr[7] >> 2 * number & 3; }
  BreakpointKind kind(int number) const {
    return static_cast<BreakpointKind>(state_.dr[7] >> (16 + 4 * number) & 3);
  }
  uint32_t length(int number) const {
    constexpr uint32_t kLengths[] = {1, 2, 8, 4};
    return kLengths[state_.dr[7] >> (18 + 4 * number) & 3];
  }
  bool armed(int number, BreakpointKind wanted) const {
    return enabled(number) && kind(number) == wanted;
  }
  bool watches_data() const {
    bool watches = false;
    for (int i = 0; i < kCount; ++i)
      watches |= armed(i, BreakpointKind::kWrite) || armed(i, BreakpointKind::kAccess);
    return watches;
  }

  // Which breakpoints are met, as DR6 has them.
  uint32_t met_by_execution(Linear at) const {
    uint32_t met = 0;
    for (int i = 0; i < kCount; ++i)
      if (armed(i, BreakpointKind::kExecute) && state_.dr[i] == at.value) met |= 1u << i;
    return met;
  }
  uint32_t met_by_access(Linear at, uint32_t size, bool write) const {
    uint32_t met = 0;
    for (int i = 0; i < kCount; ++i) {
      const bool watched =
          armed(i, BreakpointKind::kAccess) || (write && armed(i, BreakpointKind::kWrite));
      if (watched && overlaps(i, at.value, size)) met |= 1u << i;
    }
    return met;
  }
  /// With CR4.DE alone.
  uint32_t met_by_port(uint16_t port, uint32_t size) const {
    uint32_t met = 0;
    for (int i = 0; i < kCount && (state_.cr4 & cr4::kDe); ++i)
      if (armed(i, BreakpointKind::kPort) && overlaps(i, port, size)) met |= 1u << i;
    return met;
  }

 private:
  /// A breakpoint begins at a multiple of its length.
  bool overlaps(int number, uint32_t at, uint32_t size) const {
    const uint32_t begin = state_.dr[number] & ~(length(number) - 1);
    return at - begin < length(number) || begin - at < size;
  }

  const CpuState& state_;
};

}  // namespace trapline
