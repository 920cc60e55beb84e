// What the interpreter knows to execute.
#pragma once

#include <cstdint>

namespace trapline {

/// Whether interpret() executes every form of that ZydisMnemonic (and never says kNotHandled).
bool interpreter_handles(uint16_t zydis_mnemonic);

}  // namespace trapline
