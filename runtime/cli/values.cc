#include "runtime/cli/values.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>

#include "runtime/boot/ram_layout.h"

namespace trapline {
namespace {

Error usage(std::string message) {
  return {ExitStatus::kUsage, std::move(message)};
}

std::string quoted(std::string_view text) {
  std::string result(1, '\'');
  result += text;
  result += '\'';
  return result;
}

std::optional<int> suffix_shift(std::string_view suffix) {
  if (suffix.empty()) return 0;
  if (suffix == "K" || suffix == "k") return 10;
  if (suffix == "M" || suffix == "m") return 20;
  if (suffix == "G" || suffix == "g") return 30;
  return std::nullopt;
}

std::string mebibytes(uint64_t bytes) {
  return std::to_string(bytes >> 20) + "M";
}

}  // namespace

Result<uint64_t> parse_size(std::string_view option, std::string_view text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, problem] = std::from_chars(text.data(), end, number);
  const auto shift = suffix_shift({rest, static_cast<size_t>(end - rest)});
  const std::string name(option);
  if (problem == std::errc::invalid_argument || !shift)
    return usage(name + ": " + quoted(text) +
                 " is not a size; give a number with K, M or G after it, such as 64M");
  if (problem == std::errc::result_out_of_range || number > UINT64_MAX >> *shift)
    return usage(name + ": " + quoted(text) + " is more than any machine has; give less");
  const uint64_t bytes = number << *shift;
  if (bytes == 0) return usage(name + ": the size must be more than zero");
  if (bytes % 4096 != 0)
    return usage(name + ": " + quoted(text) + " is not a multiple of 4K; give one that is");
  return bytes;
}

namespace {
/// All of the text, or nothing.
std::optional<uint32_t> number_in(std::string_view text, int base) {
  uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, problem] = std::from_chars(text.data(), end, number, base);
  if (problem != std::errc() || rest != end) return std::nullopt;
  return number;
}
}  // namespace

Result<uint32_t> parse_address(std::string_view option, std::string_view text) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  const auto number = number_in(hexadecimal ? text.substr(2) : text, hexadecimal ? 16 : 10);
  if (!number)
    return usage(std::string(option) + ": " + quoted(text) +
                 " is not an address below 4 GiB; give a number, such as 0x7c00");
  return *number;
}

Result<RealModeAddress> parse_entry(std::string_view option, std::string_view text) {
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    const auto segment = number_in(text.substr(0, colon), 16);
    const auto offset = number_in(text.substr(colon + 1), 16);
    if (!segment || !offset || *segment > 0xffff || *offset > 0xffff)
      return usage(std::string(option) + ": " + quoted(text) +
                   " is not a place; give four hexadecimal digits on each side of the colon, such "
                   "as 07c0:0000");
    return RealModeAddress{static_cast<uint16_t>(*segment), static_cast<uint16_t>(*offset)};
  }
  auto address = parse_address(option, text);
  if (!address.ok()) return address.error();
  constexpr uint32_t kEnd = 0x10fff0;
  if (address.value() >= kEnd)
    return usage(std::string(option) + ": " + quoted(text) +
                 " is beyond what real mode reaches; give an address below 0x10fff0");
  if (address.value() <= 0xffff) return RealModeAddress{0, static_cast<uint16_t>(address.value())};
  const uint32_t segment = std::min(address.value() >> 4, uint32_t{0xffff});
  return RealModeAddress{static_cast<uint16_t>(segment),
                         static_cast<uint16_t>(address.value() - (segment << 4))};
}

Result<std::chrono::nanoseconds> parse_seconds(std::string_view option, std::string_view text) {
  double seconds = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, problem] = std::from_chars(text.data(), end, seconds);
  if (problem != std::errc() || rest != end || !std::isfinite(seconds) || seconds <= 0)
    return usage(std::string(option) + ": " + quoted(text) +
                 " is not a time; give seconds, more than zero, such as 10 or 0.5");
  constexpr double kLongest = 1e9;  // 30 years; what is longer would not fit into nanoseconds.
  return std::chrono::nanoseconds(
      std::max<int64_t>(1, std::llround(std::min(seconds, kLongest) * 1e9)));
}

Result<void> parse_switch(std::string_view text, Switches& switches) {
  const size_t equals = text.find('=');
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : text.substr(equals + 1);
  if (value != "on" && value != "off")
    return usage("--switch: " + quoted(text) + " is not NAME=on or NAME=off");
  const SwitchName* found = find_switch(text.substr(0, equals));
  if (found == nullptr) {
    std::string names;
    for (const SwitchName& known : switch_names())
      names += (names.empty() ? "" : ", ") + std::string(known.name);
    return usage("--switch: there is no switch " + quoted(text.substr(0, equals)) +
                 "; the switches are " + names);
  }
  switches.*(found->member) = value == "on";
  return {};
}

Result<const CpuModel*> parse_cpu(std::string_view text) {
  const CpuModel* model = CpuModel::find(text);
  if (model == nullptr)
    return usage("--cpu: there is no model " + quoted(text) + "; the models are " +
                 std::string(CpuModel::names()));
  return model;
}

Result<DirectExecution> parse_direct_execution(std::string_view text) {
  if (text == "never") return DirectExecution::kNever;
  if (text == "always") return DirectExecution::kAlways;
  if (text == "adaptive") return DirectExecution::kAdaptive;
  return Error{ExitStatus::kUsage,
               "--direct-exec: '" + std::string(text) + "' is none of never, always and adaptive"};
}

Result<TimeSource> parse_clock(std::string_view text) {
  if (text == "host") return TimeSource::kHost;
  if (text == "instructions") return TimeSource::kInstructions;
  return usage("--clock: " + quoted(text) + " is no clock; give host or instructions");
}

Result<uint64_t> parse_memory(std::string_view text, const CpuModel& cpu, uint64_t host_bytes) {
  auto bytes = parse_size("--memory", text);
  if (!bytes.ok()) return bytes;
  constexpr uint64_t kMost = uint64_t{63} << 30;  // 36 address bits, without the hole at 3 GiB.
  if (bytes.value() > kMost)
    return usage("--memory: " + quoted(text) + " is more than a 32-bit PC can address, 63G");
  if (bytes.value() > RamLayout::kHoleStart && !cpu.has(Feature::kPae))
    return usage("--memory: " + quoted(text) + " is more than the model '" + std::string(cpu.name) +
                 "' can address, " + mebibytes(RamLayout::kHoleStart) +
                 ", since it has no PAE; give less, or another --cpu");
  if (bytes.value() > host_bytes)
    return Error{ExitStatus::kHost, "--memory: " + quoted(text) +
                                        " is more than this host has for the program, " +
                                        mebibytes(host_bytes) + "; give less"};
  return bytes;
}

uint64_t host_memory_bytes() {
  uint64_t bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* limit :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    uint64_t limited = 0;  // The file may be missing, or say "max".
    if (std::ifstream(limit) >> limited && limited > 0) bytes = std::min(bytes, limited);
  }
  return bytes;
}

}  // namespace trapline
