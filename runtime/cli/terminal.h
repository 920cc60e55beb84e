// The terminal that a user sits at: raw, so that every key reaches the guest, and given back as it
// was however the program ends. (After SIGKILL, which nobody can handle, shells do it themselves.)
#pragma once

#include <memory>
#include <string_view>

namespace trapline {

/// A terminal that is raw while this lives and the process is in the foreground. Only one may live
/// at a time. When the process is stopped (SIGTSTP) the terminal is given back, and taken again
/// when it goes on in the foreground. All but the constructor may run on another thread.
class RawTerminal {
 public:
  /// Nothing when the descriptor is no terminal. It must stay open.
  static std::unique_ptr<RawTerminal> take(int descriptor);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  /// Whether this process may read keys. Makes the terminal raw when it has just come to the
  /// foreground, of which nobody is told.
  bool ready();
  /// Shows a text of our own. Line ends must be "\r\n".
  void tell(std::string_view text);

 private:
  RawTerminal() = default;
};

/// Gives the terminal back for good, if there is one to give. For handlers of signals that end the
/// program; async-signal-safe.
void restore_terminal();

/// From here on, signals whose default action ends the program give the terminal back first. Those
/// that something else handles are left to it, and may be chained to what this installs.
void restore_terminal_on_fatal_signals();

}  // namespace trapline
