// The sieve of Eratosthenes over odd numbers, one byte each.
#include "kernel.h"

enum { kOddNumbers = 1 << 19, kRounds = 14 };

static uint8_t composite[kOddNumbers];

static uint32_t sieve(void) {
  for (uint32_t i = 0; i < kOddNumbers; ++i) composite[i] = 0;
  uint32_t digest = 2166136261u;
  for (uint32_t i = 1; i < kOddNumbers; ++i) {
    if (composite[i]) continue;
    const uint32_t prime = 2 * i + 1;
    digest = mix(digest, prime);
    if (prime > 1024) continue;
    for (uint32_t j = prime * prime / 2; j < kOddNumbers; j += prime) composite[j] = 1;
  }
  return digest;
}

uint32_t run_sieve(void) {
  uint32_t digest = 0;
  for (int i = 0; i < kRounds; ++i) digest += sieve();
  return digest;
}
