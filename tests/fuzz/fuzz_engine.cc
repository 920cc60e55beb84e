// The libFuzzer target.
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/fuzz_case.h"

/// Few, since the sanitizers make each of them dear.
constexpr uint64_t kInstructions = 500;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (const auto problem = trapline::fuzz::run_input({data, size}, kInstructions)) {
    std::fprintf(stderr, "%s\n", problem->c_str());
    std::abort();
  }
  return 0;
}
