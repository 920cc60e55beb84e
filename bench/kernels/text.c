#include "text.h"

/// Where the value of "key=value" begins, or null.
static const char* find_option(const char* text, const char* key) {
  for (const char* at = text; *at != 0;) {
    const char* wanted = key;
    while (*wanted != 0 && *at == *wanted) ++at, ++wanted;
    if (*wanted == 0 && *at == '=') return at + 1;
    while (*at != 0 && *at != ' ') ++at;
    while (*at == ' ') ++at;
  }
  return 0;
}

static int ends_word(char c) {
  return c == 0 || c == ' ' || c == ',';
}

int option_allows(const char* text, const char* key, const char* word) {
  const char* at = find_option(text, key);
  if (at == 0) return 1;
  for (;;) {
    const char* wanted = word;
    while (*wanted != 0 && *at == *wanted) ++at, ++wanted;
    if (*wanted == 0 && ends_word(*at)) return 1;
    while (!ends_word(*at)) ++at;
    if (*at != ',') return 0;
    ++at;
  }
}

uint32_t option_number(const char* text, const char* key, uint32_t absent) {
  const char* at = find_option(text, key);
  if (at == 0) return absent;
  uint32_t number = 0;
  for (; *at >= '0' && *at <= '9'; ++at) number = number * 10 + (uint32_t)(*at - '0');
  return number;
}

char* append_text(char* end, const char* text) {
  while (*text != 0) *end++ = *text++;
  return end;
}

/// Divides by ten without the compiler's run-time library; returns the remainder.
static uint32_t divide_by_ten(uint64_t* value) {
  const uint32_t high = (uint32_t)(*value >> 32);
  uint32_t low = (uint32_t)*value;
  uint32_t rest = high % 10;
  __asm__("divl %2" : "+a"(low), "+d"(rest) : "r"(10u) : "cc");
  *value = (uint64_t)(high / 10) << 32 | low;
  return rest;
}

char* append_decimal(char* end, uint64_t value) {
  char digits[20];
  int count = 0;
  do digits[count++] = (char)('0' + divide_by_ten(&value));
  while (value != 0);
  while (count > 0) *end++ = digits[--count];
  return end;
}

char* append_hex(char* end, uint32_t value) {
  end = append_text(end, "0x");
  for (int shift = 28; shift >= 0; shift -= 4) *end++ = "0123456789abcdef"[value >> shift & 15];
  return end;
}
