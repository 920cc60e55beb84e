// The C++ functions that emitted code calls, as the thunks want them.
#pragma once

#include "translator/thunks.h"

namespace trapline {

class Engine;

/// engine_gates.cc
void fill_gate_entries(ThunkTargets& targets);
/// engine_system.cc
void fill_system_entries(ThunkTargets& targets);

const ThunkTargets& engine_entries();

}  // namespace trapline
