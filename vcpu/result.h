// Host and user errors: a sentence that says what is wrong and what to do, and the exit status the
// program ends with because of it. Guest faults are vcpu/fault.h; broken invariants vcpu/assert.h.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace trapline {

/// The documented exit statuses of the program (docs/exit-status.md).
enum class ExitStatus : int {
  kOk = 0,
  kUsage = 64,        ///< An unknown option or a nonsensical value.
  kBadInput = 65,     ///< A file that is missing, truncated or not what it should be.
  kHost = 71,         ///< The host refuses something we need (memory, a system call).
  kInternal = 70,     ///< A broken invariant of ours.
  kTripleFault = 80,  ///< The guest triple-faulted.
  kTimeout = 81,      ///< --timeout ran out.
  kSignalled = 82,    ///< Stopped from outside (SIGINT, SIGTERM) while the guest ran.
  kAsleep = 83,       ///< The guest halted to wait for an interrupt that nothing can send.
  kNoBios = 84,       ///< The guest called the BIOS, and there is none.
};

struct Error {
  ExitStatus status = ExitStatus::kInternal;
  std::string message;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : content_(std::move(error)) {}  // NOLINT: implicit on purpose

  bool ok() const { return std::holds_alternative<T>(content_); }
  T& value() { return std::get<T>(content_); }
  const T& value() const { return std::get<T>(content_); }
  T&& take() { return std::move(std::get<T>(content_)); }
  const Error& error() const { return std::get<Error>(content_); }

 private:
  std::variant<T, Error> content_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit on purpose

  bool ok() const { return ok_; }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

}  // namespace trapline
