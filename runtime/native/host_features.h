// What of the host direct execution needs, and whether it is there.
#pragma once

#include <string>
#include <vector>

namespace trapline {

struct HostFeature {
  std::string name;
  std::string value;     ///< "yes", "no", or a number.
  std::string remark;    ///< What follows from it; may be empty.
  bool missing = false;  ///< Without it, nothing runs natively.
};

/// Looks at everything. What could harm the process is tried in a child process.
std::vector<HostFeature> probe_host_features();

}  // namespace trapline
