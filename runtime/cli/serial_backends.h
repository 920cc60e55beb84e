// The host's end of the guest's serial line, as --serial names it.
#pragma once

#include <unistd.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/cli/host_io.h"
#include "runtime/devices/device.h"
#include "vcpu/result.h"

namespace trapline {

/// Output may be kept for some milliseconds, or until flush().
class SerialEnd : public CharacterBackend {
 public:
  virtual void flush() {}
  /// What went wrong with the output, once it has.
  virtual const std::optional<Error>& failure() const;
  /// Whether the user has asked, at the terminal, for the end of the run.
  virtual bool quit_requested() const { return false; }
  /// Whether what the program prints must bring its own carriage returns.
  virtual bool terminal_is_raw() const { return false; }
};

struct SerialHost {
  HostOutput& standard_output;
  /// Called on another thread when the machine should soon look for input, or for a wish to quit.
  std::function<void()> wake;
  /// As HostOutput's.
  std::function<bool()> give_up;
};

/// "stdio", "none", "pty", "unix:PATH", "script:PATH", or a file's path. All that `host` holds must
/// outlive it.
Result<std::unique_ptr<SerialEnd>> open_serial(const std::string& where, const SerialHost& host);

/// "stdio" with another descriptor for input. A terminal becomes raw, with EscapeKeys; from all
/// else bytes come as they are, and its end is no error: there is just no more input.
std::unique_ptr<SerialEnd> make_standard_end(int input, const SerialHost& host);

}  // namespace trapline
