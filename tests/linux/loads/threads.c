// Threads: locks, conditions, atomics, thread-local storage and many starts and ends.
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "check.h"

enum { kThreads = 8 };

static void start(pthread_t* thread, void* (*body)(void*), uintptr_t argument) {
  REQUIRE("pthread_create", pthread_create(thread, NULL, body, (void*)argument) == 0);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t guarded_count;
static atomic_uint atomic_count;
static _Atomic uint64_t wide_count;

static void* increments(void* argument) {
  (void)argument;
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&lock);
    guarded_count++;
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&atomic_count, 3);
    atomic_fetch_add(&wide_count, 0x100000001ull);
    if (i % 1000 == 0) sched_yield();
  }
  return NULL;
}

static void counters(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) start(&threads[i], increments, 0);
  for (int i = 0; i < kThreads; i++) pthread_join(threads[i], NULL);
  CHECK("mutex", guarded_count == kThreads * 20000);
  CHECK("atomic", atomic_load(&atomic_count) == kThreads * 60000);
  CHECK("cmpxchg8b", atomic_load(&wide_count) == 0x100000001ull * kThreads * 20000);
}

// A bounded queue between producers and consumers.
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint32_t items[16];
  unsigned head, tail;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void put(uint32_t item) {
  pthread_mutex_lock(&queue.lock);
  while (queue.tail - queue.head == 16) pthread_cond_wait(&queue.changed, &queue.lock);
  queue.items[queue.tail++ % 16] = item;
  pthread_cond_broadcast(&queue.changed);
  pthread_mutex_unlock(&queue.lock);
}

static uint32_t take(void) {
  pthread_mutex_lock(&queue.lock);
  while (queue.tail == queue.head) pthread_cond_wait(&queue.changed, &queue.lock);
  const uint32_t item = queue.items[queue.head++ % 16];
  pthread_cond_broadcast(&queue.changed);
  pthread_mutex_unlock(&queue.lock);
  return item;
}

static void* produce(void* argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument;
  for (int i = 0; i < 1500; i++) put(next_random(&state) | 1);
  return NULL;
}

static void* consume(void* argument) {
  uint32_t* sum = argument;
  for (uint32_t item; (item = take()) != 0;) *sum += item;
  return NULL;
}

static void producers_and_consumers(void) {
  pthread_t producers[3], consumers[3];
  uint32_t sums[3] = {0, 0, 0};
  for (unsigned i = 0; i < 3; i++) {
    start(&consumers[i], consume, (uintptr_t)&sums[i]);
    start(&producers[i], produce, i + 1);
  }
  for (int i = 0; i < 3; i++) pthread_join(producers[i], NULL);
  for (int i = 0; i < 3; i++) put(0);
  for (int i = 0; i < 3; i++) pthread_join(consumers[i], NULL);
  report("queue", sums[0] + sums[1] + sums[2]);
}

static __thread uint32_t local = 11;
static pthread_key_t key;
static atomic_uint destroyed;
static void destroy(void* value) {
  atomic_fetch_add(&destroyed, (unsigned)(uintptr_t)value);
}

static void* own_storage(void* argument) {
  const uint32_t mine = (uint32_t)(uintptr_t)argument;
  pthread_setspecific(key, argument);
  for (int i = 0; i < 100; i++) {
    local += mine;
    sched_yield();
  }
  return (void*)(uintptr_t)(local == 11 + 100 * mine && pthread_getspecific(key) == argument);
}

static void many_threads(void) {
  pthread_key_create(&key, destroy);
  int right = 0;
  for (int round = 0; round < 40; round++) {
    pthread_t threads[kThreads];
    for (unsigned i = 0; i < kThreads; i++) start(&threads[i], own_storage, i + 1);
    for (int i = 0; i < kThreads; i++) {
      void* result;
      pthread_join(threads[i], &result);
      right += result != NULL;
    }
  }
  CHECK("thread-local storage", right == 40 * kThreads && local == 11);
  CHECK("destructors", atomic_load(&destroyed) == 40 * 36);
}

static pthread_barrier_t barrier;
static volatile uint32_t generation[kThreads];
static void* barriers_body(void* argument) {
  const uintptr_t self = (uintptr_t)argument;
  uintptr_t right = 1;
  for (uint32_t i = 1; i <= 200; i++) {
    generation[self] = i;
    pthread_barrier_wait(&barrier);
    for (int other = 0; other < kThreads; other++) right &= generation[other] == i;
    pthread_barrier_wait(&barrier);
  }
  return (void*)right;
}

static void barriers(void) {
  pthread_t threads[kThreads];
  pthread_barrier_init(&barrier, NULL, kThreads);
  for (unsigned i = 0; i < kThreads; i++) start(&threads[i], barriers_body, i);
  uintptr_t right = 1;
  for (int i = 0; i < kThreads; i++) {
    void* result;
    pthread_join(threads[i], &result);
    right &= (uintptr_t)result;
  }
  CHECK("barriers", right);
}

// Locks made of nothing but atomic instructions, under preemption.
static atomic_flag spin = ATOMIC_FLAG_INIT;
static uint32_t spun[2];
static void* spins(void* argument) {
  (void)argument;
  for (int i = 0; i < 5000; i++) {
    while (atomic_flag_test_and_set(&spin)) sched_yield();
    spun[0]++;
    spun[1] += spun[0];
    atomic_flag_clear(&spin);
  }
  return NULL;
}

static void* waits_for_ever(void* argument) {
  sem_t* never = argument;
  sem_wait(never);
  return NULL;
}

static void spinning_and_cancelling(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) start(&threads[i], spins, 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK("spin lock", spun[0] == 20000 && spun[1] == 20000u * 20001 / 2);
  sem_t never;
  sem_init(&never, 0, 0);
  start(&threads[0], waits_for_ever, (uintptr_t)&never);
  void* result = NULL;
  CHECK("cancelled", pthread_cancel(threads[0]) == 0 && pthread_join(threads[0], &result) == 0 &&
                         result == PTHREAD_CANCELED);
}

int main(void) {
  counters();
  producers_and_consumers();
  many_threads();
  barriers();
  spinning_and_cancelling();
  return finish();
}
