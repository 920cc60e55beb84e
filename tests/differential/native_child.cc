#include "tests/differential/native_child.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <iterator>

// The page that both sides of the switch reach: its first page is code, its second data.
#define GATE_CODE 0x11000000
#define GATE_DATA 0x11001000
#define GATE_INITIAL 0x11001000
#define GATE_FINAL 0x11001400
#define GATE_STACK 0x11001800
#define GATE_EXIT 0x11001808
#define GATE_ENTRY 0x11001818
#define GATE_ENVIRONMENT 0x11001840
#define GATE_SCRATCH_STACK 0x11001f00

namespace trapline::differential {
namespace {

struct Child;

struct Gate {
  CpuImage initial;
  alignas(0x400) CpuImage final;
  alignas(0x400) uint64_t stack;
  uint32_t exit;
  Child* child;  ///< Where the signal handler finds it.
  /// For 16-bit code: far pointers to the stack and to the first instruction.
  struct {
    uint32_t esp;
    uint32_t ss;
    uint32_t ip;
    uint32_t cs;
    uint32_t ds;
  } entry;
  alignas(0x40) std::array<uint32_t, 7> environment;  ///< FNSTENV's.
};
static_assert(offsetof(Gate, final) == GATE_FINAL - GATE_DATA);
static_assert(offsetof(Gate, stack) == GATE_STACK - GATE_DATA);
static_assert(offsetof(Gate, exit) == GATE_EXIT - GATE_DATA);
static_assert(offsetof(Gate, entry) == GATE_ENTRY - GATE_DATA);
static_assert(offsetof(Gate, environment) == GATE_ENVIRONMENT - GATE_DATA);
static_assert(offsetof(CpuImage, eip) == 32 && offsetof(CpuImage, eflags) == 36 &&
              offsetof(CpuImage, fpu) == 48);

#define TEXT(x) TEXT_OF(x)
#define TEXT_OF(x) #x

// Copied to GATE_CODE, because a far jump from 32-bit code reaches only the lowest 4 GiB. Position
// independent. r8 to r15 and the upper halves of all registers are lost on the way.
asm(R"(
  .pushsection .text
  .globl trapline_gate_enter16, trapline_gate_begin, trapline_gate_exit0, trapline_gate_exit1
  .globl trapline_gate_leave, trapline_gate_end
trapline_gate_begin:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, )" TEXT(GATE_STACK) R"(
  fxrstor )" TEXT(GATE_INITIAL) R"(+48
  pushq $0x2b
  mov )" TEXT(GATE_INITIAL) R"(+16, %ecx
  push %rcx
  mov )" TEXT(GATE_INITIAL) R"(+36, %ecx
  push %rcx
  pushq $0x23
  mov )" TEXT(GATE_INITIAL) R"(+32, %ecx
  push %rcx
  mov )" TEXT(GATE_INITIAL) R"(+0, %ecx
  mov %ecx, %eax
  mov )" TEXT(GATE_INITIAL) R"(+4, %ecx
  mov )" TEXT(GATE_INITIAL) R"(+8, %edx
  mov )" TEXT(GATE_INITIAL) R"(+12, %ebx
  mov )" TEXT(GATE_INITIAL) R"(+20, %ebp
  mov )" TEXT(GATE_INITIAL) R"(+24, %esi
  mov )" TEXT(GATE_INITIAL) R"(+28, %edi
  iretq
  # By way of 32-bit code into 16-bit segments.
trapline_gate_enter16:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, )" TEXT(GATE_STACK) R"(
  fxrstor )" TEXT(GATE_INITIAL) R"(+48
  pushq $0x2b
  pushq $)" TEXT(GATE_SCRATCH_STACK) R"(
  pushq $0x202
  pushq $0x23
  lea trapline_gate_32(%rip), %rcx
  push %rcx
  iretq
  .code32
trapline_gate_32:
  mov )" TEXT(GATE_INITIAL) R"(+4, %ecx
  mov )" TEXT(GATE_INITIAL) R"(+8, %edx
  mov )" TEXT(GATE_INITIAL) R"(+12, %ebx
  mov )" TEXT(GATE_INITIAL) R"(+20, %ebp
  mov )" TEXT(GATE_INITIAL) R"(+24, %esi
  mov )" TEXT(GATE_INITIAL) R"(+28, %edi
  pushl )" TEXT(GATE_INITIAL) R"(+36
  popf
  mov )" TEXT(GATE_ENTRY) R"(+16, %eax
  mov %eax, %es
  mov %eax, %ds
  mov %cs:)" TEXT(GATE_INITIAL) R"(+0, %eax
  lss %cs:)" TEXT(GATE_ENTRY) R"(, %esp
  ljmp *%cs:)" TEXT(GATE_ENTRY) R"(+8
  .code64
trapline_gate_exit0:
  movl $0, )" TEXT(GATE_EXIT) R"(
  jmp 1f
trapline_gate_exit1:
  movl $1, )" TEXT(GATE_EXIT) R"(
1:
  mov %ecx, )" TEXT(GATE_FINAL) R"(+4
  mov %edx, )" TEXT(GATE_FINAL) R"(+8
  mov %ebx, )" TEXT(GATE_FINAL) R"(+12
  mov %esp, )" TEXT(GATE_FINAL) R"(+16
  mov %ebp, )" TEXT(GATE_FINAL) R"(+20
  mov %esi, )" TEXT(GATE_FINAL) R"(+24
  mov %edi, )" TEXT(GATE_FINAL) R"(+28
  mov %eax, %ecx
  mov %ecx, )" TEXT(GATE_FINAL) R"(+0
  mov )" TEXT(GATE_STACK) R"(, %rsp
  pushfq
  pop %rcx
  mov %ecx, )" TEXT(GATE_FINAL) R"(+36
  fxsave )" TEXT(GATE_FINAL) R"(+48
  # Some processors' FXSAVE leaves the pointers out.
  fnstenv )" TEXT(GATE_ENVIRONMENT) R"(
  mov )" TEXT(GATE_ENVIRONMENT) R"(+12, %ecx
  mov %ecx, )" TEXT(GATE_FINAL) R"(+48+8
  movzwl )" TEXT(GATE_ENVIRONMENT) R"(+18, %ecx
  and $0x7ff, %ecx
  mov %cx, )" TEXT(GATE_FINAL) R"(+48+6
  mov )" TEXT(GATE_ENVIRONMENT) R"(+20, %ecx
  mov %ecx, )" TEXT(GATE_FINAL) R"(+48+16
trapline_gate_leave:
  mov $0x2b, %ecx
  mov %ecx, %ds
  mov %ecx, %es
  mov %ecx, %ss
  mov )" TEXT(GATE_STACK) R"(, %rsp
  pushq $0x202
  popfq
  fninit
  pushq $0x1f80
  ldmxcsr (%rsp)
  pop %rcx
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
trapline_gate_end:
  .popsection
)");

extern "C" const uint8_t trapline_gate_begin[], trapline_gate_exit0[], trapline_gate_exit1[],
    trapline_gate_leave[], trapline_gate_enter16[], trapline_gate_end[];

Gate& gate() {
  return *reinterpret_cast<Gate*>(uintptr_t{GATE_DATA});
}

uint32_t gate_address(const uint8_t* label) {
  return static_cast<uint32_t>(GATE_CODE + (label - trapline_gate_begin));
}

struct Child {
  NativeShared* shared = nullptr;
  WindowPages window{};     ///< Writable aliases.
  uint8_t* code = nullptr;  ///< Writable alias of the code pages.
  uint64_t fs_base = 0;
  bool wrfsbase = false;
  uint16_t fs = 0, gs = 0;
  Outcome* outcome = nullptr;
};

// --- setting up --------------------------------------------------------------------------------

bool map_at(uint32_t address, size_t size, int protection, int file, size_t offset) {
  void* const wanted = reinterpret_cast<void*>(uintptr_t{address});
  void* const got = mmap(wanted, size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
                         file, off_t(offset));
  if (got == wanted) return true;
  if (got != MAP_FAILED) munmap(got, size);
  return false;
}

uint8_t* map_alias(int file, size_t size) {
  void* const got = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return got == MAP_FAILED ? nullptr : static_cast<uint8_t*>(got);
}

bool map_window(Child& child) {
  const int file = memfd_create("window", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, kWindowBytes) != 0) return false;
  uint8_t* const alias = map_alias(file, kWindowBytes);
  if (!alias) return false;
  for (uint32_t page = 0; page < kWindowPages; ++page)
    child.window[page] = alias + page * kPageSize;
  for (const Region& region : kRegions) {
    const int protection = region.writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const bool mapped = map_at(region.base, region.pages * kPageSize, protection, file,
                               region.first_page * kPageSize);
    if (region.base == kLow.base)
      child.shared->low_page = mapped;
    else if (!mapped)
      return false;
  }
  std::memcpy(alias, child.shared->common.bytes.data(), kWindowBytes);
  close(file);
  return true;
}

bool map_code(Child& child) {
  const int file = memfd_create("code", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, kCodeBytes) != 0) return false;
  child.code = map_alias(file, kCodeBytes);
  if (!child.code || !map_at(kCodeBase, kCodeBytes, PROT_READ | PROT_EXEC, file, 0)) return false;
  close(file);
  return true;
}

