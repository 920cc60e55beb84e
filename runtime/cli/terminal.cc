#include "runtime/cli/terminal.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "vcpu/assert.h"

namespace trapline {
namespace {

enum class Hold : int {
  kNone,       // There is no terminal, or it has been given back for good.
  kWanted,     // Ours whenever we are in the foreground.
  kSuspended,  // Given back until the process goes on.
};

// What signal handlers must find. The plain fields are written before `hold` says kWanted for the
// first time and not changed while it is anything but kNone.
struct Shared {
  std::atomic<Hold> hold{Hold::kNone};
  std::atomic<bool> raw{false};
  int descriptor = -1;
  termios before{};
  termios keys{};
};
Shared shared;
static_assert(std::atomic<Hold>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "signal handlers touch them");

constexpr std::array<int, 2> kJobSignals = {SIGTSTP, SIGCONT};
std::array<struct sigaction, kJobSignals.size()> previous_actions;

/// A terminal that does not control us (a serial port, a pty of somebody else) is always ours.
bool in_foreground() {
  const pid_t group = tcgetpgrp(shared.descriptor);
  return group < 0 || group == getpgrp();
}

/// In the background, setting modes would stop us, and a shell owns them.
bool make_raw() {
  if (!in_foreground()) return false;
  if (!shared.raw.exchange(true)) tcsetattr(shared.descriptor, TCSANOW, &shared.keys);
  return true;
}

void give_back() {
  if (!shared.raw.exchange(false)) return;
  if (in_foreground()) tcsetattr(shared.descriptor, TCSANOW, &shared.before);
}

extern "C" void on_stop(int) {
  const int saved = errno;
  Hold wanted = Hold::kWanted;
  shared.hold.compare_exchange_strong(wanted, Hold::kSuspended);
  give_back();
  raise(SIGSTOP);  // All threads stop here, until SIGCONT.
  errno = saved;
}

/// Also after a SIGSTOP, of which we were not told: the shell has changed the modes then.
extern "C" void on_continue(int) {
  const int saved = errno;
  Hold suspended = Hold::kSuspended;
  shared.hold.compare_exchange_strong(suspended, Hold::kWanted);
  shared.raw.store(false);
  if (shared.hold.load() == Hold::kWanted) make_raw();
  errno = saved;
}

extern "C" void on_fatal(int signal) {
  restore_terminal();
  ::signal(signal, SIG_DFL);
  raise(signal);  // Delivered when this returns.
}

void handle_job_signals() {
  struct sigaction action {};
  sigfillset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kJobSignals.size(); ++i) {
    action.sa_handler = kJobSignals[i] == SIGCONT ? on_continue : on_stop;
    sigaction(kJobSignals[i], nullptr, &previous_actions[i]);
    const bool ignored = previous_actions[i].sa_handler == SIG_IGN;  // By who started us.
    if (!ignored) sigaction(kJobSignals[i], &action, nullptr);
  }
}

}  // namespace

std::unique_ptr<RawTerminal> RawTerminal::take(int descriptor) {
  TRAPLINE_ASSERT(shared.hold.load() == Hold::kNone);
  if (isatty(descriptor) != 1 || tcgetattr(descriptor, &shared.before) != 0) return nullptr;
  shared.descriptor = descriptor;
  shared.keys = shared.before;
  cfmakeraw(&shared.keys);
  shared.keys.c_cc[VMIN] = 1;
  shared.keys.c_cc[VTIME] = 0;
  shared.raw.store(false);
  shared.hold.store(Hold::kWanted);
  handle_job_signals();
  make_raw();
  return std::unique_ptr<RawTerminal>(new RawTerminal);
}

RawTerminal::~RawTerminal() {
  restore_terminal();
  for (size_t i = 0; i < kJobSignals.size(); ++i)
    sigaction(kJobSignals[i], &previous_actions[i], nullptr);
}

bool RawTerminal::ready() {
  return shared.hold.load() == Hold::kWanted && make_raw();
}

void RawTerminal::tell(std::string_view text) {
  if (ready()) (void)!write(shared.descriptor, text.data(), text.size());
}

void restore_terminal() {
  if (shared.hold.exchange(Hold::kNone) != Hold::kNone) give_back();
}

void restore_terminal_on_fatal_signals() {
  struct sigaction action {};
  action.sa_handler = on_fatal;
  action.sa_flags = SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGQUIT, SIGXCPU,
                           SIGXFSZ, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2}) {
    struct sigaction now {};
    if (sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_DFL)
      sigaction(signal, &action, nullptr);
  }
}

}  // namespace trapline
