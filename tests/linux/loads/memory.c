// mmap, mprotect, mremap, madvise and brk: pages hold what was written, rights are obeyed.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

enum { kPage = 4096 };

static sigjmp_buf escape;
static void* volatile fault_address;
static volatile int fault_signal;

static void on_fault(int number, siginfo_t* info, void* context) {
  (void)context;
  fault_signal = number;
  fault_address = info->si_addr;
  siglongjmp(escape, 1);
}

static void catch_faults(void) {
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
  action.sa_sigaction = on_fault;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
}

// 0 when the access goes through, else the signal; the place must be right.
static int reads(volatile char* place) {
  if (sigsetjmp(escape, 1) == 0) {
    (void)*place;
    return 0;
  }
  return fault_address == place ? fault_signal : -1;
}
static int writes(volatile char* place) {
  if (sigsetjmp(escape, 1) == 0) {
    *place = 1;
    return 0;
  }
  return fault_address == place ? fault_signal : -1;
}

static char* map(size_t size, int rights, int flags) {
  char* place = mmap(NULL, size, rights, MAP_ANONYMOUS | flags, -1, 0);
  REQUIRE("mmap", place != MAP_FAILED);
  return place;
}

// 32 MiB written in a scattered order, read back in another one.
static void large(void) {
  enum { kWords = 32 << 18, kStep = 1000003 };
  uint32_t* words = (uint32_t*)map(kWords * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_PRIVATE);
  int zero = 1;
  for (int i = 0; i < kWords; i += kPage / 4) zero &= words[i] == 0;
  CHECK("fresh pages are zero", zero);
  uint32_t state = 5;
  for (uint32_t i = 0, place = 0; i < kWords / 4; i++, place = (place + kStep) % kWords)
    words[place] += next_random(&state);
  report("scattered writes", hash_bytes((uint32_t)kHashStart, words, kWords * sizeof(uint32_t)));
  munmap(words, kWords * sizeof(uint32_t));
  CHECK("unmapped",
        reads((char*)words) == SIGSEGV && reads((char*)(words + kWords - 1)) == SIGSEGV);
}

