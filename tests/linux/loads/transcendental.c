// The x87's transcendental functions: identities that hold to an ulp or two, and results to the
// last bit, which are the host processor's own. QEMU computes them with fewer bits.
#include "check.h"

static uint32_t hash = (uint32_t)kHashStart;
static void take(long double value) {
  hash = hash_bytes(hash, &value, 10);
}

int main(void) {
  int close = 1;
  for (int i = 1; i < 500; i++) {
    const long double x = i / 251.0L;
    long double sine = x, cosine = x, tangent, two = x, logarithm;
    __asm__("fsin" : "+t"(sine));
    __asm__("fcos" : "+t"(cosine));
    __asm__("fpatan" : "=t"(tangent) : "0"(cosine), "u"(sine) : "st(1)");
    __asm__("fyl2x" : "=t"(logarithm) : "0"(x), "u"(1.0L) : "st(1)");
    if (x <= 1) {
      __asm__("f2xm1" : "+t"(two));
      long double back;
      __asm__("fyl2xp1" : "=t"(back) : "0"(two < 0.29L ? two : 0.1L), "u"(1.0L) : "st(1)");
      if (two < 0.29L) close &= back - x < 1e-17L && x - back < 1e-17L;
    }
    const long double unit = sine * sine + cosine * cosine;
    close &= unit - 1 < 1e-18L && 1 - unit < 1e-18L;
    close &= tangent - x < 1e-17L && x - tangent < 1e-17L;
    long double power = logarithm, whole, rest;
    __asm__("frndint" : "=t"(whole) : "0"(power));
    rest = power - whole;
    __asm__("f2xm1" : "+t"(rest));
    rest += 1;
    __asm__("fscale" : "=t"(power) : "0"(rest), "u"(whole));
    take(sine), take(cosine), take(tangent), take(logarithm), take(two), take(power);
    close &= power - x < 1e-17L && x - power < 1e-17L;
  }
  CHECK("identities", close);
  report("results", hash);
  return finish();
}
