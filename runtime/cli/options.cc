#include "runtime/cli/options.h"

#include <CLI/CLI.hpp>
#include <cctype>
#include <cstdio>
#include <sstream>

#include "runtime/cli/values.h"

namespace trapline {
namespace {

constexpr const char* kVersion = "trapline " TRAPLINE_VERSION;

/// What stands on the command line, as it stands there.
struct RawOptions {
  std::string multiboot;
  std::string kernel;
  std::string raw;
  std::string load;
  std::string entry;
  std::string reset_rom;
  std::string initrd;
  std::vector<std::string> modules;
  std::string append;
  std::string memory = "64M";
  std::string cpu;
  std::string timeout;
  bool no_reboot = false;
  bool summary = false;
  std::string statistics;
  std::string serial = "stdio";
  std::string display = "none";
  std::string code_cache = "64M";
  std::string clock = "host";
  std::string idle_polling = "throttle";
  std::string idle_ticks = "gather";
  std::string direct_execution;
  std::string crash_directory = ".";
  std::vector<std::string> switches;
};

std::string footer() {
  std::string text = "CPU models:\n  " + std::string(CpuModel::names()) + "\n\nSwitches:\n";
  for (const SwitchName& known : switch_names()) {
    std::string name(known.name);
    name.resize(std::max<size_t>(name.size() + 1, 20), ' ');
    text += "  " + name + std::string(known.help) + "\n";
  }
  text +=
      "\nExit status: the guest's own (0 when it halts for good, (value << 1) | 1 when it writes\n"
      "value to port 0xF4), 64 bad usage, 65 bad input, 70 internal error, 71 refused by the "
      "host,\n"
      "80 triple fault, 81 timeout, 82 stopped by a signal, 83 asleep for ever, 84 no BIOS.";
  return text;
}

/// Shows the one option whose name is written in CLI11's flag syntax as a user writes it.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    const std::string name = CLI::Formatter::make_option_name(option, is_positional);
    return name.starts_with("--stats") ? "--stats[=FILE.json]" : name;
  }
};

/// CLI11's flag syntax: the text in braces is the value when none is given after '='.
constexpr const char* kStatisticsFlag = "--stats{-}";

