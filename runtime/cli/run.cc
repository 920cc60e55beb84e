#include "runtime/cli/run.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "runtime/boot/linux_kernel.h"
#include "runtime/boot/missing_bios.h"
#include "runtime/boot/multiboot.h"
#include "runtime/boot/raw_image.h"
#include "runtime/boot/reset_rom.h"
#include "runtime/cli/host_io.h"
#include "runtime/cli/run_summary.h"
#include "runtime/cli/serial_backends.h"
#include "runtime/cli/statistics_report.h"
#include "runtime/cli/stop_signals.h"
#include "runtime/cli/terminal.h"
#include "runtime/pc/pc.h"

namespace trapline {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a guest runs, or waits, before it is looked at from outside. By itself whatever comes
/// from there ends that; but --timeout is of the host's time, which a guest's need not be.
constexpr std::chrono::milliseconds kSlice{1000};
constexpr std::chrono::milliseconds kCountedSlice{20};
/// How often --stats and --summary look where the processor time goes.
constexpr std::chrono::milliseconds kSampleInterval{4};

/// How long the run may take, and what asks it to end earlier.
class Limit {
 public:
  explicit Limit(const RunOptions& options)
      : timeout_(options.timeout),
        slice_(options.clock == TimeSource::kHost ? kSlice : kCountedSlice) {}

  void start() { started_ = Clock::now(); }
  std::chrono::nanoseconds spent() const { return Clock::now() - started_; }
  bool over() const { return timeout_ && spent() >= *timeout_; }
  std::chrono::nanoseconds next_slice() const {
    if (!timeout_) return slice_;
    return std::clamp<std::chrono::nanoseconds>(*timeout_ - spent(), std::chrono::nanoseconds(1),
                                                slice_);
  }
  int signal() const { return signals_.received(); }
  StopSignals& signals() { return signals_; }

 private:
  std::optional<std::chrono::nanoseconds> timeout_;
  std::chrono::nanoseconds slice_;
  Clock::time_point started_ = Clock::now();
  StopSignals signals_;
};

/// Lets other threads wake the PC, as long as there is one.
class Waker {
 public:
  void set_pc(Pc* pc) {
    const std::scoped_lock lock(mutex_);
    pc_ = pc;
  }
  void wake() {
    const std::scoped_lock lock(mutex_);
    if (pc_ != nullptr) pc_->wake();
  }

 private:
  std::mutex mutex_;
  Pc* pc_ = nullptr;
};

/// What the guest's serial line and debug console are connected to.
class HostSide {
 public:
  static Result<std::unique_ptr<HostSide>> create(const RunOptions& options,
                                                  const std::function<bool()>& give_up) {
    std::unique_ptr<HostSide> host(new HostSide(give_up));
    auto serial = open_serial(options.serial, {.standard_output = host->standard_output_,
                                               .wake = [waker = &host->waker_] { waker->wake(); },
                                               .give_up = give_up});
    if (!serial.ok()) return serial.error();
    host->serial_end_ = serial.take();
    host->console_end_.emplace(host->standard_output_, host->serial_end_->terminal_is_raw()
                                                           ? LineEnds::kForRawTerminal
                                                           : LineEnds::kAsTheyAre);
    return host;
  }

  CharacterBackend& serial() { return *serial_end_; }
  CharacterBackend& debug_console() { return *console_end_; }
  Waker& waker() { return waker_; }
  bool quit_requested() const { return serial_end_->quit_requested(); }
  void flush() {
    serial_end_->flush();
    standard_output_.flush();
  }
  const std::optional<Error>& output_failure() const {
    return serial_end_->failure() ? serial_end_->failure() : standard_output_.failure();
  }

 private:
  explicit HostSide(const std::function<bool()>& give_up)
      : standard_output_(STDOUT_FILENO, "standard output", [this, give_up] {
          return give_up() || (serial_end_ && serial_end_->quit_requested());
        }) {}

