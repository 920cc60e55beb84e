#include "runtime/engine_entries.h"

#include "runtime/engine.h"

namespace trapline {

const ThunkTargets& engine_entries() {
  static const ThunkTargets targets = [] {
    ThunkTargets made;
    fill_gate_entries(made);
    fill_system_entries(made);
    made.signal = [](Context* context) {
      return static_cast<Engine*>(context->engine)->handle_signal_exit();
    };
    return made;
  }();
  return targets;
}

}  // namespace trapline