bool map_gate() {
  const int file = memfd_create("gate", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, 2 * kPageSize) != 0) return false;
  uint8_t* const alias = map_alias(file, 2 * kPageSize);
  if (!alias || !map_at(GATE_CODE, kPageSize, PROT_READ | PROT_EXEC, file, 0) ||
      !map_at(GATE_DATA, kPageSize, PROT_READ | PROT_WRITE, file, kPageSize))
    return false;
  std::memcpy(alias, trapline_gate_begin, size_t(trapline_gate_end - trapline_gate_begin));
  munmap(alias, 2 * kPageSize);
  close(file);
  return true;
}

bool set_ldt_entry(uint32_t index, uint32_t base, uint32_t limit, bool pages) {
  user_desc entry{};
  entry.entry_number = index;
  entry.base_addr = base;
  entry.limit = limit;
  entry.seg_32bit = 1;
  entry.limit_in_pages = pages;
  entry.useable = 1;
  return syscall(SYS_modify_ldt, 0x11, &entry, sizeof entry) == 0;
}

bool set_ldt_entry16(uint16_t selector, uint32_t base, bool code) {
  user_desc entry{};
  entry.entry_number = selector >> 3;
  entry.base_addr = base;
  entry.limit = 0xffff;
  entry.contents = code ? 2 : 0;
  entry.useable = 1;
  return syscall(SYS_modify_ldt, 0x11, &entry, sizeof entry) == 0;
}

