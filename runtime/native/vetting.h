// Whether a page's code may run natively: whether the processor does with it what the guest's
// would.
//
// What faults outside ring 0 may: the fault is an event, and the instruction is then emulated. The
// question is about instructions that silently do something else (CPUID, SGDT, loads and stores of
// segment registers). Bytes that look like one are everywhere, so they count only where they do not
// lie inside an instruction that is known: one that is reached, inside the page, from where the
// guest is known to have executed, or that all ways to decode what comes before agree on. A jump
// into the middle of a known instruction is not noticed; what that runs is a fidelity gap, never
// one of safety.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <vector>

#include "vcpu/address.h"
#include "vcpu/cpu_model.h"

namespace trapline {

enum class Vetted : uint8_t {
  kFine,
  kSensitive,   ///< A known instruction would silently differ.
  kUnexplored,  ///< Bytes that look like one lie where no instruction is known.
};

class PageVetter {
 public:
  explicit PageVetter(const CpuModel& model) : model_(model) {}

  /// `entries` are offsets in the page that were executed. Without `sse`, the guest's kernel has
  /// SSE instructions fault.
  Vetted vet(std::span<const uint8_t> page, std::span<const uint16_t> entries, bool sse);

 private:
  void follow(uint16_t entry);
  bool look_for_patterns() const;
  bool inside_known(uint32_t at) const;
  bool agreed(uint32_t from) const;

  const CpuModel& model_;
  std::span<const uint8_t> page_;
  /// Which known instruction a byte belongs to: its offset plus 1. 0: none.
  std::array<uint16_t, kPageSize> owner_{};
  std::vector<uint16_t> open_;       ///< Still to be followed.
  std::bitset<kPageSize> followed_;  ///< Each place once, or code that overlaps may go on for ever.
  bool sse_ = false;
  bool sensitive_ = false;
};

}  // namespace trapline
