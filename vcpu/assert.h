// Assertions that stay on in release builds. A broken invariant stops the program with a dump; a
// guest must never be able to cause one.
#pragma once

namespace trapline {

/// Called with what was broken before the program ends; the engine installs one that dumps the
/// VCPU and the current block.
using AssertionHook = void (*)(void* context);
void set_assertion_hook(AssertionHook hook, void* context);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace trapline

#define TRAPLINE_ASSERT(expression) \
  ((expression) ? (void)0 : ::trapline::assertion_failed(#expression, __FILE__, __LINE__))
