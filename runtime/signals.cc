#include "runtime/signals.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "runtime/crash_bundle.h"
#include "runtime/engine.h"
#include "runtime/host_ticks.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

constexpr int kKickSignal = SIGURG;  // Ignored by default, so a late one does no harm.
constexpr std::chrono::nanoseconds kKickInterval{50'000};
/// A container is sure to get the one kick, and must be given the processor to answer it.
constexpr std::chrono::nanoseconds kContainersKickInterval{5'000'000};
/// What a container's own timer has before the thread's comes after it.
constexpr uint64_t kGrace = 500'000;
constexpr int kSampleSignal = SIGPROF;

thread_local Engine* running_engine = nullptr;
thread_local std::atomic<bool> deadline_armed{false};

/// The kick timer of a thread: fires once at a deadline and then on and on until disarmed, since a
/// single kick can come too early.
struct KickTimer {
  timer_t id{};
  bool made = false;
  uint64_t due = 0;       ///< By the monotonic clock.
  bool in_grace = false;  ///< It is set to go off later than that.
  KickTarget target =
      KickTarget::kThread;  ///< Who took the last one, and is expected to take the next.

  ~KickTimer() {
    if (made) timer_delete(id);
  }
  bool make() {
    if (made) return true;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kKickSignal;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    made = timer_create(CLOCK_MONOTONIC, &event, &id) == 0;
    return made;
  }
  void arm(std::chrono::nanoseconds after) {
    due = nanoseconds_now() + static_cast<uint64_t>(std::max<int64_t>(after.count(), 0));
    in_grace = false;
    set(due);
  }
  void give_grace() {
    if (!std::exchange(in_grace, true)) set(due + kGrace);
  }
  void end_grace() {
    if (std::exchange(in_grace, false)) set(due);
  }
  /// Goes on at the pace of whom the kick was for.
  void kicked(KickTarget whom) {
    if (std::exchange(target, whom) != whom)
      set(nanoseconds_now() + static_cast<uint64_t>(interval().count()));
  }
  void disarm() {
    const itimerspec spec{};
    timer_settime(id, 0, &spec, nullptr);
  }

 private:
  void set(uint64_t when) {
    constexpr uint64_t kSecond = 1'000'000'000;
    itimerspec spec{};
    spec.it_value.tv_sec = static_cast<time_t>(when / kSecond);
    spec.it_value.tv_nsec = static_cast<long>(when % kSecond);
    spec.it_interval.tv_nsec = interval().count();
    timer_settime(id, TIMER_ABSTIME, &spec, nullptr);
  }
  std::chrono::nanoseconds interval() const {
    return target == KickTarget::kContainer ? kContainersKickInterval : kKickInterval;
  }
};
thread_local KickTimer kick_timer;

/// Engines that run, with their threads' timers, for kicks from elsewhere.
struct RunningSlot {
  std::atomic<const Engine*> engine{nullptr};
  std::atomic<timer_t> timer{};
  std::atomic<bool> kicked{false};  ///< The timer was armed from elsewhere.
};
std::array<RunningSlot, 64> running_slots;
thread_local RunningSlot* own_slot = nullptr;

struct sigaction previous_actions[NSIG];

void chain(int signal, siginfo_t* info, void* context) {
  const struct sigaction& previous = previous_actions[signal];
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    ::signal(signal, SIG_DFL);  // Returning raises it again, for the core dump.
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  if (!running_engine || !running_engine->handle_signal(signal, info, context))
    chain(signal, info, context);
  errno = saved;
}

void on_kick(int, siginfo_t* info, void* context) {
  const int saved = errno;
  if (running_engine)
    kick_timer.kicked(running_engine->kick(context));
  else if (kick_timer.made)
    kick_timer.disarm();  // From elsewhere, and too late: the run is over.
  (void)info;
  errno = saved;
}

void on_sample(int, siginfo_t*, void* context) {
  const int saved = errno;
  if (running_engine) running_engine->sample(context);
  errno = saved;
}

}  // namespace

SamplingTimer::SamplingTimer(std::chrono::nanoseconds interval) {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  action.sa_sigaction = on_sample;
  sigaction(kSampleSignal, &action, nullptr);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kSampleSignal;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  timer_t timer{};
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0) return;
  timer_ = timer;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(interval);
  const timespec period{seconds.count(), static_cast<long>((interval - seconds).count())};
  const itimerspec spec{period, period};
  timer_settime(timer, 0, &spec, nullptr);
}

SamplingTimer::~SamplingTimer() {
  if (timer_) timer_delete(*timer_);
}

Result<void> install_signal_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, kKickSignal);
    sigaddset(&action.sa_mask, kSampleSignal);  // A sample is of what a handler interrupted.
    action.sa_sigaction = on_fault;
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP})
      sigaction(signal, &action, &previous_actions[signal]);
    action.sa_sigaction = on_kick;
    sigaction(kKickSignal, &action, &previous_actions[kKickSignal]);
  });
  return {};
}

