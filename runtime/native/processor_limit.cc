#include "runtime/native/processor_limit.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

namespace trapline {
namespace {

using std::filesystem::path;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

/// Of one group: time in each period. What is no number, "max", is no limit, and so is -1.
double limit_of(const path& group) {
  double time = 0;
  double period = 0;
  std::ifstream both(group / "cpu.max");
  if (!(both >> time >> period)) {
    std::ifstream times(group / "cpu.cfs_quota_us");
    std::ifstream periods(group / "cpu.cfs_period_us");
    if (!(times >> time) || !(periods >> period)) return kUnlimited;
  }
  return time > 0 && period > 0 ? time / period : kUnlimited;
}

/// Of a group and those that it is part of.
double limit_above(const path& hierarchy, std::string_view group) {
  double least = limit_of(hierarchy);
  for (path here = path(group).relative_path(); !here.empty(); here = here.parent_path())
    least = std::min(least, limit_of(hierarchy / here));
  return least;
}

bool names(std::string_view controllers, std::string_view wanted) {
  while (!controllers.empty()) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == wanted) return true;
    if (comma == std::string_view::npos) break;
    controllers.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

double processors_granted(const path& root) {
  const path hierarchies = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  double least = kUnlimited;
  // Number, controllers and group. The second version has no controllers here.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string_view group = std::string_view(line).substr(second + 1);
    if (controllers.empty())
      least = std::min(least, limit_above(hierarchies, group));
    else if (names(controllers, "cpu"))
      least = std::min({least, limit_above(hierarchies / controllers, group),
                        limit_above(hierarchies / "cpu", group)});
  }
  return least;
}

}  // namespace trapline
