#include "translator/switches.h"

#include <algorithm>
#include <array>

namespace trapline {
namespace {
constexpr std::array kNames = {
    SwitchName{"link-blocks", &Switches::link_blocks, "jump from block to block inside a page"},
    SwitchName{"inline-indirect", &Switches::inline_indirect,
               "look indirect branch targets up in emitted code"},
    SwitchName{"stack-window", &Switches::stack_window,
               "one check per block for stack-relative accesses"},
    SwitchName{"stack-window-16", &Switches::stack_window_16, "the same for 16-bit stacks"},
    SwitchName{"frame-window", &Switches::frame_window,
               "one check per block for accesses relative to a frame pointer"},
    SwitchName{"joined-pages", &Switches::joined_pages,
               "the same where a stack lies across two pages of RAM"},
    SwitchName{"share-lookups", &Switches::share_lookups,
               "one look-up for accesses at constant distances from the same register"},
    SwitchName{"lazy-flags", &Switches::lazy_flags, "save flags only where live ones are lost"},
    SwitchName{"recompute-flags", &Switches::recompute_flags,
               "repeat a comparison in place of saving its flags"},
    SwitchName{"flag-lookahead", &Switches::flag_lookahead,
               "look into direct successors for flag liveness"},
    SwitchName{"inline-memory", &Switches::inline_memory,
               "look memory accesses up in emitted code"},
    SwitchName{"extended-blocks", &Switches::extended_blocks,
               "let blocks go on after conditional branches"},
    SwitchName{"guest-encoding", &Switches::guest_encoding,
               "emit instructions in the guest's own encoding where it fits"},
    SwitchName{"inline-system", &Switches::inline_system,
               "change flags, IF and known segments, and adjust decimals, in emitted code"},
    SwitchName{"follow-jumps", &Switches::follow_jumps,
               "let blocks go on at the target of a jump in their page"},
    SwitchName{"page-loops", &Switches::page_loops,
               "run loops without checks while their accesses stay in their pages"},
    SwitchName{"stores-by-call", &Switches::stores_by_call,
               "make a MOV to a page table or a device in the call that finds it"},
    SwitchName{"cold-apart", &Switches::cold_apart,
               "keep what is rarely run of a block away from the rest"},
    SwitchName{"copy-blocks", &Switches::copy_blocks,
               "copy or move the translation that the same code has at another address"},
    SwitchName{"one-processor", &Switches::one_processor,
               "run native code where the VCPU's thread runs"},
    SwitchName{"two-processors", &Switches::two_processors,
               "or on another processor, where that pays, and look on meanwhile"},
    SwitchName{"huge-pages", &Switches::huge_pages,
               "gather what is used of RAM and code in huge pages of the host's"},
    SwitchName{"shrx", &Switches::shrx, "use BMI2 shifts where the host has them"},
    SwitchName{"exact-flags", &Switches::exact_flags, "keep flags exact at every fault"},
    SwitchName{"single-instruction", &Switches::single_instruction,
               "translate one guest instruction per block"},
};
}  // namespace

std::span<const SwitchName> switch_names() {
  return kNames;
}

const SwitchName* find_switch(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name, &SwitchName::name);
  return found == kNames.end() ? nullptr : found;
}

}  // namespace trapline
