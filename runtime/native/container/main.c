/* The program of a container: a process whose low 4 GiB hold a guest's user pages, and which
 * executes guest code in 32-bit mode. Freestanding: no library, no file but what Trapline gives it.
 *
 * Everything up to the first event is trusted; afterwards guest code can do to this program
 * whatever its own instructions can. What confines it then are the filters below and the mapper
 * (mapper.S). The guest's registers are handed over by a signal handler on a stack of its own: any
 * event (fault, trap, system call, kick) ends in it, and it waits there until Trapline wants the
 * guest to go on, which it does without the kernel (go_on.S).
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <ucontext.h>

#include "runtime/native/protocol.h"

#pragma GCC visibility push(hidden) /* Found without a global offset table. */
int start_mapper(const struct sock_fprog* filter);
void restore_context(void);
void go_on_in_guest(void) __attribute__((noreturn));
void go_on_kicked(void);
void stop_for_kick(void);
extern volatile uint32_t kicked;
extern uint8_t signal_stack[], signal_stack_end[];
extern const uint8_t __executable_start[], etext[];
#pragma GCC visibility pop

#define COMMANDS ((const struct NativeCommands*)TRAPLINE_COMMANDS_ADDRESS)
#define MAILBOX ((volatile struct NativeMailbox*)TRAPLINE_MAILBOX_ADDRESS)

static const uint64_t kAllSignals = ~UINT64_C(0);
static const uint64_t kNoSignals = 0;

#define TRAPLINE_TRAP_PERF 6 /* TRAP_PERF, of <signal.h> since glibc 2.34 or so. */

static long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

static long call3(long number, long a, long b, long c) {
  return call6(number, a, b, c, 0, 0, 0);
}

static void fail(int status) {
  for (;;) call3(__NR_exit_group, status, 0, 0);
}

static void must(long result, int status) {
  if (result < 0 && result > -4096) fail(status);
}

/* --- filters -----------------------------------------------------------------------------------
 */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
/* Goes on with the next instruction when equal, else `otherwise` instructions further. */
#define EQUAL(value, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, otherwise)
#define MAILBOX_WORD(field) \
  ((TRAPLINE_MAILBOX_ADDRESS & 0xffffffff) + offsetof(struct NativeMailbox, field))
#define ALLOW_CALL(number) EQUAL(number, 1), RETURN(SECCOMP_RET_ALLOW)

/* What the thread that runs guest code may do: come back from the handler (where that interrupted
 * this program), set its timer (it has no other, and none can be made any more), and sleep and wake
 * on the mailbox. INT 80h of 32-bit code is an event like others. */
static const struct sock_filter kGuestFilter[] = {
    LOAD(arch),
    EQUAL(AUDIT_ARCH_I386, 1),
    RETURN(SECCOMP_RET_TRAP),
    EQUAL(AUDIT_ARCH_X86_64, 14),
    LOAD(nr),
    ALLOW_CALL(__NR_rt_sigreturn),
    ALLOW_CALL(__NR_timer_settime),
    EQUAL(__NR_futex, 8),
    LOAD(args[1]),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, FUTEX_WAKE, 6, 0), /* FUTEX_WAIT is 0. */
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]) + 4),
    EQUAL(TRAPLINE_MAILBOX_ADDRESS >> 32, 4),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAILBOX_WORD(go), 1, 0),
    EQUAL(MAILBOX_WORD(stopped), 1),
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_KILL_PROCESS),
};

static const struct sock_filter kMapperFilter[] = {
    LOAD(arch),
    EQUAL(AUDIT_ARCH_X86_64, 15),
    LOAD(nr),
    ALLOW_CALL(__NR_futex),
    ALLOW_CALL(__NR_mmap),
    ALLOW_CALL(__NR_munmap),
    ALLOW_CALL(__NR_mprotect),
    ALLOW_CALL(__NR_pwrite64),
    ALLOW_CALL(__NR_modify_ldt),
    ALLOW_CALL(__NR_exit_group),
    RETURN(SECCOMP_RET_KILL_PROCESS),
};

#define PROGRAM(filter) \
  { sizeof(filter) / sizeof((filter)[0]), (struct sock_filter*)(filter) }

/* --- events ------------------------------------------------------------------------------------
 */

struct KernelSigaction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)(void);
  uint64_t mask;
};

volatile uint32_t kicked; /* Since guest code stopped. */
static uint32_t ticket;
static int timer;
static uint64_t timer_set; /* When it is due; 0: never. */

