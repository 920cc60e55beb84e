// Copying: blocks of many sizes, by REP MOVS and by a loop over words. Targets are aligned, sources
// are in three rounds of four.
#include "kernel.h"

enum { kBytes = 1 << 19, kRepRounds = 1000, kLoopRounds = 260 };

// Half a page apart, as addresses within a page go: a processor may take a load for one of a store
// that is a multiple of 4 KiB away, and then waits for it.
static struct {
  uint8_t source[kBytes + 2048];
  uint8_t target[kBytes];
} buffers __attribute__((aligned(4096)));

typedef void (*Copy)(uint8_t* to, const uint8_t* from, uint32_t bytes);

static void copy_rep(uint8_t* to, const uint8_t* from, uint32_t bytes) {
  uint32_t words = bytes / 4;
  __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
  uint32_t rest = bytes % 4;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

static void copy_loop(uint8_t* to, const uint8_t* from, uint32_t bytes) {
  uint32_t at = 0;
  for (; at + 4 <= bytes; at += 4) {
    // An unaligned word, as the processor allows.
    typedef uint32_t Word __attribute__((aligned(1), may_alias));
    *(Word*)(to + at) = *(const Word*)(from + at);
  }
  for (; at < bytes; ++at) to[at] = from[at];
}

/// One round covers the whole buffer with pieces of 64 bytes to 32 KiB, and up to 15 more.
static uint32_t copy_pieces(Copy copy, int rounds) {
  uint32_t seed = 5;
  for (uint32_t i = 0; i < sizeof buffers.source; ++i)
    buffers.source[i] = (uint8_t)next_random(&seed);
  for (uint32_t i = 0; i < sizeof buffers.target; ++i) buffers.target[i] = 0;
  for (int round = 0; round < rounds; ++round) {
    const uint32_t misaligned = round % 4 == 3 ? 1 + (uint32_t)round / 4 % 3 : 0;
    uint32_t at = 0;
    while (at < kBytes) {
      uint32_t piece = 64u << (next_random(&seed) % 10);
      piece += next_random(&seed) % 16;
      if (piece > kBytes - at) piece = kBytes - at;
      copy(buffers.target + at, buffers.source + at + misaligned, piece);
      at += (piece + 15) & ~15u;
    }
  }
  uint32_t digest = 2166136261u;
  for (uint32_t i = 0; i < kBytes; i += 61) digest = mix(digest, buffers.target[i]);
  return digest;
}

uint32_t run_memcpy_rep(void) {
  return copy_pieces(copy_rep, kRepRounds);
}

uint32_t run_memcpy_loop(void) {
  return copy_pieces(copy_loop, kLoopRounds);
}
