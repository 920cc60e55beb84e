// Attacks on what confines a container, from the inside: code that has left 32-bit mode by a far
// jump. What confinement forbids is tried twice, the second time in a container without it, where
// it must succeed: so the test can fail.
#include <asm/unistd.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "runtime/machine.h"
#include "runtime/native/container.h"

// 64-bit code that is copied into guest memory.
asm(R"(
        .pushsection .rodata
        .local  system_call_code, system_call_code_end, load_code, load_code_end
        .local  store_code, store_code_end, forge_code, forge_code_end
        .local  int80_code, int80_code_end, sigreturn_code, sigreturn_code_end
        .local  timer_code, timer_code_end, race_code, race_code_end
# A block of eight words at the data page: number, six arguments, result.
system_call_code:
        mov     $0x08050000, %ebx
        mov     0(%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        mov     %rax, 56(%rbx)
        hlt
system_call_code_end:
int80_code:
        mov     $0x08050000, %ebx
        mov     %rbx, %rbp
        mov     0(%rbp), %rax
        xor     %ebx, %ebx
        int     $0x80
        mov     %rax, 56(%rbp)
        hlt
int80_code_end:
load_code:
        mov     $0x08050000, %ebx
        mov     0(%rbx), %rax
        mov     (%rax), %rax
        mov     %rax, 56(%rbx)
        hlt
load_code_end:
store_code:
        mov     $0x08050000, %ebx
        mov     0(%rbx), %rax
        movl    $0x55, (%rax)
        movq    $0, 56(%rbx)
        hlt
store_code_end:
# Tells that it has stopped, with the registers full of nonsense, and goes on.
forge_code:
        mov     $0x08050000, %ebx
        movabs  $0x300000004000, %rdx
        lea     64(%rdx), %rdi
        mov     $0xff, %al
        mov     $512, %ecx
        rep stosb
        mov     (%rdx), %eax
        mov     %eax, 4(%rdx)
1:      incl    56(%rbx)
        jmp     1b
forge_code_end:
# A signal frame of its own, that blocks every signal, and a loop, as if it had never begun.
sigreturn_code:
        movabs  $0x300000004030, %rax
        movq    $0, (%rax)
        mov     $0x08050100, %esp
        mov     $15, %eax
        syscall
1:      jmp     1b
sigreturn_code_end:
# Sets its timer to what lies at the data page, and a loop.
timer_code:
        mov     $0x08050000, %ebx
        mov     $223, %eax
        xor     %edi, %edi
        xor     %esi, %esi
        mov     %rbx, %rdx
        xor     %r10d, %r10d
        syscall
        mov     %rax, 56(%rbx)
1:      jmp     1b
timer_code_end:
# Tells that it has stopped where FNOP is, with exit_group(77) in its registers, and writes FNOP and
# SYSCALL there in turns.
race_code:
        movabs  $0x300000004000, %rdx
        mov     $0x12000, %ebx
        movl    $231, 80(%rdx)
        movl    $77, 108(%rdx)
        mov     %ebx, 112(%rdx)
        movl    $4, 28(%rdx)
        mov     (%rdx), %eax
        mov     %eax, 4(%rdx)
1:      movw    $0xd0d9, (%rbx)
        movw    $0x050f, (%rbx)
        cmp     (%rdx), %eax
        je      1b
        ud2
race_code_end:
        .popsection
)");
extern "C" const uint8_t system_call_code[], system_call_code_end[], load_code[], load_code_end[],
    store_code[], store_code_end[], forge_code[], forge_code_end[], int80_code[], int80_code_end[],
    sigreturn_code[], sigreturn_code_end[], timer_code[], timer_code_end[], race_code[],
    race_code_end[];

namespace trapline {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kCode = 0x08048000;
constexpr uint64_t kPayload = kCode + 0x100;
constexpr uint64_t kData = 0x08050000;
constexpr uint64_t kCodeOffset = 0x3000;
constexpr uint64_t kDataOffset = 0x5000;
constexpr uint64_t kSecretOffset = 0x7000;
constexpr uint64_t kSecret = 0x7365637265747321;
constexpr uint64_t kNothing = 0x1122334455667788;
constexpr uint32_t kReadExecute = native_access::kRead | native_access::kExecute;
constexpr uint32_t kReadWrite = native_access::kRead | native_access::kWrite;

/// A container in whose guest code the attacker runs, and what it can get at.
class Victim {
 public:
  explicit Victim(Confinement confinement) {
    ram_ = memfd_create("test-ram", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(ram_, 0x10000), 0);
    files_ = ContainerFiles::create(ram_).take();
    container_ = Container::start(*files_, confinement).take();
    container_->map(kCode, 0x1000, kReadExecute, kCodeOffset);
    container_->map(kData, 0x1000, kReadWrite, kDataOffset);
    EXPECT_TRUE(container_->flush());
    put(kSecretOffset, kSecret);
    put(kDataOffset + 56, kNothing);
    const std::vector<uint8_t> far_jump = {
        0xea, kPayload & 0xff, kPayload >> 8 & 0xff, kPayload >> 16 & 0xff, kPayload >> 24, 0x33,
        0};
    EXPECT_EQ(pwrite(ram_, far_jump.data(), far_jump.size(), kCodeOffset), 7);
  }
  ~Victim() { close(ram_); }

  void put(uint64_t offset, uint64_t value) {
    EXPECT_EQ(pwrite(ram_, &value, 8, static_cast<off_t>(offset)), 8);
  }
  uint64_t word(uint64_t offset) const {
    uint64_t value = 0;
    EXPECT_EQ(pread(ram_, &value, 8, static_cast<off_t>(offset)), 8);
    return value;
  }
  uint64_t result() const { return word(kDataOffset + 56); }
  Container& container() { return *container_; }
  int ram() const { return ram_; }

  NativeEvent attack(const uint8_t* code, const uint8_t* end, uint64_t deadline = 0) {
    EXPECT_EQ(pwrite(ram_, code, static_cast<size_t>(end - code), kCodeOffset + 0x100), end - code);
    NativeRegisters registers{};
    registers.eip = kCode;
    registers.eflags = 0x202;
    registers.gpr[4] = kData + 0x800;
    registers.cs = TRAPLINE_FLAT_CS;
    registers.ss = registers.ds = registers.es = TRAPLINE_FLAT_DATA;
    FpuImage fpu;
    std::memcpy(registers.fpu, &fpu, sizeof fpu);
    return container_->run(registers, attention_, deadline);
  }
  volatile uint8_t attention_ = 0;

 private:
  int ram_ = -1;
  std::unique_ptr<ContainerFiles> files_;
  std::unique_ptr<Container> container_;
};

struct SystemCall {
  const char* name;
  uint64_t number;
  std::vector<uint64_t> arguments;
};

std::vector<SystemCall> system_calls() {
  const auto parent = static_cast<uint64_t>(getpid());
  constexpr uint64_t kPath = kData + 0x200;  // "/etc/passwd"
  constexpr uint64_t kX32 = 0x40000000;
  return {
      {"open", __NR_open, {kPath}},
      {"openat", __NR_openat, {static_cast<uint64_t>(AT_FDCWD), kPath}},
      {"read the RAM", __NR_pread64, {TRAPLINE_RAM_FILE, kData + 56, 8, kSecretOffset}},
      {"write the RAM", __NR_pwrite64, {TRAPLINE_RAM_FILE, kData, 8, kSecretOffset}},
      {"acknowledge", __NR_pwrite64, {TRAPLINE_CONTROL_FILE, kData, 4, TRAPLINE_STATUS_OFFSET}},
      {"mmap", __NR_mmap, {0x50000000, 4096, 3, 0x11, TRAPLINE_RAM_FILE, kSecretOffset}},
      {"mprotect", __NR_mprotect, {TRAPLINE_COMMANDS_ADDRESS, 4096, 3}},
      {"mremap", __NR_mremap, {kData, 4096, 8192, 1}},
      {"munmap", __NR_munmap, {0x200000000000, 4096}},
      {"remap_file_pages", __NR_remap_file_pages, {0x70000000, 4096, 0, 1, 0}},
      {"fork", __NR_fork, {}},
      {"vfork", __NR_vfork, {}},
      {"clone", __NR_clone, {0}},
      {"execve", __NR_execve, {kPath, 0, 0}},
      {"kill", __NR_kill, {parent, 0}},
      {"tgkill", __NR_tgkill, {parent, parent, 0}},
      {"ptrace", __NR_ptrace, {PTRACE_ATTACH, 1}},
      {"process_vm_readv", __NR_process_vm_readv, {parent, kData, 1, kData, 1, 0}},
      {"socket", __NR_socket, {AF_UNIX, SOCK_STREAM, 0}},
      {"memfd_create", __NR_memfd_create, {kPath, 0}},
      {"io_uring_setup", __NR_io_uring_setup, {1, kData}},
      {"rt_sigaction", __NR_rt_sigaction, {SIGSEGV, 0, 0, 8}},
      {"rt_sigprocmask", __NR_rt_sigprocmask, {SIG_BLOCK, kData, 0, 8}},
      {"sigaltstack", __NR_sigaltstack, {0, kData}},
      {"prctl", __NR_prctl, {PR_SET_PDEATHSIG, 0}},
      {"seccomp", __NR_seccomp, {2 /* SECCOMP_GET_ACTION_AVAIL */, 0, kData}},
      {"modify_ldt", __NR_modify_ldt, {0, kData, 16}},
      {"setpriority", __NR_setpriority, {0, 0, 0}},
      {"sched_yield", __NR_sched_yield, {}},
      {"dup", __NR_dup, {TRAPLINE_RAM_FILE}},
      {"getppid", __NR_getppid, {}},
      {"timer_create", __NR_timer_create, {CLOCK_MONOTONIC, 0, kData + 0x300}},
      {"futex on another word", __NR_futex, {kData, FUTEX_WAKE, 1}},
      {"futex with another operation",
       __NR_futex,
       {TRAPLINE_MAILBOX_ADDRESS, FUTEX_CMP_REQUEUE, 1, 1, kData, 0}},
      {"getppid of the x32 interface", kX32 | __NR_getppid, {}},
      {"open of the x32 interface", kX32 | __NR_open, {kPath}},
  };
}

uint64_t try_system_call(const SystemCall& call, Confinement confinement, bool* lost) {
  Victim victim(confinement);
  victim.put(kDataOffset, call.number);
  for (size_t i = 0; i < 6; ++i)
    victim.put(kDataOffset + 8 + 8 * i, i < call.arguments.size() ? call.arguments[i] : 0);
  constexpr char kPath[] = "/etc/passwd";
  EXPECT_GT(pwrite(victim.ram(), kPath, sizeof kPath, kDataOffset + 0x200), 0);
  const NativeEvent event = victim.attack(system_call_code, system_call_code_end);
  *lost = event.kind == NativeEvent::Kind::kLost;
  if (confinement == Confinement::kFull) {
    EXPECT_EQ(victim.word(kSecretOffset), kSecret);
  }
  return victim.result();
}

TEST(ContainerAttack, SystemCallsEndTheContainer) {
  for (const SystemCall& call : system_calls()) {
    SCOPED_TRACE(call.name);
    bool lost = false;
    EXPECT_EQ(try_system_call(call, Confinement::kFull, &lost), kNothing);
    EXPECT_TRUE(lost);
    EXPECT_NE(try_system_call(call, Confinement::kNoneForTests, &lost), kNothing);
    EXPECT_FALSE(lost);
  }
}

TEST(ContainerAttack, OldSystemCallsOf64BitCodeAreEvents) {
  for (const auto confinement : {Confinement::kFull, Confinement::kNoneForTests}) {
    Victim victim(confinement);
    victim.put(kDataOffset, 20);  // getpid
    const NativeEvent event = victim.attack(int80_code, int80_code_end);
    EXPECT_EQ(event.registers.cs, 0x33);
    EXPECT_EQ(victim.result() == kNothing, confinement == Confinement::kFull);
  }
}

TEST(ContainerAttack, WhatIsNotMappedCannotBeRead) {
  for (const auto confinement : {Confinement::kFull, Confinement::kNoneForTests}) {
    Victim victim(confinement);
    if (confinement != Confinement::kFull)
      victim.container().map(0x60000000, 0x1000, native_access::kRead, kSecretOffset);
    victim.put(kDataOffset, 0x60000000);
    const NativeEvent event = victim.attack(load_code, load_code_end);
    ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
    EXPECT_EQ(event.registers.cs, 0x33);
    EXPECT_EQ(victim.result(), confinement == Confinement::kFull ? kNothing : kSecret);
  }
}

TEST(ContainerAttack, CommandsAndAcknowledgementsCannotBeForged) {
  for (const uint64_t target :
       {uint64_t{TRAPLINE_COMMANDS_ADDRESS}, uint64_t{TRAPLINE_COMMANDS_ADDRESS} + 64,
        uint64_t{TRAPLINE_STATUS_ADDRESS}, uint64_t{0x200000001000}}) {
    Victim victim(Confinement::kFull);
    victim.put(kDataOffset, target);
    const NativeEvent event = victim.attack(store_code, store_code_end);
    ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
    EXPECT_EQ(event.trap, 14u);
    EXPECT_EQ(victim.result(), kNothing);
  }
  Victim victim(Confinement::kNoneForTests);  // Its commands can be written.
  victim.put(kDataOffset, TRAPLINE_COMMANDS_ADDRESS + 64);
  victim.attack(store_code, store_code_end);
  EXPECT_EQ(victim.result(), 0u);
}

TEST(ContainerAttack, WhatRunsOnAlthoughItHasToldOtherwiseLosesItsPages) {
  for (const bool removed : {true, false}) {
    Victim victim(Confinement::kFull);
    const NativeEvent event = victim.attack(forge_code, forge_code_end);
    ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
    EXPECT_EQ(event.registers.cs, 0xffff);
    if (removed) {
      victim.container().unmap(kData, 0x1000);
      EXPECT_TRUE(victim.container().flush());
    }
    const uint64_t then = victim.result();
    for (int i = 0; i < (removed ? 3 : 500) && victim.result() == then; ++i)
      std::this_thread::sleep_for(milliseconds(10));
    EXPECT_EQ(victim.result() == then, removed);
  }
}

TEST(ContainerAttack, CodeThatBlocksSignalsIsEnded) {
  Victim victim(Confinement::kFull);
  // The part of struct rt_sigframe from its ucontext on.
  constexpr uint64_t kFrame = kDataOffset + 0x100;
  const auto place = [](int number) { return kFrame + 40 + 8 * static_cast<uint64_t>(number); };
  constexpr uint64_t kLoop = 27;  // Behind the system call.
  victim.put(place(REG_RIP), kPayload + kLoop + 2);
  victim.put(place(REG_EFL), 0x202);
  victim.put(place(REG_CSGSFS), uint64_t{0x2b} << 48 | 0x33);
  victim.put(kFrame + 40 + 256, ~uint64_t{0});  // uc_sigmask
  std::thread kicker([&] {
    std::this_thread::sleep_for(milliseconds(50));
    victim.attention_ = 1;
  });
  const auto begin = std::chrono::steady_clock::now();
  const NativeEvent event = victim.attack(sigreturn_code, sigreturn_code_end);
  kicker.join();
  EXPECT_EQ(event.kind, NativeEvent::Kind::kLost);
  const auto taken = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(taken, milliseconds(1000)) << "It answered.";
  EXPECT_LT(taken, milliseconds(8000));
}

/// Its timer is the container's to set: code that puts it out of action is stopped by kicks.
TEST(ContainerAttack, CodeThatStopsItsTimerIsKicked) {
  Victim victim(Confinement::kFull);
  for (int i = 0; i < 4; ++i) victim.put(kDataOffset + 8 * i, 0);
  std::thread kicker([&] {
    std::this_thread::sleep_for(milliseconds(800));
    victim.attention_ = 1;
  });
  const auto begin = std::chrono::steady_clock::now();
  const auto deadline = std::chrono::nanoseconds((begin + milliseconds(500)).time_since_epoch());
  const NativeEvent event =
      victim.attack(timer_code, timer_code_end, static_cast<uint64_t>(deadline.count()));
  kicker.join();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(800)) << "Its timer went off.";
  ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
  EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
  EXPECT_EQ(victim.result(), 0u) << "It could not set its timer.";
}

/// One that has itself interrupted all the time is stopped by that, or fills its signal stack and
/// is ended by the host's kernel. Neither takes long.
TEST(ContainerAttack, CodeThatFloodsItselfWithSignalsGoesNowhere) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    Victim victim(Confinement::kFull);
    for (const auto& [word, value] : {std::pair{1, 1}, std::pair{3, 1}})  // Interval, first time.
      victim.put(kDataOffset + 8 * static_cast<uint64_t>(word), static_cast<uint64_t>(value));
    const NativeEvent event = victim.attack(timer_code, timer_code_end);
    if (event.kind == NativeEvent::Kind::kEvent) {
      EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
    } else {
      EXPECT_EQ(event.kind, NativeEvent::Kind::kLost);
    }
    EXPECT_EQ(victim.word(kSecretOffset), kSecret);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(8000));
}

