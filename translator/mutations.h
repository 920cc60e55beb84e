// Seeded miscompilations. For tests only: each is a mistake that somebody could make in one of the
// layers, and the tests show that their checks notice it. Nothing on the command line reaches them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace trapline {

enum class Mutation : uint8_t {
  kNone,
  kSavedFlagsLoseOverflow,  ///< Saving the flags forgets OF.
  kIncLosesCarry,           ///< INC and DEC do not restore the CF that they keep.
  kFlagsDieEarly,           ///< An instruction's own flag inputs do not count as needed.
  kPushMovesFirst,          ///< PUSH changes ESP before its store can fault.
  kSideExitLosesStack,      ///< A taken conditional branch forgets the pending change of ESP.
  kCrossingUnnoticed,       ///< A misaligned access is not looked at for a page end.
  kRunTooLong,              ///< REP MOVS and STOS take one element too many at a page end.
  kDirectionIgnored,        ///< String instructions always go up.
  kLimitOffByOne,           ///< A segment's limit is taken for one more than it is.
  kCodeWriteIgnored,        ///< Written code keeps its blocks.
  kLinksKept,               ///< A killed block stays linked from others.
  kStaleMapping,            ///< A changed mapping leaves the page's code where it was.
  kStaleWindow,             ///< A changed mapping leaves the stack window where it was.
  kWindowOfOtherStack,      ///< Another SS leaves the stack window where it was.
  kWindowOfOtherPages,      ///< So do other pages, where those of a stack were side by side.
  kStaleComparison,         ///< A comparison is repeated with a register that has changed since.
  kLoopTooLong,             ///< A loop's unchecked copy runs past the end of a page.
  kSharedAcrossPages,       ///< A shared look-up's accesses are not kept to one page.
  kSharedForWriting,        ///< What was looked up for reading is taken for writable.
  // Not miscompilations: what a crash bundle is written for.
  kBrokenInvariant,  ///< HLT breaks an assertion.
  kWildAccess,       ///< NOP's code reads where the host has nothing.
};

struct MutationName {
  Mutation mutation;
  std::string_view name;
};

/// All miscompilations, in the order of the enumeration.
std::span<const MutationName> mutation_names();

}  // namespace trapline
