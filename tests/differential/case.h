// One case, what running it gave, and the comparison. Plain data: cases cross into another process.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "tests/differential/layout.h"
#include "translator/decoder.h"
#include "vcpu/state.h"

namespace trapline::differential {

/// What a user program can see of the CPU.
struct alignas(16) CpuImage {
  std::array<uint32_t, 8> gpr{};
  uint32_t eip = 0;
  uint32_t eflags = 0;
  std::array<uint32_t, 2> reserved{};
  FpuImage fpu;
};
static_assert(sizeof(CpuImage) == 48 + 512, "the native runner's assembly knows the offsets");

/// Bytes that the window holds when the case starts, over what the common image has there.
struct Patch {
  uint32_t address = 0;
  uint16_t length = 0;
  uint16_t offset = 0;  ///< Into Case::patch_bytes.
};

inline constexpr uint32_t kMaxCode = 640;
inline constexpr uint32_t kMaxPatches = 48;
inline constexpr uint32_t kMaxPatchBytes = 1600;
inline constexpr uint32_t kMaxInstructions = 96;
/// Case::form of a block.
inline constexpr uint32_t kNoForm = ~0u;
inline constexpr uint32_t kExits = 2;
/// Room for what a backend puts at an exit to get control back. Filled with INT3 otherwise.
inline constexpr uint32_t kExitBytes = 8;

struct Case {
  CpuImage initial;
  uint64_t number = 0;
  CodeSize size = CodeSize::k32;  ///< k16: runs in the 16-bit segments.
  uint32_t form = 0;              ///< Index into the forms, for single instructions.
  uint16_t code_length = 0;
  uint16_t patch_count = 0;
  uint16_t patch_used = 0;
  uint16_t instruction_count = 0;
  /// Offsets into `code` of the exits; reaching one ends the case.
  std::array<uint16_t, kExits> exits{};
  /// Where instructions start: for the listing and the minimiser.
  std::array<uint16_t, kMaxInstructions> instructions{};
  std::array<uint8_t, kMaxCode> code{};
  std::array<Patch, kMaxPatches> patches{};
  std::array<uint8_t, kMaxPatchBytes> patch_bytes{};

  /// Adds a patch; ignored when the window does not hold all of it or there is no room left.
  void patch(uint32_t address, std::span<const uint8_t> bytes);
  uint32_t exit_address(uint32_t index) const { return initial.eip + exits[index]; }
};
static_assert(std::is_trivially_copyable_v<Case>, "it is copied into shared memory");

enum class Event : uint8_t {
  kEnd,        ///< One of the exits was reached.
  kException,  ///< `vector` was raised.
  kTimeout,    ///< It ran for far too long.
  kLost,       ///< The backend could not run it; nothing to compare.
};

inline constexpr uint32_t kMaxChanges = 96;

struct Change {
  uint32_t offset = 0;  ///< Into the WindowImage, a multiple of 8.
  uint64_t value = 0;
};

struct Outcome {
  CpuImage final;
  Event event = Event::kLost;
  uint8_t vector = 0;
  uint32_t error_code = 0;
  uint32_t cr2 = 0;  ///< Page faults only.
  uint32_t change_count = 0;
  uint64_t change_hash = 0;  ///< Over all changes, also those that `changes` has no room for.
  std::array<Change, kMaxChanges> changes{};
};
static_assert(std::is_trivially_copyable_v<Outcome>, "it is copied out of shared memory");

/// Where a backend keeps each page of the window.
using WindowPages = std::array<uint8_t*, kWindowPages>;

/// Puts a case's patches into a window that holds the common image.
void apply_patches(const Case& test, const WindowPages& window);
/// The code pages' content: INT3 wherever the case's code is not, so that a wild branch, or a read
/// through CS, finds the same on every backend, whatever ran before. Code is cut off at their end.
void fill_code_pages(const Case& test, std::span<uint8_t, kCodeBytes> pages);
/// Records how the window differs from the common image and makes them equal again.
void collect_changes(const WindowPages& window, const WindowImage& common, Outcome& outcome);
/// Clears what no backend has to reproduce: reserved fields of the FXSAVE image, and FCS and FDS,
/// which a 64-bit kernel loses when it switches tasks and which newer processors do not store.
void normalise(Outcome& outcome);

/// What two outcomes are allowed to differ in. What is set is not compared.
struct FieldMask {
  uint32_t eflags = 0;        ///< Bits.
  uint8_t gprs = 0;           ///< A bit for each, in encoding order.
  bool fpu_pointers = false;  ///< FIP, FDP and FOP.
  bool cr2_offset = false;    ///< Which byte of the page.
  bool event = false;         ///< Also whether there is a fault at all.
  bool which_fault = false;   ///< Vector, error code and CR2, where both sides fault.
  bool memory = false;
  bool eip = false;
  bool x87_top = false;  ///< TOP, with it which register is st(0), and tags.
};

/// Empty when they agree; else one line for each field that differs.
std::string differences(const Outcome& left, const Outcome& right, const FieldMask& mask);

}  // namespace trapline::differential
