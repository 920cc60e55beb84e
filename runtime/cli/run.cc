#include "runtime/cli/run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>

#include "runtime/boot/linux_kernel.h"
#include "runtime/boot/multiboot.h"
#include "runtime/cli/host_io.h"
#include "runtime/cli/serial_backends.h"
#include "runtime/cli/statistics_report.h"
#include "runtime/cli/stop_signals.h"
#include "runtime/cli/terminal.h"
#include "runtime/devices/debug_console.h"
#include "runtime/devices/debug_exit.h"
#include "runtime/devices/uart16550.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a guest runs before its output is flushed and the host's input is looked at.
constexpr std::chrono::milliseconds kSlice{20};

/// How long the run may take, and what asks it to end earlier.
class Limit {
 public:
  explicit Limit(std::optional<std::chrono::nanoseconds> timeout) : timeout_(timeout) {}

  void start() { started_ = Clock::now(); }
  std::chrono::nanoseconds spent() const { return Clock::now() - started_; }
  bool over() const { return timeout_ && spent() >= *timeout_; }
  std::chrono::nanoseconds next_slice() const {
    if (!timeout_) return kSlice;
    return std::clamp<std::chrono::nanoseconds>(*timeout_ - spent(), std::chrono::nanoseconds(1),
                                                kSlice);
  }
  int signal() const { return signals_.received(); }
  StopSignals& signals() { return signals_; }

 private:
  std::optional<std::chrono::nanoseconds> timeout_;
  Clock::time_point started_ = Clock::now();
  StopSignals signals_;
};

/// Lets other threads end a run of the machine, as long as there is one.
class Waker {
 public:
  void set_machine(Machine* machine) {
    const std::scoped_lock lock(mutex_);
    machine_ = machine;
  }
  void wake() {
    const std::scoped_lock lock(mutex_);
    if (machine_ != nullptr) machine_->request_stop();
  }

 private:
  std::mutex mutex_;
  Machine* machine_ = nullptr;
};

/// The devices of the machine, on their bus, and what they are connected to on the host.
class Board {
 public:
  static Result<std::unique_ptr<Board>> create(const RunOptions& options,
                                               const std::function<bool()>& give_up) {
    auto host = std::make_unique<Host>(give_up);
    auto serial = open_serial(options.serial, {.standard_output = host->standard_output,
                                               .wake = [waker = &host->waker] { waker->wake(); },
                                               .give_up = give_up});
    if (!serial.ok()) return serial.error();
    host->serial_end = serial.take();
    return std::unique_ptr<Board>(new Board(std::move(host)));
  }

  PortBus& bus() { return bus_; }
  void set_machine(Machine* machine) { host_->waker.set_machine(machine); }
  std::optional<uint8_t> exit_status() const { return debug_exit_.status(); }
  bool quit_requested() const { return host_->serial_end->quit_requested(); }

  void exchange_with_host() {
    host_->serial_end->flush();
    host_->standard_output.flush();
    uart_.poll();
  }

  const std::optional<Error>& output_failure() const {
    return host_->serial_end->failure() ? host_->serial_end->failure()
                                        : host_->standard_output.failure();
  }

 private:
  /// What the serial end's thread and the devices hold on to.
  struct Host {
    explicit Host(const std::function<bool()>& give_up)
        : standard_output(STDOUT_FILENO, "standard output", [this, give_up] {
            return give_up() || (serial_end && serial_end->quit_requested());
          }) {}
    HostOutput standard_output;
    Waker waker;
    std::unique_ptr<SerialEnd> serial_end;
  };

  explicit Board(std::unique_ptr<Host> host)
      : host_(std::move(host)),
        console_end_(host_->standard_output, host_->serial_end->terminal_is_raw()
                                                 ? LineEnds::kForRawTerminal
                                                 : LineEnds::kAsTheyAre),
        uart_(*host_->serial_end, nullptr),
        console_(console_end_),
        debug_exit_([this] { host_->waker.wake(); }) {
    bus_.claim(Uart16550::kCom1, Uart16550::kPorts, uart_);
    bus_.claim(DebugConsole::kPort, DebugConsole::kPorts, console_);
    bus_.claim(DebugExit::kPort, DebugExit::kPorts, debug_exit_);
  }

