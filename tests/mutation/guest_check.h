// A guest program from tests/guests/ run through the embedding API, with the devices it needs.
#pragma once

#include <string>

#include "translator/mutations.h"

namespace trapline {

/// Whether the program of that name reports success. It may run for a few seconds.
bool guest_passes(const std::string& name, Mutation mutation);

}  // namespace trapline
