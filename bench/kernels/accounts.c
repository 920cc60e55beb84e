// Keeping accounts of what many tasks have used, as a kernel's scheduler does: a few fields of one
// structure after the other, some of two words.
#include "kernel.h"

enum { kTasks = 64, kUpdates = 4000000 };

struct Account {
  uint64_t since;
  uint64_t total;
  uint64_t weighted;
  uint32_t weight;
  uint32_t slices;
  uint32_t overrun;
  uint32_t budget;
};

static struct Account accounts[kTasks] __attribute__((aligned(64)));

static __attribute__((noinline)) void charge(struct Account* account, uint64_t now) {
  const uint64_t used = now - account->since;
  if ((int64_t)used <= 0) return;
  account->since = now;
  account->total += used;
  account->weighted += used * account->weight;
  if (used > account->budget)
    ++account->overrun;
  else
    ++account->slices;
}

uint32_t run_accounts(void) {
  uint32_t seed = 23;
  for (uint32_t i = 0; i < kTasks; ++i) {
    const struct Account fresh = {.weight = 1 + i % 7, .budget = 100 + i};
    accounts[i] = fresh;
  }
  uint64_t now = (uint64_t)1 << 32;
  for (uint32_t i = 0; i < kUpdates; ++i) {
    if (i % 256 == 0) now += next_random(&seed) % 64;
    charge(&accounts[i % kTasks], ++now);
  }
  uint32_t digest = 2166136261u;
  for (uint32_t i = 0; i < kTasks; ++i) {
    const struct Account* account = &accounts[i];
    digest = mix(digest, (uint32_t)account->total);
    digest = mix(digest, (uint32_t)(account->weighted >> 8));
    digest = mix(digest, account->slices);
    digest = mix(digest, account->overrun);
  }
  return digest;
}