void set_up_segments(Child& child) {
  child.shared->code16 = set_ldt_entry16(kCode16Selector, kCode16Base, true) &&
                         set_ldt_entry16(kStack16Selector, kStack16Base, false) &&
                         set_ldt_entry16(kData16Selector, kData16Base, false);
  child.shared->segments = set_ldt_entry(kFsSelector >> 3, kFsBase, 0xfffff, true) &&
                           set_ldt_entry(kGsSelector >> 3, kGsBase, kGsLimit, false);
  child.fs = child.shared->segments ? kFsSelector : kDataSelector;
  child.gs = child.shared->segments ? kGsSelector : kDataSelector;
  constexpr unsigned long kFsGsBase = 2;  // in AT_HWCAP2
  child.wrfsbase = getauxval(AT_HWCAP2) & kFsGsBase;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &child.fs_base);
  asm volatile("mov %0, %%ds\n mov %0, %%es\n mov %1, %%gs" ::"r"(uint32_t{kDataSelector}),
               "r"(uint32_t{child.gs}));
}

/// The guest code's FS, then the C library's again.
[[gnu::always_inline]] inline void load_fs(uint16_t selector) {
  asm volatile("mov %0, %%fs" ::"r"(uint32_t{selector}) : "memory");
}

[[gnu::always_inline]] inline void restore_fs(const Child& child) {
  load_fs(0);
  if (child.wrfsbase) {
    asm volatile("wrfsbase %0" ::"r"(child.fs_base) : "memory");
  } else {
    long result = SYS_arch_prctl;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(long{ARCH_SET_FS}), "S"(child.fs_base)
                 : "rcx", "r11", "memory");
  }
}

/// A stray INT 0x80 must not reach the kernel. Everything the runner needs stays.
bool confine() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// --- signals -----------------------------------------------------------------------------------

void capture_event(const ucontext_t& context, int signal, Outcome& outcome) {
  const greg_t* const regs = context.uc_mcontext.gregs;
  if (signal == SIGUSR1) {
    outcome.event = Event::kTimeout;
  } else if (signal == SIGSYS) {
    outcome.event = Event::kLost;
  } else {
    outcome.event = Event::kException;
    outcome.vector = static_cast<uint8_t>(regs[REG_TRAPNO]);
    switch (outcome.vector) {
      case 14:
        outcome.cr2 = static_cast<uint32_t>(regs[REG_CR2]);
        [[fallthrough]];
      case 10:
      case 11:
      case 12:
      case 13:
      case 17:
        outcome.error_code = static_cast<uint32_t>(regs[REG_ERR]);
        break;
      default:
        break;  // The saved error code is a stale one.
    }
  }
}

void capture_registers(const ucontext_t& context, CpuImage& cpu) {
  const greg_t* const regs = context.uc_mcontext.gregs;
  static constexpr int kOrder[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
                                    REG_RSP, REG_RBP, REG_RSI, REG_RDI};
  for (int i = 0; i < 8; ++i) cpu.gpr[size_t(i)] = static_cast<uint32_t>(regs[kOrder[i]]);
  cpu.eip = static_cast<uint32_t>(regs[REG_RIP]);
  if (static_cast<uint16_t>(regs[REG_CSGSFS]) == kCode16Selector) cpu.eip += kCode16Base;
  cpu.eflags = static_cast<uint32_t>(regs[REG_EFL]);
  // The frame has the 64-bit form, in which the pointers are 64 bits wide and have no selectors.
  FpuImage& fpu = cpu.fpu;
  std::memcpy(static_cast<void*>(&fpu), context.uc_mcontext.fpregs, sizeof fpu);
  uint64_t dp;
  std::memcpy(&dp, reinterpret_cast<const uint8_t*>(&fpu) + 16, 8);
  fpu.cs = 0;
  fpu.dp = static_cast<uint32_t>(dp);
  fpu.ds = 0;
}

