// A product of two matrices of doubles. Compiled twice: for the x87, and for SSE2. The entries are
// small multiples of 1/16, so that every sum is exact and both give the same checksum.
#include "kernel.h"

enum { kOrder = 224 };

static double left[kOrder][kOrder];
static double right[kOrder][kOrder];
static double product[kOrder][kOrder];

static void fill(void) {
  uint32_t seed = 4;
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      left[i][j] = (double)(int)(next_random(&seed) % 512) / 16;
      right[i][j] = (double)((int)(next_random(&seed) % 512) - 256) / 16;
    }
  }
}

static void multiply(void) {
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      double sum = 0;
      for (int k = 0; k < kOrder; ++k) sum += left[i][k] * right[k][j];
      product[i][j] = sum;
    }
  }
}

uint32_t KERNEL_NAME(void) {
  fill();
  multiply();
  uint32_t digest = 2166136261u;
  for (int i = 0; i < kOrder; ++i) digest = mix(digest, (uint32_t)(int)product[i][kOrder - 1 - i]);
  return digest;
}