  HostOutput standard_output_;
  Waker waker_;
  std::unique_ptr<SerialEnd> serial_end_;
  std::optional<HostBackend> console_end_;
};

std::string place(const CpuState& state) {
  char text[96];
  std::snprintf(text, sizeof text, "%04x:%08x (CR0 %08x, CR2 %08x, CR3 %08x)",
                state.segment[kCs].selector, state.eip, state.cr0, state.cr2, state.cr3);
  return text;
}

Ending ending(ExitStatus status, std::string word, std::optional<std::string> message) {
  return {static_cast<int>(status), std::move(word), std::move(message)};
}

/// Nothing when the guest may go on.
std::optional<Ending> judge(const PcExit& exit, const Pc& pc, const CpuState& state) {
  using Kind = PcExit::Kind;
  switch (exit.kind) {
    case Kind::kGoesOn:
    case Kind::kReset:
      return std::nullopt;
    case Kind::kPowerOff:
      return ending(ExitStatus::kOk, "power-off", std::nullopt);
    case Kind::kHalted:
      return ending(ExitStatus::kOk, "halt", std::nullopt);
    case Kind::kAsleep:
      return ending(ExitStatus::kAsleep, "asleep",
                    "the guest halted at " + place(state) +
                        " to wait for an interrupt, and it has no device set up to send one");
    case Kind::kDebugExit:
      return Ending{pc.debug_exit_status().value_or(0), "debug-exit", std::nullopt};
    case Kind::kTripleFault:
      return ending(ExitStatus::kTripleFault, "triple-fault",
                    "the guest triple-faulted at " + place(state));
    case Kind::kError:
      break;
  }
  return ending(ExitStatus::kInternal, "error", exit.message);
}

/// What of the host ends a run.
std::optional<Ending> ended_from_outside(const HostSide& host, const Limit& limit,
                                         const CpuState& state) {
  if (host.quit_requested()) return ending(ExitStatus::kOk, "quit", std::nullopt);
  if (const int signal = limit.signal())
    return ending(ExitStatus::kSignalled, "signal",
                  "stopped by signal " + std::to_string(signal) + " at " + place(state));
  if (limit.over())
    return ending(ExitStatus::kTimeout, "timeout",
                  "the guest was still running at " + place(state) + " when --timeout ended it");
  return std::nullopt;
}

Ending run_until_end(Pc& pc, HostSide& host, Limit& limit, bool reboot) {
  limit.start();
  while (true) {
    const PcExit exit = pc.run(limit.next_slice());
    host.flush();
    const CpuState& state = pc.machine().state();
    // What the guest wrote has not all arrived, so its own end does not count. A terminal that
    // closes is told by a signal, and an error follows.
    if (const auto& failure = host.output_failure(); failure && limit.signal() == 0)
      return ending(failure->status, "output-failure", failure->message);
    if (exit.kind == PcExit::Kind::kDebugExit) return *judge(exit, pc, state);
    if (auto end = ended_from_outside(host, limit, state)) return *std::move(end);
    if (auto end = judge(exit, pc, state)) return *std::move(end);
    if (exit.kind != PcExit::Kind::kReset) continue;
    if (!reboot) return ending(ExitStatus::kOk, "reset", std::nullopt);
    pc.reset();
  }
}

Result<BootImage> load_boot_image(const RunOptions& options) {
  using Protocol = RunOptions::BootProtocol;
  if (options.protocol == Protocol::kRaw)
    return load_raw({.path = options.kernel,
                     .load_address = options.load_address,
                     .entry_segment = options.entry_segment,
                     .entry_offset = options.entry_offset},
                    options.memory_bytes);
  if (options.protocol == Protocol::kResetRom) return load_reset_rom(options.kernel);
  if (options.protocol == Protocol::kLinux)
    return load_linux(
        {.kernel_path = options.kernel,
         .initrd_path = options.initrd,
         .command_line = options.append,
         .special = {{Pc::kTables, Pc::kTablesEnd - Pc::kTables, MemoryKind::kReserved}},
         .random_seed = options.clock != TimeSource::kInstructions},
        options.memory_bytes);
  return load_multiboot(
      {.kernel_path = options.kernel, .append = options.append, .modules = options.modules},
      options.memory_bytes);
}

/// Native code does not count what it executes, so unless the user decides, --stats goes without.
DirectExecution chosen_execution(const RunOptions& options, const MachineOptions& machine) {
  if (options.direct_execution) return *options.direct_execution;
  const bool possible = !options.statistics && native_exclusion(machine).empty();
  return possible ? DirectExecution::kAdaptive : DirectExecution::kNever;
}

Result<std::unique_ptr<Pc>> boot(const RunOptions& options, HostSide& host) {
  auto image = load_boot_image(options);
  if (!image.ok()) return image.error();
  MachineOptions machine;
  machine.memory_bytes = options.memory_bytes;
  machine.cpu = options.cpu;
  machine.code_cache_bytes = options.code_cache_bytes;
  machine.switches = options.switches;
  machine.clock = options.clock;
  machine.direct_execution = chosen_execution(options, machine);
  machine.crash_directory = options.crash_directory;
  if (options.statistics || options.summary) machine.sample_interval = kSampleInterval;
  auto pc = Pc::create({.machine = machine,
                        .serial = host.serial(),
                        .debug_console = host.debug_console(),
                        .count_instructions = options.statistics &&
                                              machine.direct_execution == DirectExecution::kNever,
                        .throttle_polling = options.throttle_polling,
                        .gather_ticks = options.gather_ticks,
                        .flush = [&host] {
                          host.flush();
                          if (host.output_failure()) host.waker().wake();
                        }});
  if (!pc.ok()) return pc;
  if (const std::string& refusal = pc.value()->machine().native_refusal(); !refusal.empty())
    std::fprintf(stderr, "trapline: guest user code runs translated only, since %s\n",
                 refusal.c_str());
  if (auto placed = pc.value()->boot(image.take()); !placed.ok()) return placed.error();
  return pc;
}

/// Better known now than when there is something to leave.
Result<void> check_crash_directory(const std::string& path) {
  struct stat status {};
  int problem = 0;
  if (stat(path.c_str(), &status) != 0 || access(path.c_str(), W_OK | X_OK) != 0)
    problem = errno;
  else if (!S_ISDIR(status.st_mode))
    problem = ENOTDIR;
  if (problem == 0) return {};
  return Error{ExitStatus::kBadInput, "--crash-dir: '" + path +
                                          "' cannot take a file: " + std::strerror(problem) +
                                          "; give a directory that you may write to"};
}

/// Where --stats goes. The file is opened before the run, so that a bad path costs no run.
class StatisticsSink {
 public:
  Result<void> open(const RunOptions& options) {
    if (options.statistics_file.empty()) return {};
    auto opened = HostOutput::create_file(options.statistics_file, {});
    if (!opened.ok()) return opened.error();
    file_ = opened.take();
    return {};
  }

