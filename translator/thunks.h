// The code that every block shares: the way in, the way out, and the calls into C++.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "translator/context.h"
#include "translator/translation.h"

namespace trapline {

/// What a gate's C++ side gives back. When `code` is not 0 the block is left for there; otherwise
/// `value` goes into the delta register and the instruction goes on.
struct GateResult {
  uint64_t value = 0;
  uint64_t code = 0;
};

/// C++ behind a gate. All guest registers are in the context. `from` is an address inside the
/// block.
using GateFunction = GateResult (*)(Context* context, uint32_t address, uint32_t info,
                                    uint64_t from);
/// C++ behind a system operation. Returns the code address to go on at.
using SystemFunction = uint64_t (*)(Context* context, uint32_t value, uint32_t payload);
/// C++ behind signal_exit: what the handler stored in the context says what happened.
using SignalFunction = uint64_t (*)(Context* context);

struct ThunkTargets {
  std::array<GateFunction, kGateCount> gate{};
  std::array<SystemFunction, kSystemOpCount> system{};
  SignalFunction signal = nullptr;
};

/// Emits the thunks for code memory at `address`; returns the bytes used.
size_t emit_thunks(const ThunkTargets& targets, uint32_t address, std::span<std::byte> out,
                   Thunks& thunks);

/// enter(&context->cpu, code): runs translated code until something leaves.
using EnterFunction = void (*)(CpuState* state, uint64_t code);

/// Arithmetic EFLAGS as the flags register holds them, and back.
constexpr uint32_t to_saved_flags(uint32_t eflags) {
  return (eflags & 0xff) << 8 | (eflags >> 11 & 1);
}
constexpr uint32_t from_saved_flags(uint32_t saved) {
  const uint32_t low = saved >> 8 & (eflags::kArithmetic & 0xff);
  return low | (saved & 0xff ? eflags::kOf : 0);
}

}  // namespace trapline
