#include "runtime/cli/run_summary.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace trapline {
namespace {

[[gnu::format(printf, 2, 3)]] std::string line(const char* name, const char* pattern, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  char whole[256];
  std::snprintf(whole, sizeof whole, "%-16s %s\n", name, text);
  return whole;
}

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

double percent(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

unsigned long long wide(uint64_t value) {
  return value;
}

/// Where the processor time went, by samples.
std::string samples_line(const Statistics& s) {
  const uint64_t all = s.samples_user + s.samples_kernel + s.samples_engine;
  if (all == 0) return line("of that", "too short to be sampled");
  const auto share = [all](uint64_t part) {
    return percent(static_cast<double>(part), static_cast<double>(all));
  };
  return line("of that", "%.0f %% guest's user code, %.0f %% its kernel, %.0f %% Trapline",
              share(s.samples_user), share(s.samples_kernel), share(s.samples_engine));
}

}  // namespace

std::string summary_text(const RunSummary& summary) {
  const Statistics& s = summary.report.statistics;
  const PcTimes& times = summary.times;
  const double run = seconds(summary.report.host_time);
  std::string text =
      line("ended", "%s, exit status %d", summary.report.ending.c_str(), summary.report.status);
  double busy = run;
  if (summary.times_are_the_hosts) {
    busy -= seconds(times.idle);
    text += line("run", "%.2f s, idle for %.2f s (%.0f %%)", run, seconds(times.idle),
                 percent(seconds(times.idle), run));
  } else {
    text += line("run", "%.2f s; of its own time, the guest was idle for %.2f s", run,
                 seconds(times.idle));
  }
  text += times.at_rest ? line("first at rest", "after %.2f s", seconds(*times.at_rest))
                        : line("first at rest", "never");
  text += line("processor time", "%.2f s", seconds(summary.processor_time));
  text += samples_line(s);
  if (s.native_stays)
    text += line("native", "%.2f s of user code (%.0f %% of it), in processes of its own",
                 static_cast<double>(s.native_nanoseconds) / 1e9, 100 * s.native_share());
  const double translation = static_cast<double>(s.translation_nanoseconds) / 1e9;
  text += line("translated", "%llu blocks, %llu instructions, in %.2f s (%.0f %% of the time %s)",
               wide(s.blocks_translated), wide(s.instructions_translated), translation,
               percent(translation, busy), summary.times_are_the_hosts ? "not idle" : "taken");
  text += line("exits", "%llu port accesses, %llu to device memory", wide(s.port_accesses),
               wide(s.device_memory));
  text += line("", "%llu halts, %llu with timer interrupts gathered, %llu polling waits",
               wide(times.halts), wide(times.gathering_waits), wide(times.polling_waits));
  text += line("", "%llu page faults, %llu other exceptions, %llu interrupts", wide(s.page_faults),
               wide(s.exceptions - s.page_faults), wide(s.interrupts));
  text += line("", "%llu entries made in shadow tables, %llu writes to traced pages",
               wide(s.page_misses), wide(s.traced_writes));
  return text;
}

}  // namespace trapline
