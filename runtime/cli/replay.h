// `trapline replay`: what a crash bundle says, and what becomes of it when it runs again.
#pragma once

#include "runtime/cli/options.h"

namespace trapline {

/// Prints both on standard output. A failure that comes again ends the program as it did then.
Result<void> replay_bundle(const ReplayOptions& options);

}  // namespace trapline
