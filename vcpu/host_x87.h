// What the host's x87 does in its own way, found out by trying.
#pragma once

namespace trapline {

/// Whether FXSAVE stores the pointers (FIP, FDP and FOP) always. AMD's processors do it only while
/// an unmasked exception is pending, and so does a host's kernel that switches between threads:
/// there FNSTENV alone tells, and they may be gone at any time.
bool host_saves_x87_pointers();

/// Whether every instruction moves FOP. Many processors do it for unmasked exceptions only.
bool host_always_moves_x87_opcode();

}  // namespace trapline
