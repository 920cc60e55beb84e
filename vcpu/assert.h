// Assertions that stay on in release builds. A broken invariant stops the program with a dump; a
// guest must never be able to cause one.
#pragma once

namespace trapline {

/// Called with what was broken before the program ends; a running engine installs one that writes
/// the VCPU and its code to a file.
using AssertionHook = void (*)(void* context, const char* what);
struct InstalledHook {
  AssertionHook hook = nullptr;
  void* context = nullptr;
};
/// For this thread. The one that was there before.
InstalledHook set_assertion_hook(InstalledHook hook);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace trapline

#define TRAPLINE_ASSERT(expression) \
  ((expression) ? (void)0 : ::trapline::assertion_failed(#expression, __FILE__, __LINE__))
