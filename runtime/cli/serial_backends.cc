#include "runtime/cli/serial_backends.h"

#include <poll.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>
#include <vector>

#include "runtime/cli/escape_keys.h"
#include "runtime/cli/input_queue.h"
#include "runtime/cli/poll_thread.h"
#include "runtime/cli/serial_script.h"
#include "runtime/cli/serial_stream.h"
#include "runtime/cli/terminal.h"

namespace trapline {
namespace {

constexpr int kBackgroundMilliseconds = 200;  // How often to look whether we are in front again.
/// A terminal is read even when the guest takes nothing, for the sake of its escape keys. What is
/// typed beyond this is lost.
constexpr size_t kMostTyped = 1 << 20;

class NoEnd final : public SerialEnd {
 public:
  void write(uint8_t) override {}
};

class FileEnd final : public SerialEnd {
 public:
  explicit FileEnd(std::unique_ptr<HostOutput> file) : file_(std::move(file)) {}
  void write(uint8_t byte) override { file_->write(byte); }
  void flush() override { file_->flush(); }
  const std::optional<Error>& failure() const override { return file_->failure(); }

 private:
  std::unique_ptr<HostOutput> file_;
};

class StandardEnd final : public SerialEnd, private PollThread::Client {
 public:
  StandardEnd(int input, const SerialHost& host)
      : input_(input),
        terminal_(RawTerminal::take(input)),
        wake_(host.wake),
        queue_(host.wake, [this] { thread_.nudge(); }),
        output_(host.standard_output,
                terminal_is_raw() ? LineEnds::kForRawTerminal : LineEnds::kAsTheyAre) {
    if (terminal_) terminal_->tell(EscapeKeys::kHint);
    thread_.start(*this);
  }
  ~StandardEnd() override { thread_.stop(); }

  void write(uint8_t byte) override { output_.write(byte); }
  std::optional<uint8_t> read() override { return queue_.read(); }
  bool take_break() override { return queue_.take_break(); }
  void flush() override { output_.flush(); }
  bool quit_requested() const override { return quit_.load(); }
  bool terminal_is_raw() const override { return terminal_ && isatty(STDOUT_FILENO) == 1; }

 private:
  void plan(PollPlan& plan) override;
  void serve(const PollPlan& plan) override;
  void take_keys(std::span<const uint8_t> keys);
  void put_typed(std::vector<uint8_t>& keys);
  void act(EscapeKeys::Action action);

  const int input_;
  const std::unique_ptr<RawTerminal> terminal_;
  const std::function<void()> wake_;
  InputQueue queue_;
  HostBackend output_;
  std::atomic<bool> quit_{false};
  bool closed_ = false;     // On the thread, as all that follows.
  size_t typed_ahead_ = 0;  // Keys that have come since the queue was last empty enough.
  EscapeKeys escape_keys_;
  PollThread thread_;
};

void StandardEnd::plan(PollPlan& plan) {
  if (closed_) return;
  if (terminal_ && !terminal_->ready()) {
    plan.milliseconds = kBackgroundMilliseconds;
    return;
  }
  if (queue_.room() > 0)
    typed_ahead_ = 0;
  else if (!terminal_)
    return;
  plan.watch(input_, POLLIN);
}

void StandardEnd::serve(const PollPlan& plan) {
  if (closed_ || plan.events(input_) == 0) return;
  std::array<uint8_t, 4096> bytes{};
  const ssize_t got = ::read(input_, bytes.data(), bytes.size());
  if (got > 0) {
    const auto come = std::span(bytes).first(static_cast<size_t>(got));
    return terminal_ ? take_keys(come) : queue_.put(come);
  }
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  // Who loses the foreground while he reads gets an error, and may read again later.
  closed_ = got == 0 || !terminal_ || terminal_->ready();
}

void StandardEnd::take_keys(std::span<const uint8_t> keys) {
  std::vector<uint8_t> for_guest;
  for (const uint8_t key : keys) {
    const EscapeKeys::Decoded decoded = escape_keys_.decode(key);
    const auto wanted = decoded.for_guest();
    if (typed_ahead_ + for_guest.size() < kMostTyped)
      for_guest.insert(for_guest.end(), wanted.begin(), wanted.end());
    if (decoded.action == EscapeKeys::Action::kNone) continue;
    put_typed(for_guest);
    act(decoded.action);
  }
  put_typed(for_guest);
}

void StandardEnd::put_typed(std::vector<uint8_t>& keys) {
  queue_.put(keys);
  typed_ahead_ += keys.size();
  keys.clear();
}

void StandardEnd::act(EscapeKeys::Action action) {
  switch (action) {
    case EscapeKeys::Action::kNone:
      break;
    case EscapeKeys::Action::kHelp:
      terminal_->tell(EscapeKeys::kHelp);
      break;
    case EscapeKeys::Action::kBreak:
      queue_.put_break();
      break;
    case EscapeKeys::Action::kQuit:
      terminal_->tell("\r\n");  // The shell's prompt begins a line.
      quit_.store(true);
      if (wake_) wake_();
      break;
  }
}

}  // namespace

const std::optional<Error>& SerialEnd::failure() const {
  static const std::optional<Error> none;
  return none;
}

std::unique_ptr<SerialEnd> make_standard_end(int input, const SerialHost& host) {
  return std::make_unique<StandardEnd>(input, host);
}

Result<std::unique_ptr<SerialEnd>> open_serial(const std::string& where, const SerialHost& host) {
  constexpr std::string_view kUnix = "unix:", kScript = "script:";
  if (where == "stdio") return make_standard_end(STDIN_FILENO, host);
  if (where == "none") return std::unique_ptr<SerialEnd>(std::make_unique<NoEnd>());
  if (where == "pty") return make_pty_end(host);
  if (where.starts_with(kUnix)) return make_socket_end(where.substr(kUnix.size()), host);
  if (where.starts_with(kScript)) return make_script_end(where.substr(kScript.size()), host);
  auto file = HostOutput::create_file(where, host.give_up);
  if (!file.ok()) return file.error();
  return std::unique_ptr<SerialEnd>(std::make_unique<FileEnd>(file.take()));
}

}  // namespace trapline
