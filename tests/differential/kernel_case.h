// A sequence of kernel-mode steps, and what running it gave.
//
// A step is a few instructions that belong together. When a step faults, the run goes on at the
// next one, so that one case shows several faults; a fault or breakpoint in user mode ends it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/differential/kernel_layout.h"
#include "tests/differential/random.h"
#include "vcpu/result.h"

namespace trapline::differential::kernel {

struct Step {
  uint32_t address = 0;
  const char* what = "";
  bool may_cross = false;  ///< Holds an access that may lie in two pages.
};

inline constexpr uint32_t kCaseBases = 8;
inline constexpr uint32_t kCodeBases = 4;

struct KernelCase {
  uint64_t number = 0;
  bool pae = false;
  bool code16 = false;  ///< In the machine of real_layout.h.
  /// 16-bit code: exceptions go through the vector table, to where the run goes on at the next
  /// step.
  bool delivers = false;
  std::array<uint16_t, 6> selectors{};  ///< 16-bit code, in SegmentName's order.
  /// 16-bit code: where the segments of the descriptor table begin.
  std::array<uint32_t, kCaseBases> bases{};
  std::array<uint32_t, kCodeBases> code_bases{};
  uint32_t stack_base = 0;
  std::array<uint32_t, 8> gpr{};
  uint32_t origin = 0;  ///< Of the code, and where it starts.
  std::vector<uint8_t> code;
  std::vector<uint8_t> user_code;
  std::vector<Step> steps;
  uint32_t end = 0;  ///< The INT3 that ends the sequence.

  /// Where to go on after a fault at that address: the next step, or the end.
  uint32_t next_step(uint32_t eip) const;
};

struct KernelEvent {
  uint8_t vector = 0;
  uint32_t eip = 0;  ///< 16-bit code: linear.
  uint32_t cr2 = 0;  ///< Page faults only.
  bool operator==(const KernelEvent&) const = default;
};

/// How a run ended.
enum class Ending : uint8_t { kEnd, kUser, kTooManyEvents, kTimeout, kLost };

struct KernelOutcome {
  Ending ending = Ending::kLost;
  std::vector<KernelEvent> events;
  std::array<uint32_t, 8> gpr{};
  uint32_t eip = 0;
  uint32_t eflags = 0;
  std::array<uint16_t, 6> selectors{};  ///< In SegmentName's order.
  uint16_t ldtr = 0, tr = 0;
  uint32_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;
  Memory memory{};
};

inline constexpr uint32_t kMaxEvents = 40;

class KernelBackend {
 public:
  virtual ~KernelBackend() = default;
  virtual std::string name() const = 0;
  virtual void run(const KernelCase& test, KernelOutcome& outcome) = 0;
};

/// A case depends on the seed and its number alone.
KernelCase make_kernel_case(uint64_t seed, uint64_t number);

/// What Unicorn does otherwise than the manual says; each row says which field is not compared.
struct Deviation {
  const char* field;
  const char* reason;
};
const std::vector<Deviation>& unicorn_deviations();

std::string kernel_differences(const KernelCase& test, const KernelOutcome& left,
                               const KernelOutcome& right);
std::string describe(const KernelCase& test);
std::string describe(const KernelOutcome& outcome);

}  // namespace trapline::differential::kernel
