// Copying: blocks of many sizes and alignments, by REP MOVS and by a loop over words.
#include "kernel.h"

enum { kBytes = 1 << 19, kRepRounds = 1000, kLoopRounds = 260 };

static uint8_t source[kBytes + 64];
static uint8_t target[kBytes + 64];

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

/// One round copies the whole buffer in pieces of 64 bytes to 32 KiB.
static uint32_t copy_pieces(Copy copy, int rounds) {
  uint32_t seed = 5;
  for (uint32_t i = 0; i < sizeof source; ++i) source[i] = (uint8_t)next_random(&seed);
  for (int round = 0; round < rounds; ++round) {
    uint32_t at = 0;
    while (at < kBytes) {
      uint32_t piece = 64u << (next_random(&seed) % 10);
      piece += next_random(&seed) % 16;
      if (piece > kBytes - at) piece = kBytes - at;
      copy(target + at, source + at + round % 8, piece);
      at += piece;
    }
  }
  uint32_t digest = 2166136261u;
  for (uint32_t i = 0; i < kBytes; i += 61) digest = mix(digest, target[i]);
  return digest;
}

uint32_t run_memcpy_rep(void) {
  return copy_pieces(copy_rep, kRepRounds);
}

uint32_t run_memcpy_loop(void) {
  return copy_pieces(copy_loop, kLoopRounds);
}
