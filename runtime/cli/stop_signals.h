// SIGINT, SIGTERM and SIGHUP end a run cleanly: the first asks, a second one of the same kind
// kills.
#pragma once

namespace trapline {

class Machine;

/// While one lives, the signals stop its machine. Only one may live at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  void set_machine(Machine* machine);
  /// The signal that came, or 0.
  int received() const;
};

}  // namespace trapline
