// The compute kernels: freestanding C, compiled once to 32-bit object code that is linked both
// into a Multiboot guest and into a native 32-bit program. Each kernel starts from the same data at
// every call and returns a checksum of what it computed.
#pragma once

#include <stdint.h>

struct Kernel {
  const char* name;  ///< "family" or "family-variant".
  uint32_t (*run)(void);
  uint32_t checksum;  ///< What run() returns on a processor that works.
};

extern const struct Kernel kKernels[];
extern const unsigned kKernelCount;

uint32_t run_quicksort(void);
uint32_t run_sieve(void);
uint32_t run_sha256(void);
uint32_t run_matrix_x87(void);
uint32_t run_matrix_sse2(void);
uint32_t run_recursion(void);
uint32_t run_interpreter(void);
uint32_t run_memcpy_rep(void);
uint32_t run_memcpy_loop(void);
uint32_t run_chase(void);
uint32_t run_accounts(void);

/// A linear congruential step: cheap, and the same everywhere.
static inline uint32_t next_random(uint32_t* seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 8;
}

static inline uint32_t mix(uint32_t digest, uint32_t value) {
  return (digest ^ value) * 16777619u;
}