/// A guest process that attacks: its kernel gets a fault, and the machine goes on.
TEST(ContainerAttack, AGuestThatAttacksGetsAFault) {
  constexpr uint32_t kGuestCode = 0x10000;
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.exit_on_exceptions = ~0u;
  options.direct_execution = DirectExecution::kAlways;
  const auto machine = Machine::create(options).take();
  // mov dword [0x10020ea], 0x90003300; mov eax, 0x10002; jmp eax: into the first one's middle,
  // where a far jump is.
  const std::vector<uint8_t> code = {0xc7, 0x05, 0xea, 0x20, 0, 1, 0,    0x33, 0,
                                     0x90, 0xb8, 2,    0,    1, 0, 0xff, 0xe0};
  machine->write_memory({kGuestCode}, std::as_bytes(std::span(code)));
  const std::vector<uint8_t> payload = {0xb8, 39, 0, 0, 0, 0x0f, 0x0b, 0xeb, 0xf7};
  machine->write_memory({kGuestCode + 0x20}, std::as_bytes(std::span(payload)));
  for (int i = 0; i < 3; ++i) {
    CpuState state = CpuState::flat32(3);
    state.eip = kGuestCode;
    state.eflags |= eflags::kIf;
    state.gpr[kEsp] = 0x20800;
    machine->set_state(state);
    const Exit exit = machine->run({.time = milliseconds(8000)});
    EXPECT_EQ(exit.kind, Exit::Kind::kException);
    EXPECT_EQ(exit.fault, Fault::general_protection());
    EXPECT_EQ(machine->statistics().native_containers_lost, static_cast<uint64_t>(i + 1));
  }
}

