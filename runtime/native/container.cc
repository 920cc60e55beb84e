#include "runtime/native/container.h"

#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "runtime/native/container_image.h"
#include "runtime/native/placement.h"
#include "runtime/native/silence.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr unsigned kExecutableFile = 0x10;  ///< MFD_EXEC, which older kernels refuse.
constexpr int kFirstFile = 10;              ///< Clear of the numbers that the program expects.
constexpr milliseconds kStartPatience{10'000};
constexpr milliseconds kKickPatience{2'000};
constexpr milliseconds kLook{5};  ///< How often a silent container is looked at.
// In a container there is no clock but the time stamp counter. Its rate need not be known well.
constexpr uint32_t kTicksPerNanosecond = 3;
constexpr uint32_t kBriefTicks = Placement::kBriefLooks * kTicksPerNanosecond;
constexpr uint32_t kContainerTicks = Placement::kContainerLooks * kTicksPerNanosecond;
constexpr nanoseconds kBriefLooks{Placement::kBriefLooks};
/// Who sleeps until a deadline wants to be awake then, and is woken up late.
constexpr nanoseconds kAwakeBefore{100'000};
constexpr nanoseconds kLeastSleep{30'000};
constexpr nanoseconds kLooksAtDeadline = 2 * kAwakeBefore;

Error refused(const char* what) {
  return {ExitStatus::kHost, std::string("the host gives no container for native execution (") +
                                 what + ": " + std::strerror(errno) + ")"};
}

long futex(const volatile uint32_t* word, int operation, uint32_t value, const timespec* time) {
  return syscall(SYS_futex, word, operation, value, time, nullptr, 0);
}

void futex_wait(const volatile uint32_t* word, uint32_t value, nanoseconds time) {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec span{time.count() / kSecond, time.count() % kSecond};
  futex(word, FUTEX_WAIT, value, &span);
}

uint32_t load(const volatile uint32_t& word) {
  return __atomic_load_n(&word, __ATOMIC_SEQ_CST);
}
void store(uint32_t& word, uint32_t value) {
  __atomic_store_n(&word, value, __ATOMIC_SEQ_CST);
}

/// With one, looking again and again keeps the other side from running.
bool several_processors() {
  static const bool several = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 1;
  }();
  return several;
}

bool reaped(pid_t pid) {
  int status = 0;
  const pid_t result = waitpid(pid, &status, WNOHANG | __WALL);
  return result == pid || (result < 0 && errno == ECHILD);
}

/// Everything between the fork and the new program; the parent's memory is shared meanwhile.
[[noreturn]] void become_container(int control, int ram, int program) {
  static char name[] = "trapline-container";
  static char* const arguments[] = {name, nullptr};
  static char* const environment[] = {nullptr};
  setsid();  // Keys of a terminal concern Trapline alone.
  if (dup2(control, TRAPLINE_CONTROL_FILE) >= 0 && dup2(ram, TRAPLINE_RAM_FILE) >= 0)
    syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
  _exit(127);
}

/// vfork() with every signal blocked: a handler must not run in memory that two processes have.
[[gnu::noinline]] pid_t spawn(int control, int ram, int program) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = vfork();
  if (child == 0) become_container(control, ram, program);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return child;
}

cpu_set_t only(int processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(processor), &one);
  return one;
}

bool put(pid_t pid, const cpu_set_t& processors) {
  return sched_setaffinity(pid, sizeof processors, &processors) == 0;
}

bool is_low(uint64_t address, uint64_t bytes) {
  return address % 4096 == 0 && bytes % 4096 == 0 && bytes != 0 &&
         address < Container::kLowMemory && bytes <= Container::kLowMemory - address;
}

perf_event_attr watch_at(uint32_t address) {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_BREAKPOINT;
  attributes.size = sizeof attributes;
  attributes.bp_type = HW_BREAKPOINT_X;
  attributes.bp_addr = address;
  attributes.bp_len = sizeof(long);
  attributes.sample_period = 1;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  attributes.sigtrap = 1;
  attributes.remove_on_exec = 1;
  return attributes;
}

}  // namespace

