// Every optimisation is a named switch, so that a miscompilation can be bisected from the command
// line (--switch NAME=on|off) and the test matrix can turn each one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace trapline {

struct Switches {
  bool link_blocks = true;      ///< Direct branches inside a page jump from block to block.
  bool inline_indirect = true;  ///< Indirect branches look their target up in emitted code.
  bool stack_window = true;     ///< ESP-relative accesses share one check per block.
  bool stack_window_16 = true;  ///< On 16-bit stacks too.
  bool frame_window = true;     ///< EBP-relative ones too, where EBP looks like a frame pointer.
  bool joined_pages = true;     ///< Stacks across two pages that are no neighbours in RAM, too.
  bool share_lookups = true;    ///< Other accesses relative to one register share a look-up.
  bool lazy_flags = true;       ///< Flags are saved only where something clobbers live ones.
  bool recompute_flags = true;  ///< Comparisons that can be repeated have their flags not saved.
  bool flag_lookahead = true;   ///< Direct successors are decoded to see whether flags are dead.
  bool inline_memory = true;    ///< Accesses look the view up in emitted code.
  bool extended_blocks = true;  ///< Blocks go on after conditional branches.
  bool guest_encoding = true;   ///< Instructions are emitted in the guest's bytes where they fit.
  bool inline_system = true;    ///< VCPU state and what only legacy code has: in emitted code.
  bool follow_jumps = true;     ///< Blocks go on at the target of a direct jump in their page.
  bool page_loops = true;       ///< Loops run without checks while they stay in their pages.
  bool stores_by_call = true;   ///< A MOV to a page table or a device: by the call that finds it.
  bool cold_apart = true;       ///< What is rarely run of a block lies at the cache's other end.
  bool copy_blocks = true;      ///< Code is translated once, wherever address spaces have it.
  bool one_processor = true;   ///< Native code and the VCPU's thread run in turns on one processor,
  bool two_processors = true;  ///< or on two, where that pays and nobody else wants them.
  bool huge_pages = true;      ///< RAM and code that are in use lie in huge pages of the host's.
  bool shrx = true;            ///< BMI2 forms where the host has them.
  bool exact_flags = false;    ///< Flags at every fault exact, even where nothing can read them.
  bool single_instruction = false;  ///< One guest instruction per block.
};

struct SwitchName {
  std::string_view name;
  bool Switches::*member;
  std::string_view help;
};

/// All of them, in the order of the struct.
std::span<const SwitchName> switch_names();
/// nullptr when there is none of that name.
const SwitchName* find_switch(std::string_view name);

}  // namespace trapline