static void rights(void) {
  enum { kPages = 300 };
  char* pages = map(kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  uint32_t state = 17;
  int model[kPages];
  const int choices[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
  for (int i = 0; i < kPages; i++) model[i] = 2;
  for (int round = 0; round < 2000; round++) {
    const int first = (int)(next_random(&state) % kPages);
    int count = (int)(next_random(&state) % 8) + 1;
    if (first + count > kPages) count = kPages - first;
    const int choice = (int)(next_random(&state) % 3);
    REQUIRE("mprotect",
            mprotect(pages + first * kPage, (size_t)count * kPage, choices[choice]) == 0);
    for (int i = first; i < first + count; i++) model[i] = choice;
    const int probe = (int)(next_random(&state) % kPages);
    char* place = pages + probe * kPage + next_random(&state) % kPage;
    CHECK("read right", (reads(place) == 0) == (model[probe] >= 1));
    CHECK("write right", (writes(place) == 0) == (model[probe] == 2));
  }
  munmap(pages, kPages * kPage);
}

// Accesses that begin in one page and end in the next, which is another one or refuses.
static void crossing(void) {
  char* pages = map(3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  for (int back = 1; back < 8; back++) {
    volatile uint64_t* place = (volatile uint64_t*)(pages + kPage - back);
    *place = 0x1122334455667788ull * (unsigned)back;
    CHECK("crossing store", *place == 0x1122334455667788ull * (unsigned)back);
  }
  mprotect(pages + kPage, kPage, PROT_NONE);
  memset(pages, 0x5a, kPage);
  for (int back = 1; back < 4; back++) {
    if (sigsetjmp(escape, 1) == 0) {
      *(volatile uint32_t*)(pages + kPage - back) = 0;
      CHECK("crossing into nothing", 0);
    }
    CHECK("crossing fault", fault_address == pages + kPage);
    CHECK("nothing stored", pages[kPage - 1] == 0x5a && pages[kPage - back] == 0x5a);
  }
  munmap(pages, 3 * kPage);
}

static void files(void) {
  char name[] = "/tmp/memory.XXXXXX";
  const int file = mkstemp(name);
  REQUIRE("mkstemp", file >= 0 && ftruncate(file, 3 * kPage + 100) == 0);
  unlink(name);
  char* shared = mmap(NULL, 5 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  char* copy = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  REQUIRE("file maps", shared != MAP_FAILED && copy != MAP_FAILED);
  strcpy(shared + kPage - 3, "across");
  char text[8] = "";
  CHECK("pread", pread(file, text, 7, kPage - 3) == 7 && strcmp(text, "across") == 0);
  CHECK("pwrite",
        pwrite(file, "ACROSS", 6, kPage - 3) == 6 && strcmp(shared + kPage - 3, "ACROSS") == 0);
  strcpy(copy + kPage - 3, "mine!!");
  CHECK("private",
        strcmp(shared + kPage - 3, "ACROSS") == 0 && strcmp(copy + kPage - 3, "mine!!") == 0);
  CHECK("zeros behind the end", shared[3 * kPage + 99] == 0 && shared[4 * kPage - 1] == 0);
  CHECK("beyond the file", reads(shared + 4 * kPage) == SIGBUS);
  CHECK("grown", ftruncate(file, 5 * kPage) == 0 && reads(shared + 4 * kPage) == 0);
  CHECK("shrunk", ftruncate(file, kPage) == 0 && reads(shared + kPage) == SIGBUS);
  CHECK("msync", msync(shared, kPage, MS_SYNC) == 0);
  munmap(shared, 5 * kPage), munmap(copy, 4 * kPage), close(file);
}

// One frame at several addresses, and an address that becomes another frame.
static void aliases(void) {
  const int file = memfd_create("aliases", 0);
  REQUIRE("memfd", file >= 0 && ftruncate(file, 8 * kPage) == 0);
  volatile uint32_t* views[8];
  for (int i = 0; i < 8; i++) {
    views[i] = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE("view", views[i] != MAP_FAILED);
  }
  int right = 1;
  for (unsigned i = 0; i < 1000; i++) {
    views[i % 8][i] = i * 7;
    for (int j = 0; j < 8; j++) right &= views[j][i] == i * 7;
  }
  CHECK("aliases agree", right);
  volatile uint32_t* window = views[0];
  for (unsigned i = 0; i < 200; i++) {
    REQUIRE("remapped", mmap((void*)window, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                             file, (off_t)(i % 8) * kPage) == window);
    if (i < 8) window[5] = 100 + i;
    right &= window[5] == 100 + i % 8;
  }
  CHECK("the window moves", right);
  close(file);
}

static void movement(void) {
  char* small = map(4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  for (int i = 0; i < 4; i++) small[i * kPage] = (char)(i + 1);
  char* moved = mremap(small, 4 * kPage, 64 * kPage, MREMAP_MAYMOVE);
  REQUIRE("mremap", moved != MAP_FAILED);
  int right = moved[63 * kPage] == 0;
  for (int i = 0; i < 4; i++) right &= moved[i * kPage] == i + 1;
  CHECK("moved content", right);
  CHECK("madvise", madvise(moved, 2 * kPage, MADV_DONTNEED) == 0);
  CHECK("dropped content", moved[0] == 0 && moved[kPage] == 0 && moved[2 * kPage] == 3);
  char* low = mremap(moved, 64 * kPage, 2 * kPage, 0);
  CHECK("shrunk", low == moved && reads(moved + 2 * kPage) == SIGSEGV);
  char* heap = sbrk(10 * kPage);
  memset(heap, 1, 10 * kPage);
  CHECK("brk back", sbrk(-10 * kPage) != (void*)-1 && reads(heap + 9 * kPage) == SIGSEGV);
}

// What a parent and its children see of shared and of private memory.
static void inheritance(void) {
  volatile uint32_t* shared = (uint32_t*)map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  volatile uint32_t* own = (uint32_t*)map(kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  for (int i = 0; i < 30; i++) {
    if (fork() == 0) {
      shared[i] = own[0] + (uint32_t)i;
      own[0] = 1u << 31;
      _exit(0);
    }
    wait(NULL);
    own[0]++;
  }
  int right = own[0] == 30;
  for (uint32_t i = 0; i < 30; i++) right &= shared[i] == 2 * i;
  CHECK("shared and private", right);
}

int main(void) {
  catch_faults();
  large();
  rights();
  crossing();
  files();
  aliases();
  movement();
  inheritance();
  return finish();
}
