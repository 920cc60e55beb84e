#include "runtime/cli/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "runtime/cli/check.h"
#include "runtime/cli/options.h"
#include "runtime/cli/replay.h"
#include "runtime/cli/run.h"
#include "runtime/cli/terminal.h"

namespace trapline {
namespace {

/// One sentence on one line, whatever strange bytes a file name in it has.
void complain(std::string message) {
  for (char& c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  std::fprintf(stderr, "trapline: %s\n", message.c_str());
}

/// A descriptor 0, 1 or 2 that is closed would be given to the first file that is opened, and a
/// guest's output would land in it.
void open_standard_descriptors() {
  while (true) {
    const int descriptor = open("/dev/null", O_RDWR);
    if (descriptor > STDERR_FILENO) close(descriptor);
    if (descriptor < 0 || descriptor > STDERR_FILENO) return;
  }
}

/// A failed assertion aborts, with its sentence; its status is the documented one.
void end_aborts_with_status() {
  std::signal(SIGABRT, [](int) {
    restore_terminal();
    _exit(static_cast<int>(ExitStatus::kInternal));
  });
}

int run_command(const RunOptions& options) {
  auto end = run_guest(options);
  if (!end.ok()) {
    complain(end.error().message);
    return static_cast<int>(end.error().status);
  }
  if (end.value().message) complain(*end.value().message);
  return end.value().status;
}

int replay_command(const ReplayOptions& options) {
  auto shown = replay_bundle(options);
  if (shown.ok()) return static_cast<int>(ExitStatus::kOk);
  complain(shown.error().message);
  return static_cast<int>(shown.error().status);
}

int print_answer(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0)
    return static_cast<int>(ExitStatus::kOk);
  complain("standard output cannot be written");
  return static_cast<int>(ExitStatus::kHost);
}

int run_checked(int argc, const char* const* argv) {
  auto command = parse_command_line(argc, argv);
  if (!command.ok()) {
    complain(command.error().message);
    return static_cast<int>(command.error().status);
  }
  if (const auto* answer = std::get_if<Answer>(&command.value())) return print_answer(answer->text);
  if (std::holds_alternative<CheckOptions>(command.value())) return print_answer(check_report());
  if (const auto* options = std::get_if<ReplayOptions>(&command.value()))
    return replay_command(*options);
  return run_command(std::get<RunOptions>(command.value()));
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  open_standard_descriptors();
  // A closed pipe, or a file that may not grow, is an error of a write, and gets a sentence.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  end_aborts_with_status();
  restore_terminal_on_fatal_signals();
  try {  // The library throws when memory runs out; nothing of ours does.
    return run_checked(argc, argv);
  } catch (const std::exception& error) {
    complain(std::string("internal error: ") + error.what());
    return static_cast<int>(ExitStatus::kInternal);
  }
}

}  // namespace trapline
