// How much processor time the host lets this process have: a control group may have a limit that is
// lower than the number of processors that its processes see.
#pragma once

#include <filesystem>

namespace trapline {

/// In processors; more than any host has where there is no limit. The root is another one for
/// tests.
double processors_granted(const std::filesystem::path& root = "/");

}  // namespace trapline
