#include "runtime/cli/serial_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/cli/input_queue.h"
#include "runtime/cli/poll_thread.h"

namespace trapline {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMostPending = 256 << 10;  ///< Bytes for a listener who is slow.
constexpr size_t kMostKept = 64 << 10;      ///< Bytes for the listener who is still to come.
constexpr size_t kHurry = 4096;             ///< So many bytes are sent without delay.
constexpr milliseconds kDelay{2};           ///< Bytes gather for so long.
constexpr milliseconds kPatience{250};      ///< With a listener who takes nothing.

/// What a stream is made of. Descriptors are not blocking; -1 where there is none.
struct Ends {
  int listener = -1;
  int stream = -1;
  int kept_open = -1;  ///< A pty's other side, without which it would report a hang-up.
  std::string path;    ///< Of a socket: removed at the end.
};

class StreamEnd final : public SerialEnd, private PollThread::Client {
 public:
  StreamEnd(Ends ends, const SerialHost& host)
      : ends_(std::move(ends)),
        give_up_(host.give_up),
        queue_(host.wake, [this] { thread_.nudge(); }),
        connected_(ends_.stream >= 0) {
    thread_.start(*this);
  }
  ~StreamEnd() override;

  void write(uint8_t byte) override;
  std::optional<uint8_t> read() override { return queue_.read(); }
  void flush() override;

 private:
  void plan(PollPlan& plan) override;
  void serve(const PollPlan& plan) override;
  void accept_client();
  void read_stream();
  void write_stream();
  void lose_client();
  void hang_up();
  short plan_output(PollPlan& plan);
  bool listening() const { return connected_ && !stuck_; }
  void wait_for_room(std::unique_lock<std::mutex>& lock);

  Ends ends_;  // The stream is the thread's.
  const std::function<bool()> give_up_;
  InputQueue queue_;
  bool input_ended_ = false;  // On the thread, as the next.
  bool client_gone_ = false;

  std::mutex mutex_;  // For what follows.
  std::condition_variable progress_;
  bool connected_;
  bool stuck_ = false;  // The listener has used up our patience.
  std::string pending_;
  Clock::time_point send_at_{};
  Clock::time_point last_progress_{};

