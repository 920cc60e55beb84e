#include "runtime/native/host_features.h"

#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>

#include "runtime/native/container.h"
#include "runtime/native/processor_limit.h"
#include "vcpu/host_x87.h"
#include "vcpu/huge_pages.h"

namespace trapline {

namespace {

constexpr int kWorks = 42;  ///< A child's exit status: the feature is there.
constexpr unsigned kPatience = 5;
constexpr uint32_t kCompatibilityCs = 0x23;
constexpr uint32_t kFlatData = 0x2b;

/// Runs a probe in a child process, which may die of it.
bool works_in_child(void (*probe)()) {
  const pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) {
    for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    alarm(kPatience);
    probe();
    _exit(1);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == kWorks;
}

/// A page below 4 GiB for code.
uint8_t* low_page() {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  return page == MAP_FAILED ? nullptr : static_cast<uint8_t*>(page);
}

std::array<uint8_t, 16384> signal_stack;

void handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  const stack_t stack{signal_stack.data(), 0, signal_stack.size()};
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(signal, &action, nullptr);
}

/// Goes on at the code, in 32-bit mode, with a stack in the same page.
[[noreturn]] void enter_compatibility_mode(uint8_t* code) {
  const uint64_t target = reinterpret_cast<uint64_t>(code);
  asm volatile("push %[ss]\n push %[sp]\n pushfq\n push %[cs]\n push %[ip]\n iretq"
               :
               : [ss] "r"(uint64_t{kFlatData}), [sp] "r"(target + 4096),
                 [cs] "r"(uint64_t{kCompatibilityCs}), [ip] "r"(target)
               : "memory");
  __builtin_unreachable();
}

/// 32-bit code that marks a register and stops at an illegal instruction.
void probe_segments() {
  uint8_t* page = low_page();
  if (!page) return;
  // 48 is DEC EAX in 32-bit code, and a prefix in 64-bit code.
  constexpr std::array<uint8_t, 9> kCode = {0xb8, 8, 0, 0, 0, 0x48, 0x90, 0x0f, 0x0b};
  std::memcpy(page, kCode.data(), kCode.size());
  handle(SIGILL, [](int, siginfo_t*, void* context) {
    const auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const bool compatible = (registers[REG_CSGSFS] & 0xffff) == kCompatibilityCs;
    _exit(compatible && registers[REG_RAX] == 7 ? kWorks : 1);
  });
  enter_compatibility_mode(page);
}

void probe_ldt() {
  uint8_t* page = low_page();
  if (!page) return;
  page[16] = kWorks;
  user_desc entry{};
  entry.entry_number = 3;
  entry.base_addr = static_cast<uint32_t>(reinterpret_cast<uint64_t>(page));
  entry.limit = 16;
  entry.seg_32bit = 1;
  entry.useable = 1;
  if (syscall(SYS_modify_ldt, 1, &entry, sizeof entry) != 0) return;
  uint32_t value = 0;
  asm volatile("mov %[selector], %%gs\n movzbl %%gs:16, %[value]"
               : [value] "=r"(value)
               : [selector] "r"(uint32_t{3 << 3 | 7}));
  _exit(value == kWorks ? kWorks : 1);
}

void probe_seccomp() {
  std::array<sock_filter, 4> program = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  handle(SIGSYS, [](int, siginfo_t*, void*) { _exit(kWorks); });
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) return;
  syscall(SYS_getpid);
}

/// Code in a memfd, mapped below 4 GiB for execution.
void probe_memfd_mapping() {
  const int file = memfd_create("trapline-probe", MFD_CLOEXEC);
  constexpr std::array<uint8_t, 6> kCode = {0xb8, kWorks, 0, 0, 0, 0xc3};
  if (file < 0 || write(file, kCode.data(), kCode.size()) != static_cast<ssize_t>(kCode.size()))
    return;
  void* code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, file, 0);
  if (code == MAP_FAILED) return;
  _exit(reinterpret_cast<int (*)()>(code)());
}

void probe_huge_pages() {
  const int file = memfd_create("trapline-probe", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, kHugePage) != 0) return;
  auto* page = static_cast<volatile char*>(map_aligned(file, kHugePage, PROT_READ | PROT_WRITE));
  if (!page) return;
  *page = 1;
  if (make_huge(const_cast<char*>(page))) _exit(kWorks);
}

/// Ends the child as one that works if the container has it.
template <typename Has>
void probe_in_container(Has has) {
  const int ram = memfd_create("trapline-probe", MFD_CLOEXEC);
  if (ram < 0) return;
  const auto files = ContainerFiles::create(ram);
  if (!files.ok()) return;
  const auto container = Container::start(*files.value());
  if (container.ok() && has(*container.value())) _exit(kWorks);
}

void probe_container() {
  probe_in_container([](Container&) { return true; });
}
void probe_cpuid_fault() {
  probe_in_container([](Container& container) { return container.cpuid_faults(); });
}
void probe_watch() {
  probe_in_container([](Container& container) { return container.watch(0, 0); });
}

HostFeature cpuid() {
  const char* way = works_in_child(probe_cpuid_fault) ? "faults"
                    : works_in_child(probe_watch)     ? "watched"
                                                      : "translated";
  return {"CPUID", way, "how guest code is kept from the host's", false};
}

HostFeature yes_or_no(std::string name, bool there, std::string needed_for) {
  return {std::move(name), there ? "yes" : "no", std::move(needed_for), !there};
}

std::optional<long> setting(const char* path) {
  std::ifstream file(path);
  long value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

HostFeature number(std::string name, const char* path, const char* remark) {
  const auto value = setting(path);
  return {std::move(name), value ? std::to_string(*value) : "none", remark, false};
}

std::string tenths(double value) {
  const int all = static_cast<int>(value * 10);
  return std::to_string(all / 10) + "." + std::to_string(all % 10);
}

HostFeature processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const double granted = processors_granted();
  std::string value = std::to_string(count);
  if (granted < count) value += ", of which " + tenths(granted) + " granted";
  const bool two = count >= 2 && granted >= 2;
  return {"processors", std::move(value),
          two ? "Trapline and a container take turns on one, or have two"
              : "Trapline and a container take turns on one",
          false};
}

}  // namespace

std::vector<HostFeature> probe_host_features() {
  return {
      yes_or_no("32-bit segments", works_in_child(probe_segments), "guest code runs in them"),
      yes_or_no("modify_ldt", works_in_child(probe_ldt), "for the guest's %fs and %gs"),
      yes_or_no("seccomp filters", works_in_child(probe_seccomp), "they confine guest code"),
      yes_or_no("executable memfd", works_in_child(probe_memfd_mapping),
                "the guest's memory is mapped from one"),
      yes_or_no("container", works_in_child(probe_container), "a process for guest code starts"),
      number("vm.mmap_min_addr", "/proc/sys/vm/mmap_min_addr",
             "guest pages below it stay translated"),
      number("vm.max_map_count", "/proc/sys/vm/max_map_count",
             "more mappings than that are evicted"),
      number("vm.memfd_noexec", "/proc/sys/vm/memfd_noexec",
             "2 forbids to start a program from memory"),
      number("kernel.yama.ptrace_scope", "/proc/sys/kernel/yama/ptrace_scope",
             "of no consequence: nothing is traced"),
      {"huge pages", works_in_child(probe_huge_pages) ? "gathered" : "none",
       "for what is used of the guest's memory and of translated code", false},
      processors(),
      cpuid(),
      {"x87 pointers", host_saves_x87_pointers() ? "kept" : "lost",
       "guests' FIP, FDP and FOP, when the host switches between threads", false},
  };
}

}  // namespace trapline
