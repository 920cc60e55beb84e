#include "vcpu/assert.h"

#include <cstdio>
#include <cstdlib>

namespace trapline {
namespace {
thread_local AssertionHook current_hook = nullptr;
thread_local void* current_context = nullptr;
}  // namespace

void set_assertion_hook(AssertionHook hook, void* context) {
  current_hook = hook;
  current_context = context;
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "trapline: internal error: %s does not hold (%s:%d)\n", expression, file,
               line);
  if (AssertionHook hook = current_hook) {
    current_hook = nullptr;  // A hook that asserts must not loop.
    hook(current_context);
  }
  std::abort();
}

}  // namespace trapline
