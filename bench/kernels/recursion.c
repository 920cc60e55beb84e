// Three recursive functions that do little but call: Fibonacci, Ackermann and Takeuchi.
#include "kernel.h"

__attribute__((noinline)) static uint32_t fibonacci(uint32_t n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__attribute__((noinline)) static uint32_t ackermann(uint32_t m, uint32_t n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

__attribute__((noinline)) static int takeuchi(int x, int y, int z) {
  if (y >= x) return z;
  return takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}

uint32_t run_recursion(void) {
  uint32_t digest = mix(2166136261u, fibonacci(32));
  digest = mix(digest, ackermann(3, 8));
  return mix(digest, (uint32_t)takeuchi(19, 12, 6));
}
