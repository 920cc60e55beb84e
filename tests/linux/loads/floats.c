// x87 and SSE arithmetic: results to the last bit, rounding, exceptions, and state that belongs to
// each process while several compute at once.
#include <float.h>
#include <sched.h>
#include <sys/wait.h>
#include <xmmintrin.h>

#include "check.h"

static uint32_t hash = (uint32_t)kHashStart;
static void take(const void* value, size_t size) {
  hash = hash_bytes(hash, value, size);
}

static void set_control(uint16_t word) {
  __asm__ volatile("fldcw %0" ::"m"(word));
}
static uint16_t status_word(void) {
  uint16_t word;
  __asm__ volatile("fnstsw %0" : "=a"(word));
  return word;
}

static double random_double(uint32_t* state) {
  const double big = next_random(state), small = (double)(next_random(state) | 1);
  return next_random(state) & 1 ? big / small : -big / small;
}

static void arithmetic(void) {
  uint32_t state = 3;
  hash = (uint32_t)kHashStart;
  for (int i = 0; i < 20000; i++) {
    volatile double a = random_double(&state), b = random_double(&state);
    const double results[] = {a + b, a - b, a * b, a / b};
    take(results, sizeof results);
    const long double wide = (long double)a * b + (long double)a / b;
    take(&wide, 10);
    const float narrow = (float)a;
    take(&narrow, sizeof narrow);
    const int64_t whole = (int64_t)(a * 1000);
    take(&whole, sizeof whole);
    long double root = a < 0 ? -a : a;
    __asm__("fsqrt" : "+t"(root));
    take(&root, 10);
  }
  report("x87 arithmetic", hash);
}

// Control words: round to nearest, down, up, to zero, with 24, 53 and 64 bits.
static void rounding(void) {
  hash = (uint32_t)kHashStart;
  for (unsigned mode = 0; mode < 4; mode++) {
    const uint16_t precisions[] = {0, 2, 3};
    for (int p = 0; p < 3; p++) {
      set_control((uint16_t)(0x7f | precisions[p] << 8 | mode << 10));
      uint32_t state = 8;
      for (int i = 0; i < 500; i++) {
        volatile long double a = random_double(&state), b = random_double(&state);
        const long double results[] = {a / b, a * b};
        take(&results[0], 10), take(&results[1], 10);
        long double whole = a;
        __asm__("frndint" : "+t"(whole));
        take(&whole, 10);
        int32_t stored;
        __asm__ volatile("fldt %1; fistpl %0" : "=m"(stored) : "m"(a));
        take(&stored, sizeof stored);
      }
    }
  }
  set_control(0x37f);
  report("x87 rounding", hash);
}

static void special_values(void) {
  hash = (uint32_t)kHashStart;
  const long double values[] = {0.0L,
                                -0.0L,
                                1.0L,
                                -1.0L,
                                __builtin_infl(),
                                -__builtin_infl(),
                                __builtin_nanl(""),
                                LDBL_MIN,
                                LDBL_MIN / 4,
                                LDBL_MAX,
                                1e-4940L,
                                0.5L};
  const int count = sizeof values / sizeof *values;
  for (int i = 0; i < count; i++) {
    for (int j = 0; j < count; j++) {
      volatile long double a = values[i], b = values[j];
      __asm__ volatile("fnclex");
      const long double results[] = {a + b, a - b, a * b, a / b};
      const uint16_t flags = status_word() & 0x3d;  // Not "denormal", which emulators leave out.
      for (int k = 0; k < 4; k++) take(&results[k], 10);
      take(&flags, sizeof flags);
      const int order = (a < b) | (a == b) << 1 | (a > b) << 2;
      take(&order, sizeof order);
    }
    uint16_t classes;
    __asm__ volatile("fldt %1; fxam; fnstsw %0; fstp %%st(0)" : "=a"(classes) : "m"(values[i]));
    classes &= 0x4700;
    take(&classes, sizeof classes);
  }
  __asm__ volatile("fnclex");
  report("x87 special values", hash);
}

static void environment(void) {
  struct {
    uint16_t words[14];
    unsigned char registers[80];
  } image;
  __asm__ volatile("fld1; fldz; fldpi; fnsave %0" : "=m"(image));
  hash = (uint32_t)kHashStart;
  take(&image.words[0], 2), take(&image.words[4], 2), take(image.registers, 30);
  report("saved environment", hash);
  __asm__ volatile("frstor %0; fstp %%st(0); fstp %%st(0); fstp %%st(0)" ::"m"(image));
  CHECK("restored", (status_word() & 0x3800) == 0);
  long double ten = 0;
  unsigned char decimal[10];
  const int64_t whole = -123456789012345678;
  __asm__ volatile("fildll %2; fld %%st(0); fbstp %0; fstpt %1"
                   : "=m"(decimal), "=m"(ten)
                   : "m"(whole));
  hash = (uint32_t)kHashStart;
  take(decimal, sizeof decimal), take(&ten, 10);
  report("decimal", hash);
}

