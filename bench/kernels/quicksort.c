// Quicksort of pointers to records, through a comparison function that the compiler cannot see.
#include "kernel.h"

enum { kRecords = 180000, kInsertionLimit = 12 };

struct Record {
  uint32_t key;
  uint32_t serial;
};

typedef int (*Compare)(const struct Record*, const struct Record*);

static struct Record records[kRecords];
static struct Record* order[kRecords];

static int by_key(const struct Record* left, const struct Record* right) {
  if (left->key != right->key) return left->key < right->key ? -1 : 1;
  return left->serial < right->serial ? -1 : left->serial > right->serial;
}

static void insertion_sort(struct Record** first, int count, Compare compare) {
  for (int i = 1; i < count; ++i) {
    struct Record* moving = first[i];
    int j = i;
    for (; j > 0 && compare(moving, first[j - 1]) < 0; --j) first[j] = first[j - 1];
    first[j] = moving;
  }
}

static void sort(struct Record** first, int count, Compare compare) {
  while (count > kInsertionLimit) {
    const struct Record* pivot = first[count / 2];
    int low = 0;
    int high = count - 1;
    while (low <= high) {
      while (compare(first[low], pivot) < 0) ++low;
      while (compare(pivot, first[high]) < 0) --high;
      if (low > high) break;
      struct Record* swapped = first[low];
      first[low++] = first[high];
      first[high--] = swapped;
    }
    sort(first, high + 1, compare);
    first += low;
    count -= low;
  }
  insertion_sort(first, count, compare);
}

uint32_t run_quicksort(void) {
  uint32_t seed = 1;
  for (uint32_t i = 0; i < kRecords; ++i) {
    records[i].key = next_random(&seed) & 0xffff;
    records[i].serial = i;
    order[i] = &records[i];
  }
  Compare volatile compare = by_key;
  sort(order, kRecords, compare);
  uint32_t digest = 2166136261u;
  for (uint32_t i = 0; i < kRecords; ++i) digest = mix(digest, order[i]->serial);
  return digest;
}
