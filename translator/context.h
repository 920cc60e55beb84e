// The memory that the pinned context register points into: what emitted code keeps besides
// registers. The CPU state sits in the middle, hot fields of the engine before it, so that both are
// within a signed byte of the pointer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "translator/page_loop.h"
#include "vcpu/address.h"
#include "vcpu/state.h"

namespace trapline {

/// Where a block is entered from an indirect branch, by where the live flags are: the address of
/// code, below 2 GiB.
struct EntryPair {
  uint32_t host = 0;   ///< Flags in the host's EFLAGS.
  uint32_t saved = 0;  ///< Flags in the flags register.
};
static_assert(sizeof(EntryPair) == 8, "emitted code scales linear addresses by 8");

/// What an execution table holds for a page: biased, so that adding 8 times the whole linear
/// address gives the entry, and neither the offset nor flags have to be touched.
inline uint64_t entry_slot(const EntryPair* table, uint32_t page) {
  return reinterpret_cast<uint64_t>(table) - (uint64_t{page} << kPageShift) * sizeof(EntryPair);
}
inline const EntryPair& entry_at(uint64_t slot, uint32_t linear) {
  return *reinterpret_cast<const EntryPair*>(slot + uint64_t{linear} * sizeof(EntryPair));
}
inline constexpr int kWindowClasses = 4;
/// Stack accesses of a block that span at most this many bytes may share one guard.
inline constexpr std::array<uint32_t, kWindowClasses> kWindowSpans = {16, 64, 256, 1024};

struct HotFields {
  /// Linear page -> that page's entry table, as entry_slot() makes it; the miss table's where there
  /// is none.
  uint64_t exec_table = 0;
  uint32_t window_base = 0;
  /// Arithmetic flags as LAHF and SETO leave them in EAX: AH and AL.
  uint32_t saved_flags = 0;
  /// An access at esp is inside the window when esp - window_base <= the limit for the block's
  /// span. -1 when there is no window. Of a 16-bit stack, all this counts from SS's base.
  std::array<int64_t, kWindowClasses> window_limit{-1, -1, -1, -1};
  uint64_t window_delta = 0;  ///< Host minus guest address of the window.
  uint64_t tables = 0;        ///< The current view's read table, plus kPageShift.
  int64_t budget = 0;         ///< Guest instructions left, in counted blocks.
  uint64_t host_stack = 0;
  uint32_t exit_code = 0;
  uint8_t fpu_loaded = 0;  ///< The guest's FPU state is in the host's FPU.
  uint8_t attention = 0;   ///< Not 0: leave for the run loop at the next opportunity.
  /// A repeated CMPS or SCAS was left between two elements; cleared when it is through.
  uint8_t compare_unfinished = 0;
  /// An interrupt waits until the guest allows it: emitted code that would allow it asks C++.
  uint8_t interrupt_waits = 0;
  uint64_t scratch = 0;
  uint32_t host_mxcsr = 0x1f80;
  uint32_t reserved2{};
  uint64_t gate_address = 0;  ///< The address register while a gate is in C++.
  uint64_t gate_value = 0;    ///< The value register likewise.
  uint32_t fpu_operand = 0;   ///< FDP: the offset of the last x87 memory operand.
  uint32_t reserved3{};
};
static_assert(sizeof(HotFields) == 128, "the context register points just behind these");

/// What loading a selector at a CPL made of a descriptor in the GDT or LDT. Good for another load
/// as long as the descriptor is the same, wherever it lies.
struct alignas(64) LoadedSegment {
  static constexpr uint32_t kNone = ~0u;
  uint32_t key = kNone;
  uint32_t reserved = 0;
  uint64_t descriptor = 0;  ///< Not for null selectors.
  Segment segment;
};
static_assert(sizeof(LoadedSegment) == 64, "emitted code scales selectors");
constexpr uint32_t loaded_segment_key(uint16_t selector, uint32_t cpl) {
  return selector | cpl << 16;
}
inline constexpr uint32_t kLoadedSegments = 128;
/// The table's bit is part of it.
constexpr uint32_t loaded_segment_slot(uint16_t selector) {
  return selector / 4u % kLoadedSegments;
}

/// Code that a load of CS with a selector leads to where the base is 16 times the selector: the
/// execution table of its mode and view. Good for code of the same mode word in the same view.
struct KnownCode {
  static constexpr uint32_t kNoSelector = ~0u;
  uint32_t selector = kNoSelector;
  uint32_t word = 0;
  uint32_t attributes = 0;  ///< What CS must have, and keeps.
  uint32_t reserved = 0;
  uint64_t tables = 0;  ///< HotFields::tables.
  uint64_t exec_table = 0;
};
static_assert(sizeof(KnownCode) == 32, "emitted code scales selectors");
inline constexpr uint32_t kKnownCodes = 64;
constexpr uint32_t known_code_slot(uint32_t selector) {
  return (selector ^ selector >> 4 ^ selector >> 10) % kKnownCodes;
}

/// Where a load of DS or ES that changes the segment's class leads: from the execution table of the
/// mode before it to that of the mode behind it.
struct KnownClass {
  uint64_t from = 0;
  uint64_t to = 0;
};
static_assert(sizeof(KnownClass) == 16, "emitted code scales classes");
inline constexpr uint32_t kSegmentClasses = 4;
inline constexpr uint32_t kKnownClasses = 32 * kSegmentClasses;
/// Of the first class; the others follow.
constexpr uint32_t known_class_slot(uint32_t mode_word, uint32_t segment) {
  const uint32_t number = mode_word * 0x9e3779b1u >> 28 << 1 | (segment == kEs ? 1 : 0);
  return number * kSegmentClasses;
}

/// What the unchecked copy of a loop needs (page_loop.h).
struct LoopFields {
  /// The copy goes on while its moving registers are not beyond these. A kick puts them where every
  /// value is beyond.
  std::array<int64_t, kLoopLimits> up_limit{};
  std::array<int64_t, kLoopLimits> down_limit{};
  /// By stream: what is added to the registers of its operand to get a host address.
  std::array<uint64_t, kLoopStreams> base{};

  void end_loops() {
    up_limit.fill(-1);
    down_limit.fill(INT64_MAX);
  }
};

struct alignas(64) Context {
  HotFields hot;
  CpuState cpu;
  /// The entry table of pages that have none: every entry leads to the look-up in C++.
  alignas(64) std::array<EntryPair, kPageSize> miss_table{};
  std::array<LoadedSegment, kLoadedSegments> loaded_segments;
  /// As HotFields::tables, but of the supervisor's view of the same memory; 0 when it has none yet.
  uint64_t supervisor_tables = 0;
  std::array<KnownCode, kKnownCodes> known_codes;
  std::array<KnownClass, kKnownClasses> known_classes;
  /// FNSTENV's, where the host's FXSAVE may leave the pointers out.
  std::array<uint32_t, 7> fpu_environment{};
  uint32_t reserved{};
  void* engine = nullptr;
  uint64_t gate_from = 0;  ///< Where the block is that called the gate in C++; 0 between blocks.
  LoopFields loop;
};
static_assert(offsetof(Context, cpu) == sizeof(HotFields), "one pointer reaches both");

/// Offsets from the context register.
inline constexpr int32_t kContextBias = sizeof(HotFields);
#define TRAPLINE_CONTEXT_OFFSET(field) \
  (static_cast<int32_t>(offsetof(::trapline::Context, field)) - ::trapline::kContextBias)

}  // namespace trapline
