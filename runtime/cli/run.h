// `trapline run`: boots a guest on a machine with a few devices and runs it until it ends.
#pragma once

#include <optional>
#include <string>

#include "runtime/cli/options.h"
#include "vcpu/result.h"

namespace trapline {

/// How a run ended.
struct Ending {
  int status = 0;                      ///< The program's exit status.
  std::string word;                    ///< For --stats: "halt", "debug-exit", "timeout", ...
  std::optional<std::string> message;  ///< What the user should know.
};

/// The guest's output goes to standard output, --stats to standard error or its file; the message
/// of the ending is left to the caller.
Result<Ending> run_guest(const RunOptions& options);

}  // namespace trapline
