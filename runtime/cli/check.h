// `trapline check`: what the host offers for direct execution, and what follows from it.
#pragma once

#include <string>

namespace trapline {

/// The table and the conclusion, for standard output.
std::string check_report();

}  // namespace trapline
