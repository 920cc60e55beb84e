// The command line, parsed and validated.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/machine.h"
#include "translator/switches.h"
#include "vcpu/cpu_model.h"
#include "vcpu/result.h"

namespace trapline {

/// `trapline run`.
struct RunOptions {
  enum class BootProtocol : uint8_t { kMultiboot, kLinux, kRaw, kResetRom };
  BootProtocol protocol = BootProtocol::kMultiboot;
  std::string kernel;  ///< The file to boot, whatever it is.
  // Raw images only.
  uint32_t load_address = 0x7c00;
  uint16_t entry_segment = 0;
  uint16_t entry_offset = 0x7c00;
  std::string initrd;                ///< Empty: none. Linux only, as modules are Multiboot only.
  std::vector<std::string> modules;  ///< "PATH" or "PATH ARGUMENTS".
  std::string append;
  uint64_t memory_bytes = 64ull << 20;
  const CpuModel* cpu = nullptr;
  std::optional<std::chrono::nanoseconds> timeout;
  bool reboot = true;  ///< Whether a guest that resets the machine starts again.
  bool summary = false;
  bool statistics = false;
  std::string statistics_file;   ///< Empty: a table on standard error.
  std::string serial = "stdio";  ///< Or "none", "pty", "unix:PATH", or a file's path.
  uint64_t code_cache_bytes = 64ull << 20;
  Switches switches;
  TimeSource clock = TimeSource::kHost;
  bool throttle_polling = true;
  bool gather_ticks = true;
  std::optional<DirectExecution> direct_execution;  ///< nullopt: what suits the rest.
  std::string crash_directory = ".";
};

/// `trapline replay`.
struct ReplayOptions {
  std::string bundle;  ///< The file's path.
};

/// `trapline check`.
struct CheckOptions {};

/// --help, --version: what to print on standard output.
struct Answer {
  std::string text;
};

using Command = std::variant<RunOptions, ReplayOptions, CheckOptions, Answer>;

Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace trapline
