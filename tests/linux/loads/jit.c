// Code that is written and then run: compiled expressions, functions that are replaced, changed in
// place, moved, and reached through another mapping than the one that was written.
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

enum { kPage = 4096, kArea = 16 * kPage };

typedef uint32_t (*Function)(uint32_t, uint32_t);

static unsigned char* area(int rights) {
  unsigned char* place = mmap(NULL, kArea, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE("mmap", place != MAP_FAILED);
  return place;
}

static unsigned char* emit(unsigned char* at, const char* bytes, size_t count) {
  memcpy(at, bytes, count);
  return at + count;
}
#define EMIT(at, bytes) at = emit(at, bytes, sizeof(bytes) - 1)

static unsigned char* emit_word(unsigned char* at, uint32_t value) {
  memcpy(at, &value, 4);
  return at + 4;
}

// A random expression, as machine code (a stack machine: result in EAX) and as its value at once.
typedef struct {
  unsigned char* at;
  uint32_t random, a, b;
} Compiler;

static uint32_t compile(Compiler* c, int depth) {
  const uint32_t choice = next_random(&c->random) % (depth > 0 ? 9 : 3);
  if (choice == 0) {
    const uint32_t value = next_random(&c->random);
    EMIT(c->at, "\xb8");  // mov eax, imm
    c->at = emit_word(c->at, value);
    return value;
  }
  if (choice <= 2) {
    if (choice == 1) EMIT(c->at, "\x8b\x45\x08");  // mov eax, [ebp + 8]
    if (choice == 2) EMIT(c->at, "\x8b\x45\x0c");  // mov eax, [ebp + 12]
    return choice == 1 ? c->a : c->b;
  }
  const uint32_t left = compile(c, depth - 1);
  EMIT(c->at, "\x50");  // push eax
  const uint32_t right = compile(c, depth - 1);
  EMIT(c->at, "\x89\xc1\x58");  // mov ecx, eax; pop eax
  switch (choice) {
    case 3:
      EMIT(c->at, "\x01\xc8");
      return left + right;
    case 4:
      EMIT(c->at, "\x29\xc8");
      return left - right;
    case 5:
      EMIT(c->at, "\x0f\xaf\xc1");
      return left * right;
    case 6:
      EMIT(c->at, "\x31\xc8");
      return left ^ right;
    case 7:
      EMIT(c->at, "\xd3\xc8");
      return left >> (right & 31) | left << (-right & 31);
    default:
      // xor edx, edx; or ecx, 1; div ecx
      EMIT(c->at, "\x31\xd2\x83\xc9\x01\xf7\xf1");
      return left / (right | 1);
  }
}

static void expressions(void) {
  unsigned char* code = area(PROT_READ | PROT_WRITE | PROT_EXEC);
  Compiler c = {.random = 2024};
  uint32_t hash = (uint32_t)kHashStart;
  int right = 1;
  for (int i = 0; i < 3000; i++) {
    c.a = next_random(&c.random), c.b = next_random(&c.random);
    // Now and then across the end of a page.
    unsigned char* entry = code + (i % 5 == 0 ? kPage - 10 : (i * 64) % kPage);
    c.at = entry;
    EMIT(c.at, "\x55\x89\xe5");  // push ebp; mov ebp, esp
    const uint32_t expected = compile(&c, 5);
    EMIT(c.at, "\x5d\xc3");  // pop ebp; ret
    REQUIRE("room", c.at < code + kArea);
    const uint32_t got = ((Function)(void*)entry)(c.a, c.b);
    right &= got == expected;
    hash = hash_bytes(hash, &got, sizeof got);
  }
  CHECK("compiled expressions", right);
  report("expressions", hash);
  munmap(code, kArea);
}

// The constant of one instruction changes before each call, also while a loop runs over it.
static void patches(void) {
  unsigned char* code = area(PROT_READ | PROT_WRITE | PROT_EXEC);
  unsigned char* at = code;
  EMIT(at, "\xb8\0\0\0\0\xc3");  // mov eax, imm; ret
  uint32_t sum = 0;
  for (uint32_t i = 0; i < 20000; i++) {
    emit_word(code + 1, i * 3);
    sum += ((uint32_t(*)(void))(void*)code)();
  }
  CHECK("patched constant", sum == 3u * (19999u * 20000u / 2));

  // The loop adds its own constant to EAX and then increments it in memory: mov ecx, 1000;
  // xor eax, eax; top: add eax, imm; inc dword [imm's place]; loop top; ret.
  at = code + 100;
  EMIT(at, "\xb9\xe8\x03\0\0\x31\xc0");
  unsigned char* top = at;
  EMIT(at, "\x05");
  unsigned char* constant = at;
  at = emit_word(at, 0);
  EMIT(at, "\xff\x05");
  at = emit_word(at, (uint32_t)(uintptr_t)constant);
  EMIT(at, "\xe2");
  *at = (unsigned char)(top - (at + 1));
  at++;
  EMIT(at, "\xc3");
  CHECK("code that changes itself", ((uint32_t(*)(void))(void*)(code + 100))() == 999u * 1000 / 2);

  // The instruction that follows the store is the one that is replaced: mov byte [next], 0x40 (inc
  // eax); next: nop; ret.
  at = code + 200;
  EMIT(at, "\x31\xc0\xc6\x05");
  at = emit_word(at, (uint32_t)(uintptr_t)(at + 5));
  EMIT(at, "\x40\x90\xc3");
  CHECK("the next instruction", ((uint32_t(*)(void))(void*)(code + 200))() == 1);
  munmap(code, kArea);
}

// Writable or executable, never both, as careful compilers have it.
static void alternating_rights(void) {
  unsigned char* code = area(PROT_READ | PROT_WRITE);
  int right = 1;
  for (uint32_t i = 0; i < 500; i++) {
    unsigned char* entry = code + (i * 37) % (2 * kPage);
    unsigned char* at = entry;
    EMIT(at, "\xb8");
    at = emit_word(at, i ^ 0xabcdef);
    EMIT(at, "\xc3");
    REQUIRE("mprotect", mprotect(code, kArea, PROT_READ | PROT_EXEC) == 0);
    right &= ((uint32_t(*)(void))(void*)entry)() == (i ^ 0xabcdef);
    REQUIRE("mprotect", mprotect(code, kArea, PROT_READ | PROT_WRITE) == 0);
  }
  CHECK("alternating rights", right);
  munmap(code, kArea);
}

// Written through one mapping, run through another; then other frames come under the same address.
static void aliases(void) {
  const int file = memfd_create("code", 0);
  REQUIRE("memfd", file >= 0 && ftruncate(file, 4 * kPage) == 0);
  unsigned char* writer = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  unsigned char* runner = mmap(NULL, kPage, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  REQUIRE("aliases", writer != MAP_FAILED && runner != MAP_FAILED);
  int right = 1;
  for (uint32_t i = 0; i < 1000; i++) {
    unsigned char* at = writer;
    EMIT(at, "\xb8");
    at = emit_word(at, i);
    EMIT(at, "\xc3");
    right &= ((uint32_t(*)(void))(void*)runner)() == i;
  }
  CHECK("written elsewhere", right);
  for (unsigned page = 0; page < 4; page++) {
    unsigned char* at = writer + page * kPage;
    EMIT(at, "\xb8");
    at = emit_word(at, 1000 + page);
    EMIT(at, "\xc3");
  }
  for (unsigned i = 0; i < 200; i++) {
    REQUIRE("mmap", mmap(runner, kPage, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file,
                         (off_t)(i % 4) * kPage) == runner);
    right &= ((uint32_t(*)(void))(void*)runner)() == 1000 + i % 4;
  }
  CHECK("other frames", right);
  close(file);
}

// Parent and child run different code at one address, each after a private write.
static void private_copies(void) {
  unsigned char* code = area(PROT_READ | PROT_WRITE | PROT_EXEC);
  unsigned char* at = code;
  EMIT(at, "\xb8\x01\0\0\0\xc3");
  int right = ((uint32_t(*)(void))(void*)code)() == 1;
  for (unsigned char i = 2; i < 30; i++) {
    const pid_t child = fork();
    if (child == 0) {
      code[1] = i;
      _exit((int)((uint32_t(*)(void))(void*)code)());
    }
    int status;
    waitpid(child, &status, 0);
    right &= WEXITSTATUS(status) == i && ((uint32_t(*)(void))(void*)code)() == 1;
  }
  CHECK("private copies of code", right);
}

// Many small functions that are thrown away all at once, over and over.
static void generations(void) {
  uint32_t sum = 0;
  for (uint32_t round = 0; round < 20; round++) {
    unsigned char* code = area(PROT_READ | PROT_WRITE | PROT_EXEC);
    for (uint32_t i = 0; i < kArea / 64; i++) {
      unsigned char* at = code + i * 64;
      EMIT(at, "\x8b\x44\x24\x04\x05");  // mov eax, [esp + 4]; add eax, imm
      at = emit_word(at, round * 1000 + i);
      EMIT(at, "\xc3");
    }
    for (uint32_t i = 0; i < kArea / 64; i++) sum += ((Function)(void*)(code + i * 64))(i, 0);
    munmap(code, kArea);
  }
  report("generations", sum);
}

int main(void) {
  expressions();
  patches();
  alternating_rights();
  aliases();
  private_copies();
  generations();
  return finish();
}
