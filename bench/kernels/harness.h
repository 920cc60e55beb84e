// What the guest and the native program have in common: the measuring loop and the lines that they
// print, one per repetition:
//   kernel=sieve mode=ring3 rep=0 cycles=81234567 checksum=0x1b2c3d4e ok
#pragma once

#include <stdint.h>

#include "text.h"

/// One measured repetition. `kernel` is an index into kKernels.
struct Sample {
  uint32_t kernel;
  uint32_t repetition;
  uint64_t cycles;
  uint32_t checksum;
};

typedef void (*Report)(const struct Sample*);

struct Options {
  const char* text;  ///< The whole string; "kernels=" chooses among the kernels.
  uint32_t repetitions;
};

struct Options parse_options(const char* text);

/// Runs every kernel that the options allow; each repetition is reported after it was timed.
void measure_kernels(const struct Options* options, Report report);

/// Formats a sample's line and returns its length. A wrong checksum makes it end in "WRONG".
uint32_t format_sample(char line[kLineBytes], const struct Sample* sample, const char* mode);
