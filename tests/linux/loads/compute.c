// Integer and library work with answers that are known.
#include "check.h"

static uint32_t rotate(uint32_t value, int count) {
  return value >> count | value << (32 - count);
}

// SHA-256 whose constants are computed: fractions of roots of the first primes.
static uint32_t round_constants[64], start_state[8];

// The first 32 bits of the fraction of the root-th root of n, by bisection in 64-bit integers.
static uint32_t root_fraction(uint32_t n, int root) {
  uint64_t low = 0, high = (uint64_t)20 << 32;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    const long double value = (long double)middle / 4294967296.0L;
    const long double power = root == 2 ? value * value : value * value * value;
    if (power <= n) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return (uint32_t)low;
}

static void make_constants(void) {
  int count = 0;
  for (uint32_t n = 2; count < 64; n++) {
    int prime = 1;
    for (uint32_t d = 2; d * d <= n; d++) prime &= n % d != 0;
    if (!prime) continue;
    if (count < 8) start_state[count] = root_fraction(n, 2);
    round_constants[count++] = root_fraction(n, 3);
  }
}

static void sha256_block(uint32_t state[8], const unsigned char* block) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++) {
    memcpy(&w[i], block + 4 * i, 4);
    w[i] = __builtin_bswap32(w[i]);
  }
  for (int i = 16; i < 64; i++) {
    const uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
           (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  memcpy(v, state, sizeof v);
  for (int i = 0; i < 64; i++) {
    const uint32_t e = v[4], a = v[0];
    const uint32_t first = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                           ((e & v[5]) ^ (~e & v[6])) + round_constants[i] + w[i];
    const uint32_t second =
        (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + second;
  }
  for (int i = 0; i < 8; i++) state[i] += v[i];
}

static void sha256(const char* name, const unsigned char* text, size_t size) {
  uint32_t state[8];
  memcpy(state, start_state, sizeof state);
  size_t done = 0;
  for (; size - done >= 64; done += 64) sha256_block(state, text + done);
  unsigned char last[128] = {0};
  memcpy(last, text + done, size - done);
  last[size - done] = 0x80;
  const size_t length = size - done < 56 ? 64 : 128;
  const uint64_t bits = __builtin_bswap64((uint64_t)size * 8);
  memcpy(last + length - 8, &bits, 8);
  for (size_t i = 0; i < length; i += 64) sha256_block(state, last + i);
  printf("sha256 of %s ", name);
  for (int i = 0; i < 8; i++) printf("%08x", state[i]);
  printf("\n");
}

static void hashes(void) {
  make_constants();
  sha256("nothing", (const unsigned char*)"", 0);
  sha256("abc", (const unsigned char*)"abc", 3);
  static unsigned char million[1000000];
  memset(million, 'a', sizeof million);
  sha256("a million a", million, sizeof million);
  uint32_t crc = ~0u;
  for (const char* next = "123456789"; *next != 0; next++) {
    crc ^= (unsigned char)*next;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  printf("crc32 %08x\n", ~crc);
}

// Pi by a spigot: nothing but integer products, quotients and remainders.
static void pi(void) {
  enum { kDigits = 240, kCells = kDigits * 10 / 3 + 1 };
  static int cells[kCells];
  for (int i = 0; i < kCells; i++) cells[i] = 2;
  char digits[kDigits + 2] = "";
  int count = 0, nines = 0, held = 0;
  for (int step = 0; step <= kDigits && count < kDigits; step++) {
    int carry = 0;
    for (int i = kCells - 1; i > 0; i--) {
      const int value = cells[i] * 10 + carry * (i + 1);
      cells[i] = value % (2 * i + 1);
      carry = value / (2 * i + 1);
    }
    const int value = cells[0] * 10 + carry;
    cells[0] = value % 10;
    const int digit = value / 10;
    if (digit == 9) {
      nines++;
      continue;
    }
    if (step > 0) digits[count++] = (char)('0' + held + digit / 10);
    for (; nines > 0 && count < kDigits; nines--) digits[count++] = digit == 10 ? '0' : '9';
    nines = 0;
    held = digit % 10;
  }
  printf("pi %.100s\n", digits);
}

static int queens(int size, int row, unsigned columns, unsigned left, unsigned right) {
  if (row == size) return 1;
  int found = 0;
  for (unsigned free = ~(columns | left | right) & ((1u << size) - 1); free != 0;
       free &= free - 1) {
    const unsigned bit = free & -free;
    found += queens(size, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return found;
}

static unsigned ackermann(unsigned m, unsigned n) {
  if (m == 0) return n + 1;
  return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static int compare_words(const void* a, const void* b) {
  const uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static void searching_and_sorting(void) {
  enum { kLimit = 1000000, kWords = 100000 };
  static unsigned char composite[kLimit];
  int primes = 0;
  for (int i = 2; i < kLimit; i++) {
    if (composite[i]) continue;
    primes++;
    for (int64_t j = (int64_t)i * i; j < kLimit; j += i) composite[j] = 1;
  }
  printf("primes below a million %d\n", primes);
  printf("queens %d %d\n", queens(8, 0, 0, 0, 0), queens(10, 0, 0, 0, 0));
  printf("ackermann %u\n", ackermann(3, 7));
  uint32_t* words = malloc(kWords * sizeof *words);
  uint32_t state = 9, sum = 0, sorted_sum = 0;
  for (int i = 0; i < kWords; i++) sum += words[i] = next_random(&state);
  qsort(words, kWords, sizeof *words, compare_words);
  int ordered = 1;
  for (int i = 0; i < kWords; i++) {
    sorted_sum += words[i];
    ordered &= i == 0 || words[i - 1] <= words[i];
  }
  CHECK("sorted", ordered && sum == sorted_sum);
  report("sort", hash_bytes((uint32_t)kHashStart, words, kWords * sizeof *words));
  free(words);
}

static void wide_numbers(void) {
  uint32_t state = 10, hash = (uint32_t)kHashStart;
  int right = 1;
  for (int i = 0; i < 50000; i++) {
    const uint64_t a = (uint64_t)next_random(&state) << 32 | next_random(&state);
    const uint64_t b = ((uint64_t)next_random(&state) << 32 | next_random(&state)) >> i % 60 | 1;
    right &= a / b * b + a % b == a;
    const int64_t sa = (int64_t)a, sb = (int64_t)b;
    if (sb != -1) right &= sa / sb * sb + sa % sb == sa;
    const uint64_t results[] = {a / b, a % b, a * b, (uint64_t)(sa >> i % 64), a << i % 64, a > b};
    hash = hash_bytes(hash, results, sizeof results);
  }
  CHECK("64-bit division", right);
  report("64-bit", hash);
}

static void text(void) {
  char buffer[200];
  int right = 1;
  uint32_t state = 12;
  for (int i = 0; i < 2000; i++) {
    const double value = (double)next_random(&state) / 1000.0 - 2000000.0;
    snprintf(buffer, sizeof buffer, "%.17g", value);
    right &= strtod(buffer, NULL) == value;
    const long long whole = (long long)next_random(&state) * -7919;
    snprintf(buffer, sizeof buffer, "%lld", whole);
    right &= strtoll(buffer, NULL, 10) == whole;
  }
  CHECK("there and back", right);
  printf("printf %s %5.3f %e %x %lld %c %-5d| %g\n", "text", 3.14159, 12345.678, 48879u,
         -(1LL << 40), 'c', 42, 1e100);
  static char a[5000], b[5000];
  for (int i = 0; i < 1000; i++) {
    const size_t from = next_random(&state) % 100, to = next_random(&state) % 100;
    const size_t size = next_random(&state) % 4800;
    for (size_t k = 0; k < size; k++) a[from + k] = (char)next_random(&state);
    memcpy(b + to, a + from, size);
    right &= memcmp(b + to, a + from, size) == 0;
    memmove(b + to + 1, b + to, size);
    right &= memcmp(b + to + 1, a + from, size) == 0;
  }
  CHECK("memory functions", right);
}

int main(void) {
  hashes();
  pi();
  searching_and_sorting();
  wide_numbers();
  text();
  return finish();
}
