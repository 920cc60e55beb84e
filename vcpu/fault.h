// A guest fault is a value. No C++ exception ever stands for one.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace trapline {

enum class Vector : uint8_t {
  kDivide = 0,
  kDebug = 1,
  kNmi = 2,
  kBreakpoint = 3,
  kOverflow = 4,
  kBound = 5,
  kInvalidOpcode = 6,
  kDeviceNotAvailable = 7,
  kDoubleFault = 8,
  kInvalidTss = 10,
  kSegmentNotPresent = 11,
  kStackFault = 12,
  kGeneralProtection = 13,
  kPageFault = 14,
  kX87 = 16,
  kAlignment = 17,
  kMachineCheck = 18,
  kSimd = 19,
};

/// Bits of a page fault's error code.
namespace page_fault {
inline constexpr uint32_t kPresent = 1;
inline constexpr uint32_t kWrite = 2;
inline constexpr uint32_t kUser = 4;
inline constexpr uint32_t kReserved = 8;
inline constexpr uint32_t kFetch = 16;
}  // namespace page_fault

struct Fault {
  Vector vector = Vector::kInvalidOpcode;
  bool has_error_code = false;
  uint16_t error_code = 0;
  uint32_t linear = 0;  ///< Page faults only: what CR2 becomes when the fault is delivered.

  constexpr bool operator==(const Fault&) const = default;

  static constexpr Fault plain(Vector vector) { return {vector, false, 0, 0}; }
  static constexpr Fault with_error(Vector vector, uint32_t error) {
    return {vector, true, static_cast<uint16_t>(error), 0};
  }
  static constexpr Fault general_protection(uint32_t error = 0) {
    return with_error(Vector::kGeneralProtection, error);
  }
  static constexpr Fault invalid_opcode() { return plain(Vector::kInvalidOpcode); }
  static constexpr Fault page(uint32_t linear, uint32_t error) {
    return {Vector::kPageFault, true, static_cast<uint16_t>(error), linear};
  }
};
static_assert(sizeof(Fault) == 8, "an OrFault of 64 bits fits into two registers");

/// Either a value or the guest fault that kept it from being made. Kept trivial, so that it
/// costs nothing on the way out of a helper that translated code calls.
template <typename T>
class [[nodiscard]] OrFault {
 public:
  constexpr OrFault(T value) : value_(value), ok_(true) {}       // NOLINT: implicit on purpose
  constexpr OrFault(Fault fault) : fault_(fault), ok_(false) {}  // NOLINT: implicit on purpose

  constexpr bool ok() const { return ok_; }
  constexpr const T& value() const { return value_; }
  constexpr const T& operator*() const { return value_; }
  constexpr const T* operator->() const { return &value_; }
  constexpr const Fault& fault() const { return fault_; }

 private:
  static_assert(std::is_trivially_copyable_v<T>, "a result crosses into emitted code's callers");
  union {
    T value_;
    Fault fault_;
  };
  bool ok_;
};

/// As wide as a register: a value that is stored in parts and loaded as a whole takes its time.
template <typename T>
requires(std::is_integral_v<T> && sizeof(T) < sizeof(uint64_t)) class [[nodiscard]] OrFault<T> {
 public:
  constexpr OrFault(T value) : value_(value), ok_(true) {}       // NOLINT: implicit on purpose
  constexpr OrFault(Fault fault) : fault_(fault), ok_(false) {}  // NOLINT: implicit on purpose

  constexpr bool ok() const { return ok_; }
  constexpr T value() const { return static_cast<T>(value_); }
  constexpr T operator*() const { return value(); }
  constexpr const Fault& fault() const { return fault_; }

 private:
  union {
    uint64_t value_;
    Fault fault_;
  };
  bool ok_;
};

template <>
class [[nodiscard]] OrFault<void> {
 public:
  constexpr OrFault() : none_(0), ok_(true) {}
  constexpr OrFault(Fault fault) : fault_(fault), ok_(false) {}  // NOLINT: implicit on purpose

  constexpr bool ok() const { return ok_; }
  constexpr const Fault& fault() const { return fault_; }

 private:
  union {
    uint64_t none_;
    Fault fault_;
  };
  bool ok_;
};

/// Leaves the enclosing function with the fault of a failed expression.
#define TRAPLINE_TRY(expression)                                            \
  do {                                                                      \
    if (auto trapline_try_result = (expression); !trapline_try_result.ok()) \
      return trapline_try_result.fault();                                   \
  } while (false)

/// Declares `name` as the expression's value, or leaves the enclosing function with its fault.
#define TRAPLINE_TRY_LET(name, expression)                   \
  auto name##_or_fault = (expression);                       \
  if (!name##_or_fault.ok()) return name##_or_fault.fault(); \
  const auto& name = *name##_or_fault

}  // namespace trapline