  PollThread thread_;
};

/// What a listener has not taken yet when the guest ends still reaches him, if he reads.
StreamEnd::~StreamEnd() {
  flush();
  const auto until = Clock::now() + kPatience;
  {
    std::unique_lock lock(mutex_);
    progress_.wait_until(lock, until, [this] { return pending_.empty() || !listening(); });
  }
  // Unread bytes vanish with a pty, unlike with a socket.
  for (int unread = 1; ends_.kept_open >= 0 && unread > 0 && Clock::now() < until;) {
    if (ioctl(ends_.kept_open, FIONREAD, &unread) != 0) break;
    if (unread > 0) std::this_thread::sleep_for(kDelay);
  }
  thread_.stop();
  if (ends_.stream < 0) accept_client();  // Who has come just now.
  if (ends_.stream >= 0 && !pending_.empty()) write_stream();
  for (const int descriptor : {ends_.listener, ends_.stream, ends_.kept_open})
    if (descriptor >= 0) close(descriptor);
  if (!ends_.path.empty()) unlink(ends_.path.c_str());
}

void StreamEnd::write(uint8_t byte) {
  std::unique_lock lock(mutex_);
  if (listening() && pending_.size() >= kMostPending) wait_for_room(lock);
  if (!listening() && pending_.size() >= 2 * kMostKept)
    pending_.erase(0, pending_.size() - kMostKept);
  pending_.push_back(static_cast<char>(byte));
  const bool first = pending_.size() == 1;
  if (first) {
    last_progress_ = Clock::now();
    send_at_ = last_progress_ + kDelay;
  }
  if (first || pending_.size() == kHurry) thread_.nudge();
}

void StreamEnd::wait_for_room(std::unique_lock<std::mutex>& lock) {
  while (listening() && pending_.size() >= kMostPending) {
    progress_.wait_for(lock, kPatience / 5);
    if (Clock::now() - last_progress_ > kPatience || (give_up_ && give_up_())) stuck_ = true;
  }
}

void StreamEnd::flush() {
  const std::scoped_lock lock(mutex_);
  if (pending_.empty() || send_at_ == Clock::time_point{}) return;
  send_at_ = {};
  thread_.nudge();
}

void StreamEnd::plan(PollPlan& plan) {
  if (ends_.stream < 0) return plan.watch(ends_.listener, POLLIN);
  short events = !input_ended_ && queue_.room() > 0 ? POLLIN : 0;
  if (!client_gone_) events |= plan_output(plan);
  // Of a client who has gone and whose last bytes find no room there is nothing to wait for.
  if (events != 0 || !client_gone_) plan.watch(ends_.stream, events);
}

short StreamEnd::plan_output(PollPlan& plan) {
  const std::scoped_lock lock(mutex_);
  if (pending_.empty()) return 0;
  const auto left = std::chrono::ceil<milliseconds>(send_at_ - Clock::now()).count();
  if (left <= 0 || pending_.size() >= kHurry) return POLLOUT;
  plan.milliseconds = static_cast<int>(left);
  return 0;
}

void StreamEnd::serve(const PollPlan& plan) {
  if (ends_.stream < 0) {
    if (plan.events(ends_.listener) != 0) accept_client();
    return;
  }
  const short events = plan.events(ends_.stream);
  if (events & (POLLHUP | POLLERR)) lose_client();
  if (events & (POLLIN | POLLHUP | POLLERR)) read_stream();
  if ((events & POLLOUT) && !client_gone_) write_stream();
  if (client_gone_ && input_ended_) hang_up();
}

void StreamEnd::accept_client() {
  ends_.stream = accept4(ends_.listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (ends_.stream < 0) return;
  input_ended_ = client_gone_ = false;
  const std::scoped_lock lock(mutex_);
  connected_ = true;
  stuck_ = false;
  last_progress_ = Clock::now();
}

/// A client may end his input and go on to listen.
void StreamEnd::read_stream() {
  std::array<uint8_t, 4096> bytes{};
  const ssize_t got = ::read(ends_.stream, bytes.data(), bytes.size());
  if (got > 0)
    queue_.put(std::span(bytes).first(static_cast<size_t>(got)));
  else if (got == 0 || (errno != EAGAIN && errno != EINTR))
    input_ended_ = ends_.listener >= 0;  // A pty's never does.
}

void StreamEnd::write_stream() {
  std::unique_lock lock(mutex_);
  const ssize_t sent = ::write(ends_.stream, pending_.data(), pending_.size());
  if (sent > 0) {
    pending_.erase(0, static_cast<size_t>(sent));
    stuck_ = false;
    last_progress_ = Clock::now();
    progress_.notify_all();
  } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    lock.unlock();
    lose_client();
  }
}

/// What he has sent is still to be read.
void StreamEnd::lose_client() {
  if (ends_.listener < 0) return;
  client_gone_ = true;
  const std::scoped_lock lock(mutex_);
  connected_ = false;
  progress_.notify_all();
}

void StreamEnd::hang_up() {
  close(ends_.stream);
  ends_.stream = -1;
}

Error cannot_listen(const std::string& path, const std::string& why, const char* remedy) {
  return {ExitStatus::kBadInput,
          "--serial: no socket can be made at '" + path + "': " + why + "; " + remedy};
}

/// Removes a socket that a program left behind; nothing else.
Result<void> make_free(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode))
    return cannot_listen(path, "a file is there", "give a path that is free");
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int failed =
      connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  if (probe >= 0) close(probe);
  if (failed != ECONNREFUSED)
    return cannot_listen(path, "a program listens there", "give a path that is free");
  unlink(path.c_str());
  return {};
}

}  // namespace

Result<std::unique_ptr<SerialEnd>> make_socket_end(const std::string& path,
                                                   const SerialHost& host) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return cannot_listen(path, "the path is too long",
                         "give one of at most 107 bytes, perhaps a relative one");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (auto freed = make_free(path, address); !freed.ok()) return freed.error();
  Ends ends;
  ends.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  // Who may write to a console is who started it.
  const bool listening =
      ends.listener >= 0 && fchmod(ends.listener, 0600) == 0 &&
      bind(ends.listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      listen(ends.listener, 1) == 0;
  if (!listening) {
    const std::string why = std::strerror(errno);
    if (ends.listener >= 0) close(ends.listener);
    return cannot_listen(path, why, "give a path where you may create one");
  }
  ends.path = path;
  return std::unique_ptr<SerialEnd>(std::make_unique<StreamEnd>(std::move(ends), host));
}

Result<std::unique_ptr<SerialEnd>> make_pty_end(const SerialHost& host) {
  Ends ends;
  std::array<char, 128> name{};
  ends.stream = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (ends.stream >= 0 && grantpt(ends.stream) == 0 && unlockpt(ends.stream) == 0 &&
      ptsname_r(ends.stream, name.data(), name.size()) == 0)
    ends.kept_open = open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  termios modes{};
  if (ends.kept_open < 0 || tcgetattr(ends.kept_open, &modes) != 0) {
    const Error error{ExitStatus::kHost, std::string("--serial: the host gives no pty: ") +
                                             std::strerror(errno) + "; use stdio or unix:PATH"};
    if (ends.stream >= 0) close(ends.stream);
    return error;
  }
  cfmakeraw(&modes);  // No echo: the guest would take its own output for input.
  tcsetattr(ends.kept_open, TCSANOW, &modes);
  std::fprintf(stderr, "trapline: the serial console is on %s\n", name.data());
  return std::unique_ptr<SerialEnd>(std::make_unique<StreamEnd>(std::move(ends), host));
}

}  // namespace trapline
