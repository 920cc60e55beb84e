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

#include "runtime/crash_bundle.h"
#include "runtime/engine.h"
#include "runtime/host_ticks.h"
#include "runtime/kick_timer.h"
#include "translator/table_jump.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

constexpr int kKickSignal = SIGURG;  // Ignored by default, so a late one does no harm.
constexpr int kSampleSignal = SIGPROF;

thread_local Engine* running_engine = nullptr;

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

uint64_t from_now(std::chrono::nanoseconds after) {
  return nanoseconds_now() + static_cast<uint64_t>(std::max<int64_t>(after.count(), 1));
}

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
  const bool from_elsewhere = own_slot && own_slot->kicked;
  if (!running_engine) {
    kick_timer.lost();  // Set from elsewhere, perhaps, and too late: the run is over.
    kick_timer.disarm();
  } else if (from_elsewhere || !kick_timer.too_early()) {
    kick_timer.kicked(running_engine->kick(context));
  }
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
  if (!kick_timer.make(kKickSignal)) {
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
    own_slot->timer = kick_timer.id();
    own_slot->engine = &engine;
  }
  if (deadline)
    kick_timer.arm(from_now(*deadline));
  else
    kick_timer.disarm();
}

void change_deadline(std::chrono::nanoseconds after) {
  if (kick_timer.armed()) kick_timer.arm(from_now(after));
}

uint64_t leave_deadline_to_container() {
  if (!kick_timer.armed()) return 0;
  kick_timer.lend();
  return kick_timer.due();
}

bool deadline_is_left_to_container() {
  return kick_timer.lent();
}

void take_deadline_back() {
  kick_timer.take_back();
}

void forget_deadline() {
  kick_timer.disarm();
}

RunningEngine::~RunningEngine() {
  set_assertion_hook(previous_hook_);
  kick_timer.leave();
  if (kick_timer.retries()) kick_timer.disarm();  // Nobody is left to be kicked.
  if (own_slot && own_slot->kicked.exchange(false)) kick_timer.lost();
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
      KickTimer::go_off(slot.timer);
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

Kick Engine::kick(void* context) {
  counters_.kicks.fetch_add(1, std::memory_order_relaxed);
  if (!stop_requested_ && kick_timer.armed()) {
    deadline_passed_ = true;
    if (brief_entries_ != 0 && !native_running_) not_brief_ = kNotBrief;
  }
  HotFields& hot = context_->hot;
  hot.attention = 1;
  const Container* running = native_running_;
  if (running) running->kick();
  context_->loop.end_loops();
  hot.exec_table = reinterpret_cast<uint64_t>(execution_views_->empty_table());
  const auto* machine = static_cast<ucontext_t*>(context);
  const auto pc = static_cast<uint64_t>(machine->uc_mcontext.gregs[REG_RIP]);
  if (running) return Kick::kNoticed;
  const Block* block = code_memory_->contains(pc) ? cache_->block_at(pc) : nullptr;
  if (!block) return Kick::kTooSoon;
  cache_->cut_exits(*block);
  // What it has read of the execution table already is not the empty one's.
  const uint64_t left = block->bytes_left(pc);
  return jumps_by_table({reinterpret_cast<const uint8_t*>(pc), left}) ? Kick::kTooSoon
                                                                      : Kick::kNoticed;
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