// --- files -------------------------------------------------------------------------------------

Result<std::unique_ptr<ContainerFiles>> ContainerFiles::create(int ram_file) {
  std::unique_ptr<ContainerFiles> files(new ContainerFiles);
  int made = memfd_create("trapline-container", MFD_CLOEXEC | kExecutableFile);
  if (made < 0) made = memfd_create("trapline-container", MFD_CLOEXEC);
  if (made < 0) return refused("memfd_create");
  files->program_ = fcntl(made, F_DUPFD_CLOEXEC, kFirstFile);
  close(made);
  files->ram_ = fcntl(ram_file, F_DUPFD_CLOEXEC, kFirstFile);
  if (files->program_ < 0 || files->ram_ < 0) return refused("file descriptors");
  std::span<const std::byte> image = container_image();
  while (!image.empty()) {
    const ssize_t written = write(files->program_, image.data(), image.size());
    if (written <= 0) return refused("memfd");
    image = image.subspan(static_cast<size_t>(written));
  }
  return files;
}

ContainerFiles::~ContainerFiles() {
  if (program_ >= 0) close(program_);
  if (ram_ >= 0) close(ram_);
}

// --- start and end -----------------------------------------------------------------------------

Result<std::unique_ptr<Container>> Container::start(const ContainerFiles& files,
                                                    Confinement confinement) {
  std::unique_ptr<Container> container(new Container);
  if (auto launched = container->launch(files, confinement); !launched.ok())
    return launched.error();
  return container;
}

Result<void> Container::launch(const ContainerFiles& files, Confinement confinement) {
  const int made = memfd_create("trapline-mailbox", MFD_CLOEXEC);
  if (made < 0) return refused("memfd_create");
  const int control = fcntl(made, F_DUPFD_CLOEXEC, kFirstFile);
  close(made);
  if (control < 0) return refused("file descriptors");
  if (ftruncate(control, TRAPLINE_SHARED_BYTES) != 0) {
    close(control);
    return refused("memfd");
  }
  void* shared =
      mmap(nullptr, TRAPLINE_SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, control, 0);
  if (shared == MAP_FAILED) {
    close(control);
    return refused("mmap");
  }
  auto* bytes = static_cast<std::byte*>(shared);
  commands_ = reinterpret_cast<NativeCommands*>(bytes + TRAPLINE_COMMANDS_OFFSET);
  status_ = reinterpret_cast<const volatile NativeStatus*>(bytes + TRAPLINE_STATUS_OFFSET);
  mailbox_ = reinterpret_cast<NativeMailbox*>(bytes + TRAPLINE_MAILBOX_OFFSET);
  commands_->trapline_pid = static_cast<uint32_t>(getpid());
  commands_->one = 1;
  commands_->unconfined = confinement == Confinement::kNoneForTests;
  if (several_processors()) {
    look_for(kBriefLooks);
    container_looks_ = kBriefTicks;
  }
  mailbox_->looks = container_looks_;
  store(mailbox_->stopped, ~0u);
  pid_ = spawn(control, files.ram(), files.program());
  close(control);
  if (pid_ < 0) return refused("fork");
  const auto does_not_start = [] {
    return Error{ExitStatus::kHost,
                 "the host gives no container for native execution (its program does not start)"};
  };
  if (!wait_stopped(0, nullptr, kStartPatience)) return does_not_start();
  open_watches();
  go_on();
  if (!wait_stopped(ticket_, nullptr, kStartPatience)) return does_not_start();
  mapper_pid_ = static_cast<pid_t>(mailbox_->mapper_pid);  // Of before any guest code ran.
  cpuid_faults_ = mailbox_->cpuid_faults != 0;
  if (mailbox_->signal != TRAPLINE_READY || mapper_pid_ <= 0) {
    lost_ = true;
    return does_not_start();
  }
  return {};
}

