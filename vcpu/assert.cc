#include "vcpu/assert.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace trapline {
namespace {
thread_local InstalledHook current_hook;
}  // namespace

InstalledHook set_assertion_hook(InstalledHook hook) {
  return std::exchange(current_hook, hook);
}

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "trapline: internal error: %s does not hold (%s:%d)\n", expression, file,
               line);
  const InstalledHook installed = set_assertion_hook({});  // A hook that asserts must not loop.
  if (installed.hook) installed.hook(installed.context, expression);
  std::abort();
}

}  // namespace trapline
