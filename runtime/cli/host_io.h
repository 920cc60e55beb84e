// The host's ends of the guest's character devices: file descriptors for output, standard input.
#pragma once

#include <termios.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/devices/device.h"
#include "vcpu/result.h"

namespace trapline {

/// Output to a descriptor, written at line ends, when the buffer is full, and when asked. A reader
/// that does not read makes it wait, but only until `give_up` says so; after that, and after an
/// error, output is dropped.
class HostOutput {
 public:
  /// `name` is for error sentences. `give_up` may be empty: never.
  HostOutput(int descriptor, std::string name, std::function<bool()> give_up);
  ~HostOutput();
  HostOutput(const HostOutput&) = delete;
  HostOutput& operator=(const HostOutput&) = delete;

  /// A file, created or emptied.
  static Result<std::unique_ptr<HostOutput>> create_file(const std::string& path,
                                                         std::function<bool()> give_up);

  void write(uint8_t byte);
  void flush();
  /// What went wrong with the descriptor, once it has.
  const std::optional<Error>& failure() const { return failure_; }

 private:
  bool wait_until_writable();
  void fail(int error_number);

  int descriptor_;
  bool owned_ = false;
  std::string name_;
  std::function<bool()> give_up_;
  std::string buffer_;
  std::optional<Error> failure_;
};

/// Standard input without waiting. A terminal gives single keys, without echo, while this lives;
/// its signal keys still work. In the background, where reading would stop the process, and when
/// standard input is closed, there is no input.
class HostInput {
 public:
  HostInput();
  ~HostInput();
  HostInput(const HostInput&) = delete;
  HostInput& operator=(const HostInput&) = delete;

  /// Asks the host at most once a millisecond.
  std::optional<uint8_t> read();

 private:
  void ask_host();

  std::array<uint8_t, 256> buffer_{};
  size_t next_ = 0;
  size_t end_ = 0;
  bool closed_ = false;
  bool terminal_ = false;
  bool changed_ = false;
  termios before_{};
  std::chrono::steady_clock::time_point asked_{};
};

/// Joins the two ends. `input` may be nullptr.
class HostBackend : public CharacterBackend {
 public:
  HostBackend(HostOutput& output, HostInput* input) : output_(output), input_(input) {}

  void write(uint8_t byte) override { output_.write(byte); }
  std::optional<uint8_t> read() override { return input_ ? input_->read() : std::nullopt; }

 private:
  HostOutput& output_;
  HostInput* input_;
};

}  // namespace trapline