static void vectors(void) {
  uint32_t state = 77;
  hash = (uint32_t)kHashStart;
  const unsigned control = _mm_getcsr();
  for (unsigned mode = 0; mode < 4; mode++) {
    _mm_setcsr(0x1f80 | mode << 13 | (mode == 3 ? 0x8000 : 0));
    for (int i = 0; i < 5000; i++) {
      float a[4], b[4];
      for (int k = 0; k < 4; k++)
        a[k] = (float)random_double(&state), b[k] = (float)random_double(&state);
      if (i % 50 == 0) a[1] = 1e-40f, b[2] = 1e30f, a[2] = 1e30f;
      const __m128 x = _mm_loadu_ps(a), y = _mm_loadu_ps(b);
      const __m128 results[] = {_mm_add_ps(x, y),      _mm_mul_ps(x, y),
                                _mm_div_ps(x, y),      _mm_sub_ss(x, y),
                                _mm_min_ps(x, y),      _mm_max_ps(x, y),
                                _mm_cmplt_ps(x, y),    _mm_shuffle_ps(x, y, 0x1b),
                                _mm_unpackhi_ps(x, y), _mm_sqrt_ps(_mm_mul_ps(x, x))};
      take(results, sizeof results);
      const int whole[] = {_mm_cvtss_si32(x), _mm_cvttss_si32(y), _mm_movemask_ps(x),
                           _mm_comilt_ss(x, y)};
      take(whole, sizeof whole);
    }
    const unsigned flags = _mm_getcsr() & 0x3d;
    take(&flags, sizeof flags);
  }
  _mm_setcsr(control);
  report("sse", hash);
}

static void mmx(void) {
  uint32_t state = 78;
  hash = (uint32_t)kHashStart;
  for (int i = 0; i < 2000; i++) {
    uint64_t a = next_random(&state) * 0x100000001ull ^ next_random(&state),
             b = a * 0x9e3779b97f4a7c15ull;
    uint64_t out[3];
    __asm__ volatile(
        "movq %3, %%mm0; movq %4, %%mm1; movq %%mm0, %%mm2; movq %%mm0, %%mm3\n"
        "paddsw %%mm1, %%mm0; pmaddwd %%mm1, %%mm2; punpcklbw %%mm1, %%mm3\n"
        "movq %%mm0, %0; movq %%mm2, %1; movq %%mm3, %2; emms"
        : "=m"(out[0]), "=m"(out[1]), "=m"(out[2])
        : "m"(a), "m"(b)
        : "mm0", "mm1", "mm2", "mm3", "st", "st(1)", "st(2)", "st(3)");
    take(out, sizeof out);
  }
  report("mmx", hash);
}

// Processes with different control words and registers take turns in the middle of their work.
static void several_at_once(void) {
  enum { kProcesses = 6 };
  int ends[2];
  REQUIRE("pipe", pipe(ends) == 0);
  for (unsigned self = 0; self < kProcesses; self++) {
    if (fork() != 0) continue;
    set_control((uint16_t)(0x7f | 0x300 | (self % 4) << 10));
    _mm_setcsr(0x1f80 | (self % 4) << 13);
    long double sum = self;
    __m128 lanes = _mm_set1_ps((float)self + 0.1f);
    for (int i = 1; i < 3000; i++) {
      sum = sum / 3 + 1.0L / i;
      lanes = _mm_add_ps(_mm_div_ps(lanes, _mm_set1_ps(3)), _mm_set1_ps(1.0f / (float)i));
      if (i % 10 == 0) sched_yield();
    }
    hash = (uint32_t)kHashStart;
    take(&sum, 10), take(&lanes, sizeof lanes);
    const uint32_t message[] = {self, hash};
    _exit(write(ends[1], message, sizeof message) != sizeof message);
  }
  uint32_t results[kProcesses] = {0}, message[2];
  for (int i = 0; i < kProcesses; i++) {
    REQUIRE("result", read(ends[0], message, sizeof message) == sizeof message);
    results[message[0] % kProcesses] = message[1];
  }
  while (wait(NULL) > 0) {
  }
  report("several at once", hash_bytes((uint32_t)kHashStart, results, sizeof results));
}

int main(void) {
  arithmetic();
  rounding();
  special_values();
  environment();
  vectors();
  mmx();
  several_at_once();
  return finish();
}