void add_run(CLI::App& app, RawOptions& raw) {
  CLI::App* run = app.add_subcommand("run", "Boot a guest and run it until it ends.");
  run->add_option("--kernel", raw.kernel, "The Linux kernel to boot, a bzImage")->type_name("FILE");
  run->add_option("--initrd", raw.initrd, "The Linux kernel's initial RAM disk")->type_name("FILE");
  run->add_option("--multiboot", raw.multiboot, "The Multiboot 1 kernel to boot")
      ->type_name("FILE");
  run->add_option(
         "--module", raw.modules,
         "A module for the Multiboot kernel: a path, or \"path arguments\"; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  run->add_option("--raw", raw.raw, "Code to start in real mode, as a BIOS starts a boot sector")
      ->type_name("FILE");
  run->add_option("--load", raw.load, "Where the raw code goes (default 0x7c00)")
      ->type_name("ADDRESS");
  run->add_option("--entry", raw.entry, "Where the raw code begins (default where it is loaded)")
      ->type_name("CS:IP|ADDRESS");
  run->add_option("--reset-rom", raw.reset_rom,
                  "Firmware, started at the reset vector; it ends at 4 GiB and at 1 MiB")
      ->type_name("FILE");
  run->add_option("--append", raw.append,
                  "Text for the kernel's command line (a Multiboot kernel's begins with its path)")
      ->type_name("TEXT");
  run->add_option("--memory", raw.memory, "RAM, a multiple of 4K (default 64M)")->type_name("SIZE");
  run->add_option("--cpu", raw.cpu, "The CPU model (default max)")->type_name("MODEL");
  run->add_option("--timeout", raw.timeout, "End with status 81 after this long")
      ->type_name("SECONDS");
  run->add_flag("--no-reboot", raw.no_reboot, "End where the guest would reset the machine");
  run->add_flag("--summary", raw.summary,
                "Tell in a few lines on standard error where the time went");
  run->add_flag(kStatisticsFlag, raw.statistics,
                "Tell what the engine did, on standard error or in a file");
  run->add_option("--serial", raw.serial,
                  "COM1: stdio, none, pty, unix:PATH for a socket to connect to, script:FILE for a "
                  "conversation that is written down, or a file to write to (default stdio)")
      ->type_name("WHERE");
  run->add_option("--display", raw.display, "The screen: none is the only one so far")
      ->type_name("none");
  run->add_option("--code-cache", raw.code_cache, "Room for translations (default 64M)")
      ->type_name("SIZE");
  run->add_option("--clock", raw.clock,
                  "What the guest's time follows: host, or instructions, which makes runs "
                  "repeatable (default host)")
      ->type_name("host|instructions");
  run->add_option("--idle-polling", raw.idle_polling,
                  "A guest that waits by polling: throttle it, where it cannot tell, or run it all "
                  "the time (default throttle)")
      ->type_name("throttle|run");
  run->add_option("--idle-ticks", raw.idle_ticks,
                  "The timer interrupts of a guest that does nothing but count them: gather a few, "
                  "up to 5 ms, or give each at its time (default gather)")
      ->type_name("gather|each");
  run->add_option("--direct-exec", raw.direct_execution,
                  "Run guest user code on the bare processor, where that is exact: never, always, "
                  "or adaptive, where it computes for long (default adaptive; never with --stats, "
                  "which counts instructions)")
      ->type_name("never|always|adaptive");
  run->add_option("--crash-dir", raw.crash_directory,
                  "Where a failure of the program's own leaves what is known of it (default here)")
      ->type_name("DIRECTORY");
  run->add_option("--switch", raw.switches, "Turn an optimisation: NAME=on or NAME=off")
      ->type_name("NAME=on|off")
      ->allow_extra_args(false);
  // An empty value comes from a variable that is not set; only text for the guest may be empty.
  for (CLI::Option* option : run->get_options())
    if (option->get_items_expected_max() > 0 && option->get_name() != "--append" &&
        option->get_name() != kStatisticsFlag)
      option->check([](const std::string& value) {
        return value.empty() ? std::string("give a value that is not empty") : std::string();
      });
  run->footer(footer);
}

/// Where a raw image is loaded and entered.
Result<void> place_raw(const RawOptions& raw, RunOptions& options) {
  if (!raw.load.empty()) {
    auto address = parse_address("--load", raw.load);
    if (!address.ok()) return address.error();
    options.load_address = address.value();
  }
  char at_load[16];
  std::snprintf(at_load, sizeof at_load, "%#x", options.load_address);
  auto entry = parse_entry("--entry", raw.entry.empty() ? at_load : raw.entry);
  if (!entry.ok()) return entry.error();
  options.entry_segment = entry.value().segment;
  options.entry_offset = entry.value().offset;
  return {};
}

/// What is booted, and how.
Result<void> choose_kernel(RawOptions& raw, RunOptions& options) {
  using Protocol = RunOptions::BootProtocol;
  struct Way {
    const char* name;
    std::string& file;
    Protocol protocol;
  };
  const Way ways[] = {{"--kernel", raw.kernel, Protocol::kLinux},
                      {"--multiboot", raw.multiboot, Protocol::kMultiboot},
                      {"--raw", raw.raw, Protocol::kRaw},
                      {"--reset-rom", raw.reset_rom, Protocol::kResetRom}};
  const Way* chosen = nullptr;
  for (const Way& way : ways) {
    if (way.file.empty()) continue;
    if (chosen)
      return Error{ExitStatus::kUsage,
                   std::string(chosen->name) + " and " + way.name + ": give one of the two"};
    chosen = &way;
  }
  if (!chosen)
    return Error{ExitStatus::kUsage,
                 "nothing to boot: give --kernel, --multiboot, --raw or --reset-rom with a FILE; "
                 "'trapline run --help' tells what there is"};
  if (chosen->protocol != Protocol::kMultiboot && !raw.modules.empty())
    return Error{ExitStatus::kUsage,
                 "--module is for --multiboot; give --initrd to a Linux kernel"};
  if (chosen->protocol != Protocol::kLinux && !raw.initrd.empty())
    return Error{ExitStatus::kUsage,
                 "--initrd is for --kernel; give --module to a Multiboot kernel"};
  const bool has_command_line =
      chosen->protocol == Protocol::kLinux || chosen->protocol == Protocol::kMultiboot;
  if (!has_command_line && !raw.append.empty())
    return Error{ExitStatus::kUsage,
                 std::string("--append is for kernels; ") + chosen->name + " has no command line"};
  if (chosen->protocol != Protocol::kRaw && !(raw.load.empty() && raw.entry.empty()))
    return Error{ExitStatus::kUsage, "--load and --entry are for --raw; leave them out"};
  if (chosen->protocol == Protocol::kRaw)
    if (auto placed = place_raw(raw, options); !placed.ok()) return placed.error();
  options.protocol = chosen->protocol;
  options.kernel = std::move(chosen->file);
  options.initrd = std::move(raw.initrd);
  options.modules = std::move(raw.modules);
  options.append = std::move(raw.append);
  return {};
}

CLI::App* add_replay(CLI::App& app, ReplayOptions& replay) {
  CLI::App* command =
      app.add_subcommand("replay", "Run again what a failure of the program's own was about.");
  command->add_option("bundle", replay.bundle, "The file that the failure left")
      ->type_name("FILE")
      ->required();
  return command;
}

Result<RunOptions> validate(RawOptions raw) {
  RunOptions options;
  if (auto chosen = choose_kernel(raw, options); !chosen.ok()) return chosen.error();
  if (raw.display != "none")
    return Error{ExitStatus::kUsage,
                 "--display: '" + raw.display + "' is not a display; none is the only one so far"};
  if (raw.serial.empty() || raw.serial == "unix:" || raw.serial == "script:")
    return Error{ExitStatus::kUsage,
                 "--serial: give stdio, none, pty, unix:PATH, script:FILE or a file's path"};
  auto cache = parse_size("--code-cache", raw.code_cache);
  if (!cache.ok()) return cache.error();
  auto cpu = raw.cpu.empty() ? Result(&CpuModel::max()) : parse_cpu(raw.cpu);
  if (!cpu.ok()) return cpu.error();
  auto memory = parse_memory(raw.memory, *cpu.value(), host_memory_bytes());
  if (!memory.ok()) return memory.error();
  if (!raw.timeout.empty()) {
    auto timeout = parse_seconds("--timeout", raw.timeout);
    if (!timeout.ok()) return timeout.error();
    options.timeout = timeout.value();
  }
  if (raw.idle_polling != "throttle" && raw.idle_polling != "run")
    return Error{ExitStatus::kUsage,
                 "--idle-polling: '" + raw.idle_polling + "' is neither throttle nor run"};
  if (raw.idle_ticks != "gather" && raw.idle_ticks != "each")
    return Error{ExitStatus::kUsage,
                 "--idle-ticks: '" + raw.idle_ticks + "' is neither gather nor each"};
  if (!raw.direct_execution.empty()) {
    auto direct_execution = parse_direct_execution(raw.direct_execution);
    if (!direct_execution.ok()) return direct_execution.error();
    options.direct_execution = direct_execution.value();
  }
  auto clock = parse_clock(raw.clock);
  if (!clock.ok()) return clock.error();
  for (const std::string& text : raw.switches)
    if (auto parsed = parse_switch(text, options.switches); !parsed.ok()) return parsed.error();
  options.memory_bytes = memory.value();
  options.cpu = cpu.value();
  options.reboot = !raw.no_reboot;
  options.clock = clock.value();
  options.throttle_polling = raw.idle_polling == "throttle";
  options.gather_ticks = raw.idle_ticks == "gather";
  options.crash_directory = std::move(raw.crash_directory);
  options.summary = raw.summary;
  options.statistics = !raw.statistics.empty();
  if (raw.statistics != "-") options.statistics_file = std::move(raw.statistics);
  options.serial = std::move(raw.serial);
  options.code_cache_bytes = cache.value();
  return options;
}

/// The library's words where ours are clearer.
std::string in_our_words(const CLI::ParseError& error) {
  const std::string message = error.what();
  const std::string name = message.substr(0, message.find(':'));
  if (message.find("At Most 1 required") != std::string::npos) return name + ": give it only once";
  if (const size_t missing = message.find(" missing");
      missing != std::string::npos && message.find(": 1 required ") == name.size())
    return name + ": there must be a value after it";
  return message;
}

Error usage_error(const CLI::App& app, std::string message) {
  if (app.get_subcommands().empty()) {
    const auto unknown = app.remaining();
    message = unknown.empty() ? "no command is given" : "there is no command " + unknown.front();
  }
  message[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(message[0])));
  return {ExitStatus::kUsage, message + "; 'trapline run --help' tells what there is"};
}

}  // namespace

Result<Command> parse_command_line(int argc, const char* const* argv) {
  CLI::App app(
      "Runs 16-bit and 32-bit x86 guests on 64-bit x86 Linux, without help of the processor or the "
      "kernel.",
      "trapline");
  RawOptions raw;
  app.set_version_flag("--version", kVersion, "Print the version and end");
  app.set_help_flag("-h,--help", "Print this help and end");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  add_run(app, raw);
  ReplayOptions replay;
  const CLI::App* replay_command = add_replay(app, replay);
  const CLI::App* check_command =
      app.add_subcommand("check", "Tell what this host offers for running guest code natively.");
  app.footer("'trapline run --help' tells what a run can be given.");
  try {  // CLI11 reports by exceptions; they end here.
    app.parse(argc, argv);
  } catch (const CLI::Success& answer) {
    std::ostringstream text;
    app.exit(answer, text, text);
    return Command(Answer{text.str()});
  } catch (const CLI::ParseError& error) {
    return usage_error(app, in_our_words(error));
  }
  if (replay_command->parsed()) return Command(std::move(replay));
  if (check_command->parsed()) return Command(CheckOptions{});
  auto options = validate(std::move(raw));
  if (!options.ok()) return options.error();
  return Command(options.take());
}

}  // namespace trapline
