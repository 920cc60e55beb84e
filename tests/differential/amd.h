// Where AMD's processors do what the manual leaves open, or leaves no doubt about, in their own
// way. The engine's models are Intel's.
#pragma once

#include "tests/differential/case.h"

namespace trapline::differential {

bool host_is_amd();

/// Whether the case, which ended as `host` says, has something that cannot be compared.
bool amd_differs(const Case& test, const Outcome& host);
/// Adds what must not be compared of the others.
void mask_amd(const Case& test, const Outcome& host, FieldMask& mask);
/// A line for each of these ways.
void print_amd_ways();

}  // namespace trapline::differential
