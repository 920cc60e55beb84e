#include "runtime/cli/stop_signals.h"

#include <atomic>
#include <csignal>

#include "runtime/machine.h"

namespace trapline {
namespace {

// A signal handler has no context but this: the two globals that the program cannot do without.
std::atomic<Machine*> stopped_machine{nullptr};
std::atomic<int> received_signal{0};
static_assert(std::atomic<Machine*>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler touches them");

extern "C" void stop_the_machine(int signal) {
  received_signal.store(signal);
  if (Machine* machine = stopped_machine.load()) machine->request_stop();
}

}  // namespace

StopSignals::StopSignals() {
  received_signal.store(0);
  struct sigaction action {};
  action.sa_handler = stop_the_machine;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // Without SA_RESTART: waits end.
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

StopSignals::~StopSignals() {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  stopped_machine.store(nullptr);
}

void StopSignals::set_machine(Machine* machine) {
  stopped_machine.store(machine);
}

int StopSignals::received() const {
  return received_signal.load();
}

}  // namespace trapline
