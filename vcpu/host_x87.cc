#include "vcpu/host_x87.h"

#include <array>
#include <cstdint>

#include "vcpu/state.h"

namespace trapline {
namespace {

struct Pointers {
  FpuImage image;
  std::array<uint32_t, 7> environment{};
};

// After an instruction that has no operand and raises nothing.
Pointers pointers_after_load() {
  Pointers seen;
  FpuImage host;
  asm volatile("fxsave64 %0\n fninit\n fld1\n fxsave %1\n fnstenv %2\n fxrstor64 %0"
               : "=m"(host), "=m"(seen.image), "=m"(seen.environment));
  return seen;
}

// The kernel may have come in between.
template <typename Condition>
bool ever(Condition condition) {
  constexpr int kAttempts = 3;
  for (int i = 0; i < kAttempts; ++i)
    if (condition(pointers_after_load())) return true;
  return false;
}

}  // namespace

bool host_saves_x87_pointers() {
  static const bool saves = ever([](const Pointers& seen) { return seen.image.ip != 0; });
  return saves;
}

bool host_always_moves_x87_opcode() {
  constexpr size_t kOpcode = 4;  // In its upper half.
  static const bool moves =
      ever([](const Pointers& seen) { return seen.environment[kOpcode] >> 16 & 0x7ff; });
  return moves;
}

}  // namespace trapline