/// Code that changes while it is translated is one thing or another, and the processor is given
/// nothing that was not looked at: SYSCALL would end this program.
TEST(ContainerAttack, WhatRunsOnDoesNotChangeCodeThatIsTranslated) {
  constexpr uint32_t kGuestCode = 0x10000;
  constexpr uint32_t kRaced = 0x12000;
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.exit_on_exceptions = ~0u;
  options.direct_execution = DirectExecution::kAlways;
  options.switches.one_processor = false;
  // A far jump in the middle of: mov dword [0x10100ea], 0x90003300. Then: mov byte [kRaced], 0xd9;
  // mov eax, 0x10002; jmp eax.
  const std::vector<uint8_t> code = {0xc7, 0x05, 0xea, 0x00, 0x01, 0x01, 0x00, 0x33,
                                     0x00, 0x90, 0xc6, 0x05, 0x00, 0x20, 0x01, 0x00,
                                     0xd9, 0xb8, 0x02, 0x00, 0x01, 0x00, 0xff, 0xe0};
  const std::vector<uint8_t> halts(32, 0xf4);
  for (int i = 0; i < 100; ++i) {
    const auto machine = Machine::create(options).take();
    machine->write_memory({kGuestCode}, std::as_bytes(std::span(code)));
    machine->write_memory({kGuestCode + 0x100}, std::as_bytes(std::span(race_code, race_code_end)));
    machine->write_memory({kRaced}, std::as_bytes(std::span(halts)));
    CpuState state = CpuState::flat32(3);
    state.eip = kGuestCode;
    state.eflags |= eflags::kIf;
    state.gpr[kEsp] = 0x20800;
    machine->set_state(state);
    EXPECT_EQ(machine->run({.time = milliseconds(8000)}).kind, Exit::Kind::kException);
    const uint32_t eip = machine->state().eip;
    EXPECT_TRUE(eip == kRaced || eip == kRaced + 2) << std::hex << eip;
  }
}

}  // namespace
}  // namespace trapline
