// A bytecode interpreter: one dispatch loop through a jump table. Its program counts the steps of
// Collatz sequences and keeps the sums in a small memory.
#include "kernel.h"

enum Opcode {
  kPush,   // push immediate
  kLoad,   // push variable
  kStore,  // pop into variable
  kAdd,
  kMultiply,
  kAnd,
  kShiftRight,
  kLess,
  kEqual,
  kJump,  // to operand
  kJumpIfZero,
  kPeek,  // pop address, push memory
  kPoke,  // pop address, pop value
  kHalt,
};

struct Instruction {
  uint8_t opcode;
  int32_t operand;
};

enum Variable { kNumber, kValue, kSteps, kVariables };
enum { kMemory = 256, kLimit = 6500 };

static const struct Instruction kProgram[] = {
    {kPush, 1},
    {kStore, kNumber},
    // 2: while number < limit
    {kLoad, kNumber},
    {kPush, kLimit},
    {kLess, 0},
    {kJumpIfZero, 44},
    {kLoad, kNumber},
    {kStore, kValue},
    {kPush, 0},
    {kStore, kSteps},
    // 10: while value != 1
    {kLoad, kValue},
    {kPush, 1},
    {kEqual, 0},
    {kJumpIfZero, 15},
    {kJump, 30},
    // 15: value = value & 1 ? 3 * value + 1 : value >> 1
    {kLoad, kValue},
    {kPush, 1},
    {kAnd, 0},
    {kJumpIfZero, 25},
    {kLoad, kValue},
    {kPush, 3},
    {kMultiply, 0},
    {kPush, 1},
    {kAdd, 0},
    {kJump, 28},
    // 25:
    {kLoad, kValue},
    {kPush, 1},
    {kShiftRight, 0},
    // 28: both ways meet here, the new value on the stack
    {kStore, kValue},
    {kJump, 45},
    // 30: memory[number & 255] += steps; ++number
    {kLoad, kNumber},
    {kPush, 255},
    {kAnd, 0},
    {kPeek, 0},
    {kLoad, kSteps},
    {kAdd, 0},
    {kLoad, kNumber},
    {kPush, 255},
    {kAnd, 0},
    {kPoke, 0},
    {kLoad, kNumber},
    {kPush, 1},
    {kAdd, 0},
    {kJump, 50},
    // 44:
    {kHalt, 0},
    // 45: ++steps, and on with the sequence
    {kLoad, kSteps},
    {kPush, 1},
    {kAdd, 0},
    {kStore, kSteps},
    {kJump, 10},
    // 50:
    {kStore, kNumber},
    {kJump, 2},
};

static int32_t memory[kMemory];

__attribute__((noinline)) static void interpret(const struct Instruction* program) {
  int32_t stack[16];
  int32_t variable[kVariables] = {0};
  int32_t* top = stack;
  const struct Instruction* at = program;
  for (;;) {
    const struct Instruction* now = at++;
    switch ((enum Opcode)now->opcode) {
      case kPush:
        *++top = now->operand;
        break;
      case kLoad:
        *++top = variable[now->operand];
        break;
      case kStore:
        variable[now->operand] = *top--;
        break;
      case kAdd:
        --top;
        top[0] += top[1];
        break;
      case kMultiply:
        --top;
        top[0] *= top[1];
        break;
      case kAnd:
        --top;
        top[0] &= top[1];
        break;
      case kShiftRight:
        --top;
        top[0] >>= top[1];
        break;
      case kLess:
        --top;
        top[0] = top[0] < top[1];
        break;
      case kEqual:
        --top;
        top[0] = top[0] == top[1];
        break;
      case kJump:
        at = program + now->operand;
        break;
      case kJumpIfZero:
        if (*top-- == 0) at = program + now->operand;
        break;
      case kPeek:
        *top = memory[*top & (kMemory - 1)];
        break;
      case kPoke:
        top -= 2;
        memory[top[2] & (kMemory - 1)] = top[1];
        break;
      case kHalt:
        return;
    }
  }
}

uint32_t run_interpreter(void) {
  for (int i = 0; i < kMemory; ++i) memory[i] = 0;
  interpret(kProgram);
  uint32_t digest = 2166136261u;
  for (int i = 0; i < kMemory; ++i) digest = mix(digest, (uint32_t)memory[i]);
  return digest;
}
