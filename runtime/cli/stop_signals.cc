#include "runtime/cli/stop_signals.h"

#include <array>
#include <atomic>
#include <csignal>

#include "runtime/cli/terminal.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

// A signal handler has no context but this: the two globals that the program cannot do without.
std::atomic<Machine*> stopped_machine{nullptr};
std::atomic<int> received_signal{0};
static_assert(std::atomic<Machine*>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler touches them");

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
std::array<std::atomic<bool>, NSIG> asked{};

extern "C" void stop_the_machine(int signal) {
  if (asked[static_cast<size_t>(signal)].exchange(true)) {
    restore_terminal();
    std::signal(signal, SIG_DFL);
    raise(signal);  // Delivered when this returns.
    return;
  }
  received_signal.store(signal);
  if (Machine* machine = stopped_machine.load()) machine->request_stop();
}

}  // namespace

StopSignals::StopSignals() {
  received_signal.store(0);
  struct sigaction action {};
  action.sa_handler = stop_the_machine;
  sigemptyset(&action.sa_mask);  // And without SA_RESTART: waits end.
  for (const int signal : kSignals) {
    asked[static_cast<size_t>(signal)].store(false);
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    // Whoever started us with nohup wants to go on without the terminal.
    if (signal != SIGHUP || before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (const int signal : kSignals) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == stop_the_machine) std::signal(signal, SIG_DFL);
  }
  stopped_machine.store(nullptr);
}

void StopSignals::set_machine(Machine* machine) {
  stopped_machine.store(machine);
}

int StopSignals::received() const {
  return received_signal.load();
}

}  // namespace trapline
