// What --stats prints: a table for people, or JSON for programs. docs/statistics.md explains it.
#pragma once

#include <chrono>
#include <string>

#include "runtime/machine.h"

namespace trapline {

struct RunReport {
  Statistics statistics;
  std::chrono::nanoseconds host_time{};
  std::string ending;  ///< One word: how the run ended.
  int status = 0;
};

std::string statistics_table(const RunReport& report);
std::string statistics_json(const RunReport& report);

}  // namespace trapline
