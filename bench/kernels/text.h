// Options and lines of text for programs without a C library.
//
// Options are one string of words: "kernels=sieve,sha256 mode=ring3 reps=5". Unknown words are
// ignored, since boot loaders put the image's name in front.
#pragma once

#include <stdint.h>

/// Whether `word` stands in the comma-separated list of option `key`; also when the option is
/// absent.
int option_allows(const char* text, const char* key, const char* word);
/// The number of option `key`, or `absent`.
uint32_t option_number(const char* text, const char* key, uint32_t absent);

/// A buffer of this many bytes holds any line that the benchmarks print.
enum { kLineBytes = 160 };

/// Appending to a line that is known to be long enough; each returns the new end.
char* append_text(char* end, const char* text);
char* append_decimal(char* end, uint64_t value);
char* append_hex(char* end, uint32_t value);
