// Small guests for mistakes that the guest programs do not provoke by themselves.
#pragma once

#include "translator/mutations.h"

namespace trapline {

/// A loop calls a function in its own page and changes it each time.
bool patched_function_passes(Mutation mutation);
/// The stack's page is given another frame between two pushes.
bool moved_stack_passes(Mutation mutation);

}  // namespace trapline