  PortBus bus_;
  std::unique_ptr<Host> host_;
  HostBackend console_end_;
  Uart16550 uart_;
  DebugConsole console_;
  DebugExit debug_exit_;
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

Ending halted(const CpuState& state) {
  if (!(state.eflags & eflags::kIf)) return ending(ExitStatus::kOk, "halt", std::nullopt);
  return ending(ExitStatus::kAsleep, "asleep",
                "the guest halted at " + place(state) +
                    " to wait for an interrupt, and this machine has no device that could send "
                    "one");
}

/// Nothing when the guest may go on.
std::optional<Ending> judge(const Exit& exit, const CpuState& state, const Board& board,
                            const Limit& limit) {
  if (const auto status = board.exit_status()) return Ending{*status, "debug-exit", std::nullopt};
  if (board.quit_requested()) return ending(ExitStatus::kOk, "quit", std::nullopt);
  if (const auto& failure = board.output_failure())
    return ending(failure->status, "output-failure", failure->message);
  switch (exit.kind) {
    case Exit::Kind::kHalt:
      return halted(state);
    case Exit::Kind::kTripleFault:
      return ending(ExitStatus::kTripleFault, "triple-fault",
                    "the guest triple-faulted at " + place(state));
    case Exit::Kind::kError:
      return ending(ExitStatus::kInternal, "error", exit.message);
    case Exit::Kind::kStopped:
    case Exit::Kind::kDeadline:
    case Exit::Kind::kInstructions:
      break;
    default:
      return ending(ExitStatus::kInternal, "error",
                    "the engine stopped for a reason that nobody asked for");
  }
  if (const int signal = limit.signal())
    return ending(ExitStatus::kSignalled, "signal",
                  "stopped by signal " + std::to_string(signal) + " at " + place(state));
  if (limit.over())
    return ending(ExitStatus::kTimeout, "timeout",
                  "the guest was still running at " + place(state) + " when --timeout ended it");
  return std::nullopt;
}

Ending run_until_end(Machine& machine, Board& board, Limit& limit, bool count) {
  limit.start();
  while (true) {
    RunLimits limits;
    limits.time = limit.next_slice();
    if (count) limits.instructions = UINT64_MAX;
    const Exit exit = machine.run(limits);
    board.exchange_with_host();
    if (auto end = judge(exit, machine.state(), board, limit)) return *std::move(end);
  }
}

Result<BootImage> load_boot_image(const RunOptions& options) {
  if (options.protocol == RunOptions::BootProtocol::kLinux)
    return load_linux({.kernel_path = options.kernel,
                       .initrd_path = options.initrd,
                       .command_line = options.append,
                       .special = {}},
                      options.memory_bytes);
  return load_multiboot(
      {.kernel_path = options.kernel, .append = options.append, .modules = options.modules},
      options.memory_bytes);
}

Result<std::unique_ptr<Machine>> boot(const RunOptions& options, PortBus& bus) {
  auto image = load_boot_image(options);
  if (!image.ok()) return image.error();
  MachineOptions machine_options;
  machine_options.memory_bytes = options.memory_bytes;
  machine_options.cpu = options.cpu;
  machine_options.code_cache_bytes = options.code_cache_bytes;
  machine_options.switches = options.switches;
  machine_options.clock = options.clock;
  machine_options.crash_directory = options.crash_directory;
  machine_options.ports = &bus;
  auto machine = Machine::create(machine_options);
  if (machine.ok()) place_boot_image(image.value(), *machine.value());
  return machine;
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

}  // namespace

Result<Ending> run_guest(const RunOptions& options) {
  Limit limit(options.timeout);
  StatisticsSink sink;
  if (auto opened = sink.open(options); !opened.ok()) return opened.error();
  auto board = Board::create(options, [&] { return limit.signal() != 0 || limit.over(); });
  if (!board.ok()) return board.error();
  auto booted = boot(options, board.value()->bus());
  if (!booted.ok()) return booted.error();
  Machine& machine = *booted.value();

  board.value()->set_machine(&machine);
  limit.signals().set_machine(&machine);
  Ending end = run_until_end(machine, *board.value(), limit, options.statistics);
  limit.signals().set_machine(nullptr);
  board.value()->set_machine(nullptr);
  restore_terminal();  // What is printed from here on is for people.
  if (options.statistics) {
    const RunReport report{machine.statistics(), limit.spent(), end.word, end.status};
    if (auto printed = sink.print(report); !printed.ok()) return printed.error();
  }
  return end;
}

}  // namespace trapline
