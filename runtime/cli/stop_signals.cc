#include "runtime/cli/stop_signals.h"

#include <array>
#include <atomic>
#include <csignal>

#include "runtime/cli/terminal.h"
#include "runtime/pc/pc.h"

namespace trapline {
namespace {

// A signal handler has no context but this: the two globals that the program cannot do without.
std::atomic<Pc*> woken_pc{nullptr};
std::atomic<int> received_signal{0};
static_assert(std::atomic<Pc*>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler touches them");

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
std::array<std::atomic<bool>, NSIG> asked{};

extern "C" void on_stop_signal(int signal) {
  if (asked[static_cast<size_t>(signal)].exchange(true)) {
    restore_terminal();
    std::signal(signal, SIG_DFL);
    raise(signal);  // Delivered when this returns.
    return;
  }
  received_signal.store(signal);
  if (Pc* pc = woken_pc.load()) pc->wake();
}

}  // namespace

StopSignals::StopSignals() {
  received_signal.store(0);
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
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
    if (now.sa_handler == on_stop_signal) std::signal(signal, SIG_DFL);
  }
  woken_pc.store(nullptr);
}

void StopSignals::set_pc(Pc* pc) {
  woken_pc.store(pc);
}

int StopSignals::received() const {
  return received_signal.load();
}

}  // namespace trapline
