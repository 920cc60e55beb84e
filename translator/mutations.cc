#include "translator/mutations.h"

#include <array>

namespace trapline {

std::span<const MutationName> mutation_names() {
  static constexpr std::array kNames = {
      MutationName{Mutation::kSavedFlagsLoseOverflow, "saved_flags_lose_overflow"},
      MutationName{Mutation::kIncLosesCarry, "inc_loses_carry"},
      MutationName{Mutation::kFlagsDieEarly, "flags_die_early"},
      MutationName{Mutation::kPushMovesFirst, "push_moves_first"},
      MutationName{Mutation::kSideExitLosesStack, "side_exit_loses_stack"},
      MutationName{Mutation::kCrossingUnnoticed, "crossing_unnoticed"},
      MutationName{Mutation::kRunTooLong, "run_too_long"},
      MutationName{Mutation::kDirectionIgnored, "direction_ignored"},
      MutationName{Mutation::kLimitOffByOne, "limit_off_by_one"},
      MutationName{Mutation::kCodeWriteIgnored, "code_write_ignored"},
      MutationName{Mutation::kLinksKept, "links_kept"},
      MutationName{Mutation::kStaleMapping, "stale_mapping"},
      MutationName{Mutation::kStaleWindow, "stale_window"},
      MutationName{Mutation::kWindowOfOtherStack, "window_of_other_stack"},
      MutationName{Mutation::kWindowOfOtherPages, "window_of_other_pages"},
      MutationName{Mutation::kStaleComparison, "stale_comparison"},
      MutationName{Mutation::kLoopTooLong, "loop_too_long"},
      MutationName{Mutation::kSharedAcrossPages, "shared_across_pages"},
      MutationName{Mutation::kSharedForWriting, "shared_for_writing"},
  };
  return kNames;
}

}  // namespace trapline
