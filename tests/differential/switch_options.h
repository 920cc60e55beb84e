// --left-switch and --right-switch: the engine's switches from the command line.
#pragma once

#include <string>
#include <vector>

#include "translator/switches.h"

namespace trapline::differential {

/// Applies settings of the form NAME=on or NAME=off. False, and a sentence on stderr, when there is
/// no such switch.
bool apply_switches(const std::vector<std::string>& settings, Switches& switches);

}  // namespace trapline::differential
