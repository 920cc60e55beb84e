// Output of the guest's character devices to descriptors of the host.
#pragma once

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

/// What becomes of line feeds.
enum class LineEnds : uint8_t {
  kAsTheyAre,
  /// A raw terminal does not go back to the first column by itself. Until the guest has shown that
  /// it sends carriage returns of its own, as to a serial terminal it must, it is helped.
  kForRawTerminal,
};

/// A device's output among that of others.
class HostBackend : public CharacterBackend {
 public:
  explicit HostBackend(HostOutput& output, LineEnds ends = LineEnds::kAsTheyAre)
      : output_(output), help_(ends == LineEnds::kForRawTerminal) {}

  void write(uint8_t byte) override;
  void flush() { output_.flush(); }

 private:
  HostOutput& output_;
  bool help_;
  uint8_t last_ = 0;
};

}  // namespace trapline