Container::~Container() {
  end();
  if (commands_) munmap(commands_, TRAPLINE_SHARED_BYTES);
}

void Container::end() {
  lost_ = true;
  for (int& file : watches_)
    if (file >= 0) close(std::exchange(file, -1));
  // Its group is its own, and holds whatever it has started.
  if (pid_ > 0) ::kill(-pid_, SIGKILL);
  for (pid_t* pid : {&pid_, &mapper_pid_}) {
    if (*pid <= 0) continue;
    ::kill(*pid, SIGKILL);
    int status = 0;
    while (waitpid(*pid, &status, __WALL) < 0 && errno == EINTR) {
    }
    *pid = -1;
  }
}

/// A half that is gone takes the other one with it.
bool Container::still_alive() {
  if (lost_) return false;
  const bool gone = reaped(pid_);
  const bool mapper_gone = mapper_pid_ > 0 && reaped(mapper_pid_);
  if (gone) pid_ = -1;
  if (mapper_gone) mapper_pid_ = -1;
  if (gone || mapper_gone) end();
  return !lost_;
}

// --- mappings ----------------------------------------------------------------------------------

void Container::add(const NativeCommand& command) {
  if (pending_ == TRAPLINE_MAX_COMMANDS) flush();
  if (lost_) return;
  commands_->command[pending_++] = command;
}

void Container::map(uint64_t address, uint64_t bytes, uint32_t access, uint64_t ram_offset) {
  TRAPLINE_ASSERT(is_low(address, bytes));
  add({TRAPLINE_MAP, access, address, bytes, ram_offset});
}

void Container::unmap(uint64_t address, uint64_t bytes) {
  TRAPLINE_ASSERT(is_low(address, bytes));
  add({TRAPLINE_UNMAP, 0, address, bytes, 0});
}

void Container::protect(uint64_t address, uint64_t bytes, uint32_t access) {
  TRAPLINE_ASSERT(is_low(address, bytes));
  add({TRAPLINE_PROTECT, access, address, bytes, 0});
}

void Container::describe(uint32_t slot, uint32_t base, uint32_t limit) {
  user_desc entry{};
  entry.entry_number = slot;
  entry.base_addr = base;
  entry.limit_in_pages = limit > 0xfffff;
  entry.limit = entry.limit_in_pages ? limit >> 12 : limit;
  entry.seg_32bit = 1;
  entry.useable = 1;
  add_descriptor(entry);
}

void Container::describe_above(uint32_t slot, uint32_t page) {
  user_desc entry{};
  entry.entry_number = slot;
  entry.limit_in_pages = 1;
  entry.limit = page;
  entry.contents = MODIFY_LDT_CONTENTS_STACK;  // Expands down: what the limit spans is not in it.
  entry.seg_32bit = 1;
  entry.useable = 1;
  add_descriptor(entry);
}

void Container::describe_unreadable_code(uint32_t slot) {
  user_desc entry{};
  entry.entry_number = slot;
  entry.limit_in_pages = 1;
  entry.limit = 0xfffff;
  entry.contents = MODIFY_LDT_CONTENTS_CODE;
  entry.read_exec_only = 1;
  entry.seg_32bit = 1;
  entry.useable = 1;
  add_descriptor(entry);
}

void Container::add_descriptor(const user_desc& entry) {
  NativeCommand command{TRAPLINE_DESCRIPTOR, 0, 0, 0, 0};
  static_assert(sizeof entry == 16 &&
                offsetof(NativeCommand, offset) == offsetof(NativeCommand, address) + sizeof entry);
  std::memcpy(&command.address, &entry, sizeof entry);
  add(command);
}

