// Following references through 16 MiB in random order, one to a cache line: memory's latency.
#include "kernel.h"

enum { kNodes = 1 << 18, kSteps = 400000 };

static struct {
  uint32_t next;
  uint32_t rest[15];
} nodes[kNodes] __attribute__((aligned(4096)));

/// One cycle through all nodes (Sattolo's algorithm).
static void tie(void) {
  uint32_t seed = 11;
  for (uint32_t i = 0; i < kNodes; ++i) nodes[i].next = i;
  for (uint32_t i = kNodes - 1; i > 0; --i) {
    const uint32_t other = next_random(&seed) % i;
    const uint32_t kept = nodes[i].next;
    nodes[i].next = nodes[other].next;
    nodes[other].next = kept;
  }
}

uint32_t run_chase(void) {
  tie();
  uint32_t at = 0;
  uint32_t digest = 2166136261u;
  for (uint32_t i = 0; i < kSteps; ++i) {
    at = nodes[at].next;
    digest = mix(digest, at);
  }
  return digest;
}