  Result<void> print(const RunReport& report) {
    if (!file_) {
      std::fputs(statistics_table(report).c_str(), stderr);
      return {};
    }
    for (const char c : statistics_json(report)) file_->write(static_cast<uint8_t>(c));
    file_->flush();
    return file_->failure() ? Result<void>(*file_->failure()) : Result<void>();
  }

 private:
  std::unique_ptr<HostOutput> file_;
};

std::chrono::nanoseconds processor_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto time = [](const timeval& value) {
    return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
  };
  return time(usage.ru_utime) + time(usage.ru_stime);
}

}  // namespace

Result<Ending> run_guest(const RunOptions& options) {
  // The current directory, which nobody has asked for, may be a read-only one.
  if (options.crash_directory != ".")
    if (auto checked = check_crash_directory(options.crash_directory); !checked.ok())
      return checked.error();
  Limit limit(options);
  StatisticsSink sink;
  if (auto opened = sink.open(options); !opened.ok()) return opened.error();
  auto host = HostSide::create(options, [&] { return limit.signal() != 0 || limit.over(); });
  if (!host.ok()) return host.error();
  auto booted = boot(options, *host.value());
  if (!booted.ok()) return booted.error();
  Pc& pc = *booted.value();

  host.value()->waker().set_pc(&pc);
  limit.signals().set_pc(&pc);
  Ending end = run_until_end(pc, *host.value(), limit, options.reboot);
  if (auto call = end.word == "halt" ? missing_bios_call(pc.machine()) : std::nullopt)
    end = ending(ExitStatus::kNoBios, "no-bios", *call + ", and this machine has none");
  else if (end.word == "halt" && options.protocol == RunOptions::BootProtocol::kLinux)
    end.message = "the kernel halted for good at " + place(pc.machine().state()) +
                  "; one that said nothing before may need another --cpu or more --memory";
  limit.signals().set_pc(nullptr);
  host.value()->waker().set_pc(nullptr);
  restore_terminal();  // What is printed from here on is for people.
  const RunReport report{pc.machine().statistics(), limit.spent(), end.word, end.status};
  if (options.summary)
    std::fputs(
        summary_text({report, pc.times(), processor_time(), options.clock == TimeSource::kHost})
            .c_str(),
        stderr);
  if (options.statistics) {
    if (auto printed = sink.print(report); !printed.ok()) return printed.error();
  }
  return end;
}

}  // namespace trapline
