// What stands in memory where a BIOS would be, for guests that start in real mode: variables that
// guests read without asking, and interrupt vectors that all lead to a halt, so that a guest that
// calls the BIOS ends there, and can be told what it wanted.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/boot/boot_image.h"

namespace trapline {

/// They lie below 0x500 and in the part of memory that belongs to a BIOS.
std::vector<BootPiece> missing_bios_pieces();

/// What a guest that has halted wanted of the BIOS, as a sentence without its end; nothing if it
/// halted elsewhere.
std::optional<std::string> missing_bios_call(Machine& machine);

}  // namespace trapline