RunningEngine::RunningEngine(Engine& engine, std::optional<std::chrono::nanoseconds> deadline)
    : previous_(running_engine) {
  running_engine = &engine;
  previous_hook_ = set_assertion_hook({write_crash_bundle, &engine});
  if (!kick_timer.make()) {
    ok_ = false;
    return;
  }
  if (!own_slot) {
    for (RunningSlot& slot : running_slots) {
      const Engine* none = nullptr;
      if (slot.engine.compare_exchange_strong(none, &engine)) {
        own_slot = &slot;
        break;
      }
    }
  }
  if (own_slot) {
    own_slot->timer = kick_timer.id;
    own_slot->engine = &engine;
  }
  deadline_armed = deadline.has_value();
  timed_ = deadline.has_value();
  if (deadline) kick_timer.arm(*deadline);
}

void change_deadline(std::chrono::nanoseconds after) {
  if (deadline_armed) kick_timer.arm(std::max(after, std::chrono::nanoseconds(1)));
}

uint64_t leave_deadline_to_container() {
  if (!deadline_armed) return 0;
  kick_timer.give_grace();
  return kick_timer.due;
}

void take_deadline_back() {
  if (deadline_armed) kick_timer.end_grace();
}

RunningEngine::~RunningEngine() {
  set_assertion_hook(previous_hook_);
  const bool kicked = own_slot && own_slot->kicked.exchange(false);
  if (timed_ || kicked) kick_timer.disarm();
  deadline_armed = false;
  if (own_slot && !previous_) {
    own_slot->engine = nullptr;
    own_slot = nullptr;
  }
  running_engine = previous_;
}

void kick_thread_of(const Engine& engine) {
  for (RunningSlot& slot : running_slots)
    if (slot.engine == &engine) {
      slot.kicked = true;
      itimerspec spec{};
      spec.it_value.tv_nsec = 1;
      spec.it_interval.tv_nsec = kKickInterval.count();
      timer_settime(slot.timer, 0, &spec, nullptr);
    }
}

void forget_engine(const Engine& engine) {
  for (RunningSlot& slot : running_slots) {
    const Engine* expected = &engine;
    slot.engine.compare_exchange_strong(expected, nullptr);
  }
}

void Engine::request_stop() {
  stop_requested_ = true;
  kick_thread_of(*this);
}

KickTarget Engine::kick(void* context) {
  counters_.kicks.fetch_add(1, std::memory_order_relaxed);
  if (!stop_requested_ && deadline_armed) deadline_passed_ = true;
  HotFields& hot = context_->hot;
  hot.attention = 1;
  const Container* running = native_running_;
  if (running) running->kick();
  context_->loop.end_loops();
  hot.exec_table = reinterpret_cast<uint64_t>(execution_views_->empty_table());
  const auto* machine = static_cast<ucontext_t*>(context);
  const auto pc = static_cast<uint64_t>(machine->uc_mcontext.gregs[REG_RIP]);
  if (code_memory_->contains(pc))
    if (const Block* block = cache_->block_at(pc)) cache_->cut_exits(*block);
  return running ? KickTarget::kContainer : KickTarget::kThread;
}

void Engine::sample(const void* context) {
  const auto* machine = static_cast<const ucontext_t*>(context);
  const auto pc = static_cast<uint64_t>(machine->uc_mcontext.gregs[REG_RIP]);
  auto& where = !code_memory_->contains(pc) ? samples_.engine
                : context_->cpu.cpl == 3    ? samples_.user
                                            : samples_.kernel;
  where.fetch_add(1, std::memory_order_relaxed);
}

bool Engine::handle_signal(int signal, void* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto pc = static_cast<uint64_t>(registers[REG_RIP]);
  if (!code_memory_->contains(pc)) return false;
  const Block* block = cache_->block_at(pc);
  if (!block) return false;
  (void)info;
  (void)signal;
  const CodeRecord& record = cache_->record_at(*block, pc);
  if (!record.flags_saved)
    registers[REG_R11] = to_saved_flags(static_cast<uint32_t>(registers[REG_EFL]));
  signal_trap_ = static_cast<int>(registers[REG_TRAPNO]);
  signal_pc_ = pc;
  registers[REG_RIP] = static_cast<greg_t>(thunks_.signal_exit);
  return true;
}

uint64_t Engine::handle_signal_exit() {
  locate(signal_pc_ + 1);
  context_->gate_from = 0;
  switch (static_cast<Vector>(signal_trap_)) {
    case Vector::kDivide:
      return raise(Fault::plain(Vector::kDivide));
    case Vector::kX87:
      return raise_x87();
    case Vector::kSimd:
      return raise(Fault::plain(context_->cpu.cr4 & cr4::kOsxmmexcpt ? Vector::kSimd
                                                                     : Vector::kInvalidOpcode));
    case Vector::kInvalidOpcode:
      return raise(Fault::invalid_opcode());
    case Vector::kGeneralProtection:
      return raise(Fault::general_protection());
    default:
      TRAPLINE_ASSERT(!"translated code made the host fault");
      return 0;
  }
}

}  // namespace trapline
