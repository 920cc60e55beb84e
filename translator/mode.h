// What a translation depends on besides its bytes and address: the mode key. Two CPU states with
// the same key may share translations.
#pragma once

#include <cstdint>

#include "vcpu/state.h"

namespace trapline {

namespace mode {
inline constexpr uint32_t kCplMask = 3;
inline constexpr uint32_t kCode32 = 1u << 2;    ///< CS.D
inline constexpr uint32_t kStack32 = 1u << 3;   ///< SS.B
inline constexpr uint32_t kFlatCode = 1u << 4;  ///< CS base 0, limit 4 GiB.
inline constexpr uint32_t kProtected = 1u << 5;
inline constexpr uint32_t kV86 = 1u << 6;
inline constexpr uint32_t kSensitiveOk = 1u << 7;  ///< CPL <= IOPL: CLI, STI, IN, OUT are plain.
inline constexpr uint32_t kTrap = 1u << 8;         ///< TF
inline constexpr uint32_t kDown = 1u << 9;         ///< DF
inline constexpr uint32_t kX87Traps = 1u << 10;    ///< CR0.EM or TS: #NM.
inline constexpr uint32_t kWaitTraps = 1u << 11;   ///< CR0.MP and TS.
inline constexpr uint32_t kEmulated = 1u << 12;    ///< CR0.EM: MMX and SSE are #UD.
inline constexpr uint32_t kSseOff = 1u << 13;      ///< CR4.OSFXSR clear.
inline constexpr uint32_t kTaskSwitched = 1u << 14;
inline constexpr uint32_t kAlignment = 1u << 15;  ///< Alignment checks armed.
inline constexpr uint32_t kCounted = 1u << 16;    ///< Blocks count instructions against a budget.
inline constexpr uint32_t kDsShift = 17;          ///< SegmentClass, two bits each.
inline constexpr uint32_t kEsShift = 19;
inline constexpr uint32_t kSsShift = 21;
inline constexpr uint32_t kWatched = 1u << 23;  ///< A breakpoint for data is armed.
/// Every access goes through C++.
inline constexpr uint32_t kEachAccess = kAlignment | kWatched;
}  // namespace mode

struct ModeKey {
  uint32_t word = 0;
  uint32_t cs_base = 0;   ///< 0 when kFlatCode.
  uint32_t cs_limit = 0;  ///< 0xffffffff when kFlatCode.
  /// The engine's number for the guest's breakpoints for execution; 0: none.
  uint32_t breakpoints = 0;

  bool operator==(const ModeKey&) const = default;

  bool has(uint32_t bit) const { return word & bit; }
  uint8_t cpl() const { return word & mode::kCplMask; }
  bool code32() const { return has(mode::kCode32); }
  bool stack32() const { return has(mode::kStack32); }
  /// A stack of 64 KiB whose accesses need no limit check unless they wrap.
  bool narrow_stack() const { return !stack32() && segment_class(kSs) != SegmentClass::kChecked; }
  /// FS and GS are always checked: their classes change too often to be part of the key.
  SegmentClass segment_class(SegmentName name) const {
    switch (name) {
      case kDs:
        return static_cast<SegmentClass>(word >> mode::kDsShift & 3);
      case kEs:
        return static_cast<SegmentClass>(word >> mode::kEsShift & 3);
      case kSs:
        return static_cast<SegmentClass>(word >> mode::kSsShift & 3);
      default:
        return SegmentClass::kChecked;
    }
  }

  static ModeKey from(const CpuState& state, bool counted);
};

/// Ways to translate the same code. Only kNormal blocks are found by emitted look-ups.
enum class Variant : uint8_t {
  kNormal,
  kNoWindow,   ///< Stack accesses are like any other: where the stack window cannot be had.
  kNoFrame,    ///< Those relative to EBP are: it is no frame pointer, or its frame is elsewhere.
  kNoSharing,  ///< Each of the others has a look-up of its own: where they lie in two pages.
  kCareful,    ///< One instruction whose every access goes through C++: MMIO, traced frames, page
               ///< crossings, code being written.
  kSingle,     ///< One instruction, otherwise normal: budgets that run out, interrupt shadows.
};
inline constexpr int kVariantCount = 6;

}  // namespace trapline