/* Where the kernel keeps each general register in a signal frame, by the register's number. */
static const uint8_t kPlace[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
                                  REG_RSP, REG_RBP, REG_RSI, REG_RDI};

/* No library has these, and the compiler must not make calls of them. */
static void copy(volatile void* to, const volatile void* from, size_t bytes) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}
static void clear(volatile void* to, size_t bytes) {
  asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

static int is_watched(int signal, const siginfo_t* info) {
  return signal == SIGTRAP && info->si_code == TRAPLINE_TRAP_PERF;
}

static void hand_over(int signal, const siginfo_t* info, const ucontext_t* context) {
  const greg_t* gregs = context->uc_mcontext.gregs;
  volatile struct NativeMailbox* box = MAILBOX;
  for (int i = 0; i < 8; ++i) box->registers.gpr[i] = (uint32_t)gregs[kPlace[i]];
  box->registers.eip = (uint32_t)gregs[REG_RIP];
  box->registers.eflags = (uint32_t)gregs[REG_EFL];
  box->registers.cs = (uint16_t)gregs[REG_CSGSFS];
  box->registers.ss = (uint16_t)((uint64_t)gregs[REG_CSGSFS] >> 48);
  uint16_t ds, es, fs, gs;
  asm volatile("mov %%ds, %0\n mov %%es, %1\n mov %%fs, %2\n mov %%gs, %3"
               : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
  box->registers.ds = ds;
  box->registers.es = es;
  box->registers.fs = fs;
  box->registers.gs = gs;
  copy(box->registers.fpu, context->uc_mcontext.fpregs, 512);
  box->signal = (uint32_t)signal;
  box->trap = is_watched(signal, info) ? TRAPLINE_WATCHED : (uint32_t)gregs[REG_TRAPNO];
  box->error = (uint64_t)gregs[REG_ERR];
  box->address = signal == SIGSEGV ? (uint64_t)info->si_addr : 0;
}

static uint64_t ticks(void) {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static void sleep_until_wanted(void) {
  volatile struct NativeMailbox* box = MAILBOX;
  kicked = 0; /* It has stopped. What comes from now on is for the next time. */
  __atomic_store_n(&box->stopped, ticket, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&box->trapline_waits, __ATOMIC_SEQ_CST))
    call3(__NR_futex, (long)&box->stopped, FUTEX_WAKE, 1);
  for (const uint64_t begin = ticks(); ticks() - begin < box->looks;) {
    if (__atomic_load_n(&box->go, __ATOMIC_ACQUIRE) != ticket) break;
    asm volatile("pause");
  }
  while (__atomic_load_n(&box->go, __ATOMIC_ACQUIRE) == ticket) {
    __atomic_store_n(&box->container_waits, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&box->go, __ATOMIC_SEQ_CST) == ticket)
      call6(__NR_futex, (long)&box->go, FUTEX_WAIT, ticket, 0, 0, 0);
    __atomic_store_n(&box->container_waits, 0, __ATOMIC_SEQ_CST);
  }
  ticket = box->go;
}

/* At the deadline nobody else needs to be woken up only to interrupt guest code. Where Trapline's
 * thread has a processor of its own there is no deadline here. */
static void set_timer(uint64_t due) {
  if (due == timer_set) return;
  timer_set = due;
  const struct itimerspec when = {
      .it_value = {.tv_sec = (time_t)(due / 1000000000), .tv_nsec = (long)(due % 1000000000)}};
  call6(__NR_timer_settime, timer, TIMER_ABSTIME, (long)&when, 0, 0, 0);
}

__attribute__((noreturn)) static void wait_and_go_on(void) {
  sleep_until_wanted();
  set_timer(MAILBOX->deadline);
  MAILBOX->began = ticks();
  go_on_in_guest();
}

/* Guest code has been kicked before it ran, so its registers are what they were. */
__attribute__((noreturn, used)) void stop_for_kick(void) {
  MAILBOX->ended = ticks();
  MAILBOX->signal = TRAPLINE_KICK_SIGNAL;
  wait_and_go_on();
}

/* This program has been interrupted, not guest code. Then somebody has kicked it, its timer among
 * them, or the host tells late of an address that is watched, which guest code will come to again.
 */
static void note_kick(int signal, const siginfo_t* info, greg_t* gregs) {
  if (signal != TRAPLINE_KICK_SIGNAL && !is_watched(signal, info)) fail(21);
  kicked = 1;
  const uint64_t at = (uint64_t)gregs[REG_RIP];
  if (at >= (uint64_t)go_on_in_guest && at < (uint64_t)go_on_kicked)
    gregs[REG_RIP] = (greg_t)go_on_kicked;
}

static void on_event(int signal, siginfo_t* info, void* context) {
  greg_t* gregs = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint64_t at = (uint64_t)gregs[REG_RIP];
  if (at >= (uint64_t)__executable_start && at < (uint64_t)etext) {
    note_kick(signal, info, gregs);
    return;
  }
  MAILBOX->ended = ticks();
  hand_over(signal, info, context);
  wait_and_go_on();
}

/* --- start -------------------------------------------------------------------------------------
 */

static void map_shared(uint64_t address, long bytes, long protection, long offset) {
  must(call6(__NR_mmap, (long)address, bytes, protection, MAP_SHARED | MAP_FIXED,
             TRAPLINE_CONTROL_FILE, offset),
       10);
}

static void close_from(long first, long last) {
  if (call3(__NR_close_range, first, last, 0) == 0) return;
  for (long file = first; file <= last && file < 4096; ++file) call3(__NR_close, file, 0, 0);
}

static void handle_events(void) {
  const stack_t stack = {.ss_sp = signal_stack,
                         .ss_size = (size_t)(signal_stack_end - signal_stack)};
  must(call3(__NR_sigaltstack, (long)&stack, 0, 0), 11);
  static const int kSignals[] = {
      SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGSYS, TRAPLINE_KICK_SIGNAL};
  const struct KernelSigaction action = {
      .handler = on_event,
      .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | 0x04000000 /* SA_RESTORER */,
      .restorer = restore_context};
  for (unsigned i = 0; i < sizeof kSignals / sizeof kSignals[0]; ++i)
    must(call6(__NR_rt_sigaction, kSignals[i], (long)&action, 0, 8, 0, 0), 12);
}

static void make_timer(void) {
  struct sigevent event;
  clear(&event, sizeof event);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = TRAPLINE_KICK_SIGNAL;
  must(call3(__NR_timer_create, CLOCK_MONOTONIC, (long)&event, (long)&timer), 20);
}

__attribute__((noreturn, used)) void container_main(void) {
  close_from(0, 2);
  close_from(5, 0x7fffffff);
  map_shared(TRAPLINE_COMMANDS_ADDRESS, TRAPLINE_COMMANDS_BYTES, PROT_READ,
             TRAPLINE_COMMANDS_OFFSET);
  const int confined = !COMMANDS->unconfined;
  if (!confined)
    map_shared(TRAPLINE_COMMANDS_ADDRESS, TRAPLINE_COMMANDS_BYTES, PROT_READ | PROT_WRITE,
               TRAPLINE_COMMANDS_OFFSET);
  map_shared(TRAPLINE_STATUS_ADDRESS, TRAPLINE_STATUS_BYTES, PROT_READ, TRAPLINE_STATUS_OFFSET);
  map_shared(TRAPLINE_MAILBOX_ADDRESS, TRAPLINE_MAILBOX_BYTES, PROT_READ | PROT_WRITE,
             TRAPLINE_MAILBOX_OFFSET);
  must(call3(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0), 13);
  if (call3(__NR_getppid, 0, 0, 0) != (long)COMMANDS->trapline_pid) fail(14);
  sleep_until_wanted(); /* Trapline may look into this process as long as it may be dumped. */
  call3(__NR_prctl, PR_SET_DUMPABLE, 0, 0);
  const struct rlimit none = {0, 0};
  call3(__NR_setrlimit, RLIMIT_CORE, (long)&none, 0);
  must(call6(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0), 15);
  /* The mapper never takes a signal; its handlers would be the guest's. */
  must(call6(__NR_rt_sigprocmask, SIG_SETMASK, (long)&kAllSignals, 0, 8, 0, 0), 16);
  handle_events();

  static const struct sock_fprog kMapperProgram = PROGRAM(kMapperFilter);
  static const struct sock_fprog kGuestProgram = PROGRAM(kGuestFilter);
  const int mapper = start_mapper(&kMapperProgram);
  must(mapper, 17);
  MAILBOX->mapper_pid = (uint32_t)mapper;

  if (confined) close_from(0, 0x7fffffff);
  make_timer();
  MAILBOX->cpuid_faults = call3(__NR_arch_prctl, ARCH_SET_CPUID, 0, 0) == 0;
  must(call6(__NR_rt_sigprocmask, SIG_SETMASK, (long)&kNoSignals, 0, 8, 0, 0), 18);
  if (confined)
    must(call6(__NR_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&kGuestProgram, 0, 0, 0), 19);
  MAILBOX->signal = TRAPLINE_READY;
  wait_and_go_on();
}
