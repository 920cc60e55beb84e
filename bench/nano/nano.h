// Nanobenchmarks: one guest operation each, measured in TSC cycles.
#pragma once

#include <stdint.h>

/// Runs the operation `loops` times `operations` times; returns how often its effect was wrong.
typedef uint32_t (*Operation)(uint32_t loops);

struct Nano {
  const char* name;
  Operation run;
  uint32_t operations;  ///< Per loop.
  uint32_t loops;
  void (*prepare)(void);  ///< May be null. Runs in ring 0, before the operation.
  int user;               ///< The loop runs in ring 3.
};

extern const struct Nano kNanos[];
extern const unsigned kNanoCount;

/// Pages for the operations to play with; each is a page of its own.
extern uint8_t nano_pages[8][4096];
/// The page-table entries of nano_pages[0] and [1], for the operations in assembly.
extern uint32_t* nano_entry_0;
extern uint32_t* nano_entry_1;
/// Two roots that share everything but the mapping of one page.
extern uint32_t nano_root_a;
extern uint32_t nano_root_b;
