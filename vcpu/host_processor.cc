#include "vcpu/host_processor.h"

#include <cpuid.h>

namespace trapline {

bool host_is_amd() {
  static const bool amd = [] {
    unsigned highest = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(0, &highest, &b, &c, &d)) return false;
    constexpr unsigned kAuth = 0x68747541, kHygo = 0x6f677948;
    return b == kAuth || b == kHygo;
  }();
  return amd;
}

}  // namespace trapline