[[gnu::noinline]] void finish_by_signal(int signal, const ucontext_t& context) {
  Outcome& outcome = *gate().child->outcome;
  capture_event(context, signal, outcome);
  capture_registers(context, outcome.final);
}

/// Does not return through the kernel: nothing is blocked, and the alternate stack is free again
/// as soon as it is not used.
void on_signal(int signal, siginfo_t*, void* raw) {
  const auto& context = *static_cast<const ucontext_t*>(raw);
  const auto code = static_cast<uint16_t>(context.uc_mcontext.gregs[REG_CSGSFS]);
  if (code != kCodeSelector && code != kCode16Selector) {
    if (signal == SIGUSR1) return;
    syscall(SYS_exit_group, 3);
  }
  restore_fs(*gate().child);
  finish_by_signal(signal, context);
  asm volatile("jmp *%0" ::"r"(uintptr_t{gate_address(trapline_gate_leave)}) : "memory");
  __builtin_unreachable();
}

bool install_handlers() {
  static constexpr size_t kStackBytes = 1 << 17;
  void* const memory =
      mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const stack_t stack{memory, 0, kStackBytes};
  if (sigaltstack(&stack, nullptr) != 0) return false;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGUSR1}) {
    if (sigaction(signal, &action, nullptr) != 0) return false;
  }
  return true;
}

// --- running -----------------------------------------------------------------------------------

void place_code(const Child& child, const Case& test) {
  uint8_t* const at = child.code + (test.initial.eip - kCodeBase);
  const uint32_t room = kCodeBase + kCodeBytes - test.initial.eip;
  fill_code_pages(test, std::span<uint8_t, kCodeBytes>(child.code, kCodeBytes));
  const std::array<const uint8_t*, kExits> stubs = {trapline_gate_exit0, trapline_gate_exit1};
  for (uint32_t i = 0; i < kExits; ++i) {
    if (test.exits[i] + kExitBytes > room) continue;
    uint8_t* const exit = at + test.exits[i];
    const uint32_t target = gate_address(stubs[i]);
    constexpr uint16_t kLongMode = 0x33;
    const bool code16 = test.size == CodeSize::k16;
    uint8_t* jump = exit;
    if (code16) *jump++ = 0x66;
    *jump++ = 0xea;  // jmp far
    std::memcpy(jump, &target, 4);
    std::memcpy(jump + 4, &kLongMode, 2);
  }
}

[[gnu::noinline]] void enter_gate(const Child& child, CodeSize size) {
  const uint32_t address =
      size == CodeSize::k16 ? gate_address(trapline_gate_enter16) : uint32_t{GATE_CODE};
  const auto enter = reinterpret_cast<void (*)()>(uintptr_t{address});
  load_fs(child.fs);
  enter();
  restore_fs(child);
}

void run_case(Child& child, const Case& test, Outcome& outcome) {
  outcome.event = Event::kEnd;
  outcome.vector = 0;
  outcome.error_code = 0;
  outcome.cr2 = 0;
  child.outcome = &outcome;
  apply_patches(test, child.window);
  place_code(child, test);
  gate().initial = test.initial;
  gate().entry = {test.initial.gpr[kEsp], kStack16Selector, test.initial.eip - kCode16Base,
                  kCode16Selector, kData16Selector};
  enter_gate(child, test.size);
  if (outcome.event == Event::kEnd) {
    outcome.final = gate().final;
    outcome.final.eip = test.exit_address(gate().exit);
  }
  collect_changes(child.window, child.shared->common, outcome);
  normalise(outcome);
}

bool set_up(Child& child) {
  if (!map_window(child) || !map_code(child) || !map_gate() || !install_handlers()) return false;
  set_up_segments(child);
  return confine();
}

}  // namespace

void native_child_main(NativeShared& shared) {
  Child child;
  child.shared = &shared;
  shared.failed = !set_up(child);
  if (!shared.failed) gate().child = &child;
  shared.reply = 1;
  futex_wake(shared.reply);
  for (uint32_t done = 0;; ++done) {
    while (shared.request == done) futex_wait(shared.request, done, 1000);
    for (uint32_t i = 0; i < shared.count; ++i) {
      run_case(child, shared.cases[i], shared.outcomes[i]);
      shared.progress = i + 1;
    }
    shared.reply = done + 2;
    futex_wake(shared.reply);
  }
}

}  // namespace trapline::differential
