// For programs that check the system they run on. Each prints only what is the same on every right
// system, so its whole output can be compared with a run on another one; what fails says so.
#ifndef TRAPLINE_TESTS_LINUX_CHECK_H
#define TRAPLINE_TESTS_LINUX_CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int checks_failed;
static int checks_passed;

static inline int checked(const char* name, const char* condition, int line, int holds) {
  if (!holds) printf("FAIL %s: %s (line %d, errno %d)\n", name, condition, line, errno);
  if (holds) checks_passed++;
  if (!holds) checks_failed++;
  return holds;
}

// A condition that must hold; the name tells the failing one.
#define CHECK(name, condition) ((void)checked(name, #condition, __LINE__, (condition) ? 1 : 0))

// The same for a condition without which there is no going on.
#define REQUIRE(name, condition)                                     \
  do {                                                               \
    if (!checked(name, #condition, __LINE__, (condition) ? 1 : 0)) { \
      fflush(stdout);                                                \
      _exit(1);                                                      \
    }                                                                \
  } while (0)

// A computed value, compared with what another system prints.
static inline void report(const char* name, uint32_t value) {
  printf("%s %08x\n", name, value);
}

static inline int finish(void) {
  printf("passed %d failed %d\n", checks_passed, checks_failed);
  fflush(stdout);
  return checks_failed != 0;
}

// A stream of numbers that depends on the seed only.
static inline uint32_t next_random(uint32_t* state) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

// FNV-1a, carried on from `hash`; begin with kHashStart.
enum { kHashStart = (int)0x811c9dc5 };
static inline uint32_t hash_bytes(uint32_t hash, const void* bytes, size_t count) {
  const unsigned char* next = bytes;
  while (count-- > 0) hash = (hash ^ *next++) * 16777619u;
  return hash;
}

#endif
