// What --summary prints when a run has ended: a few lines for people.
#pragma once

#include <chrono>
#include <string>

#include "runtime/cli/statistics_report.h"
#include "runtime/pc/pc.h"

namespace trapline {

struct RunSummary {
  RunReport report;
  PcTimes times;
  std::chrono::nanoseconds processor_time{};  ///< Of the whole process, without containers.
  bool times_are_the_hosts = true;            ///< Not so with --clock=instructions.
};

std::string summary_text(const RunSummary& summary);

}  // namespace trapline
