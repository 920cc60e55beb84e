#include "runtime/cli/statistics_report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace trapline {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

unsigned long long wide(uint64_t value) {
  return value;
}

double seconds(const RunReport& report) {
  return std::chrono::duration<double>(report.host_time).count();
}

double share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double microseconds_each(const NativeEventCount& event) {
  return static_cast<double>(event.nanoseconds) / 1e3 /
         static_cast<double>(std::max<uint64_t>(event.count, 1));
}

std::string json_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      quoted += format("\\u%04x", c);
    else
      quoted += c;
  }
  return quoted + "\"";
}

}  // namespace

std::string statistics_table(const RunReport& report) {
  const Statistics& statistics = report.statistics;
  std::string table = format("%-28s %20s\n", "ending", report.ending.c_str());
  table += format("%-28s %20d\n", "exit_status", report.status);
  table += format("%-28s %20.6f\n", "host_seconds", seconds(report));
  if (statistics.counted)
    table += format(
        "%-28s %20.1f\n", "million_per_second",
        static_cast<double>(statistics.instructions) / 1e6 / std::max(seconds(report), 1e-9));
  for (const auto& [name, value] : statistics.named())
    table += format("%-28s %20llu\n", name.c_str(), wide(value));
  if (statistics.counted)
    table += format("%-28s %19.4f%%\n", "interpreted_share",
                    100 * share(statistics.interpreted, statistics.instructions));
  if (statistics.native_stays)
    table += format("%-28s %19.1f%%\n", "native_share", 100 * statistics.native_share());
  for (const NativeEventCount& event : statistics.native_events)
    if (event.count)
      table += format("  native event %-13s %20llu %8.1f us, %llu demotions\n", event.name.c_str(),
                      wide(event.count), microseconds_each(event), wide(event.demotions));
  for (const RefusedPageCount& pages : statistics.native_pages_refused)
    table += format("  native pages refused %-14s %13llu for sure, %llu unexplored\n",
                    pages.instruction.c_str(), wide(pages.sensitive), wide(pages.unexplored));
  for (const OpcodeCount& opcode : statistics.interpreted_top)
    table += format("  interpreted %-14s %20llu %8.2f%%\n", opcode.name.c_str(), wide(opcode.count),
                    100 * share(opcode.count, statistics.interpreted));
  return table;
}

std::string statistics_json(const RunReport& report) {
  const Statistics& statistics = report.statistics;
  std::string json = "{\n  \"ending\": " + json_text(report.ending) + ",\n";
  json += format("  \"exit_status\": %d,\n", report.status);
  json += format("  \"host_seconds\": %.9f,\n", seconds(report));
  json += format("  \"counted\": %s,\n", statistics.counted ? "true" : "false");
  json += "  \"counters\": {";
  const char* separator = "\n";
  for (const auto& [name, value] : statistics.named()) {
    json += separator + ("    " + json_text(name)) + format(": %llu", wide(value));
    separator = ",\n";
  }
  json += "\n  },\n";
  if (statistics.counted)
    json += format("  \"interpreted_share\": %.9f,\n",
                   share(statistics.interpreted, statistics.instructions));
  json += format("  \"native_share\": %.6f,\n", statistics.native_share());
  json += "  \"native_events\": {";
  separator = "\n";
  for (const NativeEventCount& event : statistics.native_events) {
    json += separator + ("    " + json_text(event.name)) +
            format(": {\"count\": %llu, \"mean_microseconds\": %.3f, \"demotions\": %llu}",
                   wide(event.count), microseconds_each(event), wide(event.demotions));
    separator = ",\n";
  }
  json += "\n  },\n";
  json += "  \"native_pages_refused\": {";
  separator = "\n";
  for (const RefusedPageCount& pages : statistics.native_pages_refused) {
    json += separator + ("    " + json_text(pages.instruction)) +
            format(": {\"sensitive\": %llu, \"unexplored\": %llu}", wide(pages.sensitive),
                   wide(pages.unexplored));
    separator = ",\n";
  }
  json += "\n  },\n";
  json += "  \"interpreted_top\": [";
  separator = "\n";
  for (const OpcodeCount& opcode : statistics.interpreted_top) {
    json += separator + ("    {\"name\": " + json_text(opcode.name)) +
            format(", \"count\": %llu}", wide(opcode.count));
    separator = ",\n";
  }
  return json + "\n  ]\n}\n";
}

}  // namespace trapline
