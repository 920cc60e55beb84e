#include "runtime/cli/host_io.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace trapline {
namespace {

// A pipe that is writable at all takes this much without waiting (PIPE_BUF).
constexpr size_t kBufferSize = 4096;
constexpr int kPatienceMilliseconds = 50;

}  // namespace

HostOutput::HostOutput(int descriptor, std::string name, std::function<bool()> give_up)
    : descriptor_(descriptor), name_(std::move(name)), give_up_(std::move(give_up)) {
  buffer_.reserve(kBufferSize);
}

HostOutput::~HostOutput() {
  flush();
  if (owned_) close(descriptor_);
}

Result<std::unique_ptr<HostOutput>> HostOutput::create_file(const std::string& path,
                                                            std::function<bool()> give_up) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0)
    return Error{ExitStatus::kBadInput, "'" + path +
                                            "' cannot be written: " + std::strerror(errno) +
                                            "; give a path where you may create a file"};
  auto output = std::make_unique<HostOutput>(descriptor, "'" + path + "'", std::move(give_up));
  output->owned_ = true;
  return output;
}

void HostOutput::write(uint8_t byte) {
  buffer_.push_back(static_cast<char>(byte));
  if (byte == '\n' || buffer_.size() >= kBufferSize) flush();
}

void HostOutput::flush() {
  for (size_t done = 0; done < buffer_.size() && !failure_;) {
    if (!wait_until_writable()) break;
    const ssize_t written = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written >= 0)
      done += static_cast<size_t>(written);
    else if (errno != EINTR && errno != EAGAIN)
      fail(errno);
  }
  buffer_.clear();
}

/// False when it is time to give up.
bool HostOutput::wait_until_writable() {
  pollfd question{descriptor_, POLLOUT, 0};
  while (poll(&question, 1, kPatienceMilliseconds) <= 0)
    if (give_up_ && give_up_()) return false;
  return true;  // Or in error, which the write will tell.
}

void HostOutput::fail(int error_number) {
  failure_ = Error{ExitStatus::kHost, name_ + " cannot be written: " + std::strerror(error_number)};
}

void HostBackend::write(uint8_t byte) {
  if (help_ && byte == '\n') {
    if (last_ == '\r')
      help_ = false;
    else
      output_.write('\r');
  }
  last_ = byte;
  output_.write(byte);
}

}  // namespace trapline
