#include "runtime/cli/check.h"

#include <algorithm>

#include "runtime/native/host_features.h"

namespace trapline {

namespace {

std::string padded(std::string text, size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

}  // namespace

std::string check_report() {
  std::string report;
  std::string missing;
  for (const HostFeature& feature : probe_host_features()) {
    report += padded(feature.name, 26) + padded(feature.value, 12) + feature.remark + "\n";
    if (feature.missing) missing += (missing.empty() ? "" : ", ") + feature.name;
  }
  report += missing.empty()
                ? "Guest user code can run natively.\n"
                : "Guest user code runs translated only; this host lacks: " + missing + ".\n";
  return report;
}

}  // namespace trapline