/// As long as the host lets an ordinary user look into the process; later they are only moved.
void Container::open_watches() {
  perf_event_attr attributes = watch_at(0);
  attributes.disabled = 1;
  for (int& file : watches_)
    file = static_cast<int>(
        syscall(SYS_perf_event_open, &attributes, pid_, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

void Container::unwatch(uint32_t slot) {
  if (watches_[slot] >= 0) ioctl(watches_[slot], PERF_EVENT_IOC_DISABLE, 0);
}

bool Container::watch(uint32_t slot, uint32_t address) {
  perf_event_attr attributes = watch_at(address);
  return !lost_ && watches_[slot] >= 0 &&
         ioctl(watches_[slot], PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attributes) == 0;
}

/// Hands the collected changes to the mapper.
void Container::post(uint32_t starts) {
  commands_->count = pending_;
  commands_->starts = starts;
  commands_->ticket = ticket_;
  pending_ = 0;
  store(commands_->sequence, ++sequence_);
  futex(&commands_->sequence, FUTEX_WAKE, 1, nullptr);
}

bool Container::carried_out() const {
  return load(status_->done) == sequence_ && load(status_->failed) == 0;
}

/// Waits for the mapper. False when it has failed, or is gone.
bool Container::acknowledged() {
  for (;;) {
    const uint32_t done = load(status_->done);
    if (done == sequence_) break;
    futex_wait(&status_->done, done, kLook);
    if (load(status_->done) != sequence_ && !still_alive()) return false;
  }
  if (load(status_->failed) != 0) end();
  return !lost_;
}

bool Container::flush() {
  if (pending_ == 0 || lost_) return !lost_;
  post(TRAPLINE_STARTS_NOTHING);
  return acknowledged();
}

// --- running -----------------------------------------------------------------------------------

void Container::stop_looking() {
  mailbox_->looks = 0;
}

void Container::move_to(int processor) {
  if ((processor == processor_ && !apart_) || lost_) return;
  look_for(nanoseconds{0});
  container_looks_ = 0;
  stop_looking();  // Before it is here.
  const cpu_set_t here = only(processor);
  if (!put(pid_, here) || !put(mapper_pid_, here)) return;
  processor_ = processor;
  apart_ = false;
}

void Container::move_apart(int processor, const cpu_set_t& others) {
  if ((processor == processor_ && apart_ && CPU_EQUAL(&others, &others_)) || lost_) return;
  if (!put(pid_, others) || !put(mapper_pid_, only(processor))) return;
  processor_ = processor;
  others_ = others;
  apart_ = true;
  look_for(nanoseconds{Placement::kThreadLooks});
  container_looks_ = kContainerTicks;
}

void Container::kick() const {
  // Where it has stopped already, the signal would end its next stay.
  if (pid_ > 0 && load(mailbox_->stopped) != ticket_) ::kill(pid_, TRAPLINE_KICK_SIGNAL);
}

bool Container::looks_stopped(uint32_t ticket, nanoseconds time) {
  constexpr int kBetweenClocks = 32;
  if (time <= nanoseconds{0}) return load(mailbox_->stopped) == ticket;
  const auto begin = steady_clock::now();
  auto now = begin;
  do {
    for (int i = 0; i < kBetweenClocks; ++i) {
      if (load(mailbox_->stopped) == ticket) return true;
      __builtin_ia32_pause();
    }
    now = steady_clock::now();
    if (kick_at_ && now >= *kick_at_) {
      kick_at_.reset();
      kick();
    }
  } while (now - begin < time);
  return false;
}

void Container::sleep_while_running(uint32_t ticket, std::chrono::nanoseconds time) {
  store(mailbox_->trapline_waits, 1);
  const uint32_t stopped = load(mailbox_->stopped);
  if (stopped != ticket) futex_wait(&mailbox_->stopped, stopped, time);
  store(mailbox_->trapline_waits, 0);
}

/// Waits for the mailbox to say so. The processes are looked at every now and then; what the
/// mailbox holds decides nothing but how long that takes.
bool Container::wait_stopped(uint32_t ticket, const volatile uint8_t* attention,
                             std::chrono::nanoseconds patience,
                             const std::function<void()>& meanwhile) {
  if (looks_stopped(ticket, looks_)) return true;
  if (apart_ && meanwhile) meanwhile();
  std::optional<Silence> silence;  // Since something was wanted of it.
  auto looked = steady_clock::now();
  for (;;) {
    nanoseconds time = kLook;
    if (kick_at_) {
      const nanoseconds left = *kick_at_ - kAwakeBefore - steady_clock::now();
      if (left > kLeastSleep)
        time = std::min(time, left);
      else if (looks_stopped(ticket, kLooksAtDeadline))
        return true;
    }
    sleep_while_running(ticket, time);
    if (load(mailbox_->stopped) == ticket) return true;
    const auto now = steady_clock::now();
    // A deadline comes soon, or a signal came, of which the container was kicked, too.
    if (now - looked < kLook) continue;
    looked = now;
    if (!still_alive()) return false;
    if (attention && *attention == 0) continue;
    if (attention) kick();
    const ProcessUse use = ProcessUse::of(pid_);
    if (!silence) silence.emplace(now, use);
    silence->look(now, use);
    if (silence->length() > patience) {
      silent_ = true;
      end();
      return false;
    }
  }
}

void Container::go_on() {
  store(mailbox_->go, ++ticket_);
  if (load(mailbox_->container_waits)) futex(&mailbox_->go, FUTEX_WAKE, 1, nullptr);
}

NativeEvent Container::run(const NativeRegisters& registers, const volatile uint8_t& attention,
                           uint64_t deadline, const std::function<void()>& meanwhile) {
  NativeEvent event;
  event.kind = NativeEvent::Kind::kNotStarted;
  const uint64_t begin = __rdtsc();
  const auto now = steady_clock::now();
  if (now - looked_at_ > kLook && !still_alive()) return event;
  // The mapper itself goes on to the container: one turn less.
  const bool by_mapper = processor_ >= 0 && pending_ != 0 && !lost_;
  if (!by_mapper && !flush()) return event;
  std::memcpy(&mailbox_->registers, &registers, sizeof registers);
  mailbox_->looks = container_looks_;
  // A thread that is awake kicks: the other processor need not set a timer, nor take its interrupt.
  mailbox_->deadline = apart_ ? 0 : deadline;
  kick_at_.reset();
  if (apart_ && deadline != 0) kick_at_.emplace(nanoseconds(deadline));
  mailbox_->began = 0;
  if (by_mapper) {
    ++ticket_;
    post(apart_ ? TRAPLINE_STARTS_GUEST_AND_TELLS : TRAPLINE_STARTS_GUEST);
  } else {
    go_on();
  }
  if (attention != 0) kick();  // What came before there was anything to stop went nowhere.
  // Who looks at the mailbox keeps the mapper, which is here, too, from its work.
  const bool may_look = !by_mapper || !apart_ || acknowledged();
  const bool stopped = may_look && wait_stopped(ticket_, &attention, kKickPatience, meanwhile);
  if (by_mapper && !acknowledged() && !carried_out()) return event;
  // Killed before guest code went on, unless that does not answer.
  if (!stopped && !silent_ && mailbox_->began == 0) return event;
  event.kind = NativeEvent::Kind::kLost;
  if (!stopped || lost_) return event;
  looked_at_ = now;
  event.kind = NativeEvent::Kind::kEvent;
  event.signal = mailbox_->signal;
  event.trap = mailbox_->trap;
  event.error = mailbox_->error;
  event.address = mailbox_->address;
  event.ticks = __rdtsc() - begin;
  event.guest_ticks = std::min(mailbox_->ended - mailbox_->began, event.ticks);
  std::memcpy(&event.registers, &mailbox_->registers, sizeof event.registers);
  return event;
}

}  // namespace trapline
