// Where AMD's processors do what the manual leaves open, or leaves no doubt about, in their own
// way. The engine's models are Intel's.
#pragma once

#include "tests/differential/case.h"
#include "tests/differential/forms.h"

namespace trapline::differential {

/// Whether blocks are to be made without this instruction: what follows it would differ, too.
bool amd_blocks_lack(const Decoded& decoded, CodeSize size);
/// Whether the case, which ended as an outcome of the host's says, cannot be compared even with
/// fields left out.
bool amd_differs(const Case& test, const Outcome& host);
/// Adds the fields that must not be compared of the others.
void mask_amd(const Case& test, const Outcome& host, FieldMask& mask);
/// A line for each of these ways.
void print_amd_ways();

}  // namespace trapline::differential
