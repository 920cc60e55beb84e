// SIGINT, SIGTERM and SIGHUP end a run cleanly: the first asks, a second one of the same kind
// kills.
#pragma once

namespace trapline {

class Pc;

/// While one lives, the signals wake its PC. Only one may live at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  void set_pc(Pc* pc);
  /// The signal that came, or 0.
  int received() const;
};

}  // namespace trapline
