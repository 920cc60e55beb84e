// What a container costs: handing over and back, mapping, and the time from a kick, or a timer, to
// the stop. `place` is where the calling thread and the container run: as the kernel chooses (0),
// on one processor (1), or on two, where they look at the mailbox for longer (2). A Google
// Benchmark program.
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "runtime/native/container.h"
#include "runtime/native/held_processor.h"

namespace trapline {
namespace {

constexpr uint32_t kCode = 0x400000;
constexpr std::chrono::milliseconds kDeadline{1};
constexpr uint64_t kRamBytes = 64 << 20;

/// Where thread and container run: as the kernel chooses, on one processor, or on two.
enum Place : int64_t { kKernels, kTogether, kApart };

/// A container that has the first page of its RAM, with this code.
class Setup {
 public:
  explicit Setup(std::initializer_list<uint8_t> code, const benchmark::State& state) {
    ask_for_short_slices();
    ram_ = memfd_create("native_bench", MFD_CLOEXEC);
    if (ram_ < 0 || ftruncate(ram_, kRamBytes) != 0 ||
        pwrite(ram_, code.begin(), code.size(), 0) != static_cast<ssize_t>(code.size()))
      return;
    auto files = ContainerFiles::create(ram_);
    if (!files.ok()) return;
    files_ = files.take();
    auto started = Container::start(*files_);
    if (!started.ok()) return;
    container_ = started.take();
    container_->map(kCode, 4096, native_access::kRead | native_access::kExecute, 0);
    container_->flush();
    if (state.range(0) == kKernels) return;
    const int here = processor_.hold(0);
    const cpu_set_t others = processor_.others();
    if (here < 0) return;
    if (state.range(0) == kTogether)
      container_->move_to(here);
    else if (CPU_COUNT(&others) > 0)
      container_->move_apart(here, others);
    else
      container_.reset();
  }
  ~Setup() {
    processor_.release();
    if (ram_ >= 0) close(ram_);
  }
  Container* operator->() const { return container_.get(); }
  Container* container() const { return container_.get(); }
  explicit operator bool() const { return container_ != nullptr; }

  static NativeRegisters registers() {
    NativeRegisters out{};
    out.eip = kCode;
    out.eflags = 0x202;
    out.cs = TRAPLINE_FLAT_CS;
    out.ss = out.ds = out.es = TRAPLINE_FLAT_DATA;
    out.fpu[0] = 0x7f;  // FNINIT's control word and MXCSR's first value.
    out.fpu[1] = 0x03;
    out.fpu[24] = 0x80;
    out.fpu[25] = 0x1f;
    return out;
  }

 private:
  int ram_ = -1;
  std::unique_ptr<ContainerFiles> files_;
  HeldProcessor processor_;
  std::unique_ptr<Container> container_;
};

constexpr const char* kRefused = "the host gives no container";

void container_round_trip(benchmark::State& state) {
  Setup setup({0xcc}, state);
  if (!setup) return state.SkipWithError(kRefused);
  const volatile uint8_t attention = 0;
  for (auto _ : state) benchmark::DoNotOptimize(setup->run(Setup::registers(), attention));
}

/// The same when both sides are busy for so many microseconds in between, so that they may have
/// gone to sleep; without that time.
void container_round_trip_after(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  const auto busy = std::chrono::microseconds(state.range(1));
  // 1: rdtsc; sub eax, esi; cmp eax, edi; jb 1b; int3
  Setup setup({0x0f, 0x31, 0x29, 0xf0, 0x39, 0xf8, 0x72, 0xf8, 0xcc}, state);
  if (!setup) return state.SkipWithError(kRefused);
  const volatile uint8_t attention = 0;
  const auto ticks_begin = __rdtsc();
  const auto clock_begin = Clock::now();
  while (Clock::now() - clock_begin < std::chrono::milliseconds(10)) {
  }
  const auto ticks = static_cast<uint32_t>((__rdtsc() - ticks_begin) / 10'000 * state.range(1));
  for (auto _ : state) {
    for (const auto begin = Clock::now(); Clock::now() - begin < busy;) {
    }
    NativeRegisters registers = Setup::registers();
    registers.gpr[6] = static_cast<uint32_t>(__rdtsc());
    registers.gpr[7] = ticks;
    const auto begin = Clock::now();
    const NativeEvent event = setup->run(registers, attention);
    const std::chrono::duration<double> spent = Clock::now() - begin;
    const double guest = static_cast<double>(event.guest_ticks) / static_cast<double>(event.ticks);
    state.SetIterationTime(spent.count() * (1 - guest));
  }
}

void container_map(benchmark::State& state) {
  Setup setup({0xcc}, state);
  if (!setup) return state.SkipWithError(kRefused);
  uint64_t page = 0;
  for (auto _ : state) {
    page = (page + 2) % 8192;
    setup->map(0x10000000 + page * 4096, 4096, native_access::kRead, page * 4096);
    setup->flush();
  }
}

void container_map_and_run(benchmark::State& state) {
  Setup setup({0xcc}, state);
  if (!setup) return state.SkipWithError(kRefused);
  const volatile uint8_t attention = 0;
  uint64_t page = 0;
  for (auto _ : state) {
    page = (page + 2) % 8192;
    setup->map(0x10000000 + page * 4096, 4096, native_access::kRead, page * 4096);
    benchmark::DoNotOptimize(setup->run(Setup::registers(), attention));
  }
}

/// From the kick of a thread that the guest's code knows nothing of to the end of run().
void container_kick(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  Setup setup({0xeb, 0xfe}, state);
  if (!setup) return state.SkipWithError(kRefused);
  double worst = 0;
  for (auto _ : state) {
    std::atomic<Clock::rep> kicked{0};
    volatile uint8_t attention = 0;
    std::thread kicker([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      kicked = Clock::now().time_since_epoch().count();
      attention = 1;
      setup->kick();
    });
    do {
      setup->run(Setup::registers(), attention);  // A late kick of before may end it at once.
    } while (kicked == 0);
    const auto stopped = Clock::now().time_since_epoch().count();
    kicker.join();
    const double seconds = static_cast<double>(stopped - kicked.load()) / 1e9;
    worst = std::max(worst, seconds);
    state.SetIterationTime(seconds);
  }
  state.counters["worst_us"] = worst * 1e6;
}

/// From when a timer is due to the end of run(): the container's own (apart: the thread kicks as it
/// waits for that time), or one of the thread, which has to be woken up to kick the container.
/// Percentiles tell more than the mean.
void container_deadline(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  Setup setup({0xeb, 0xfe}, state);
  if (!setup) return state.SkipWithError(kRefused);
  static Container* running = nullptr;
  static volatile uint8_t attention = 0;
  running = setup.container();
  struct sigaction action {};
  action.sa_handler = [](int) {
    attention = 1;
    running->kick();
  };
  sigaction(SIGURG, &action, nullptr);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGURG;
  event._sigev_un._tid = gettid();
  timer_t timer{};
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
    return state.SkipWithError("the host gives no timer");
  std::vector<double> late;
  const bool own = state.range(1) != 0;
  for (auto _ : state) {
    attention = 0;
    const auto due = Clock::now().time_since_epoch() + kDeadline;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(due);
    itimerspec spec{};
    spec.it_value.tv_sec = seconds.count();
    spec.it_value.tv_nsec = std::chrono::nanoseconds(due - seconds).count();
    if (!own) timer_settime(timer, TIMER_ABSTIME, &spec, nullptr);
    const auto containers = own ? static_cast<uint64_t>(std::chrono::nanoseconds(due).count()) : 0;
    do {
      setup->run(Setup::registers(), attention, containers);  // A late kick may end it at once.
    } while (own ? Clock::now().time_since_epoch() < due : !attention);
    const std::chrono::duration<double> passed = Clock::now().time_since_epoch() - due;
    late.push_back(passed.count());
    state.SetIterationTime(passed.count());
  }
  timer_delete(timer);
  std::ranges::sort(late);
  const auto at = [&](size_t percent) { return late[(late.size() - 1) * percent / 100] * 1e6; };
  state.counters["p50_us"] = at(50);
  state.counters["p90_us"] = at(90);
  state.counters["p99_us"] = at(99);
  state.counters["worst_us"] = at(100);
}

const std::vector<int64_t> kPlaces = {kKernels, kTogether, kApart};

BENCHMARK(container_round_trip)->ArgName("place")->ArgsProduct({kPlaces})->UseRealTime();
BENCHMARK(container_round_trip_after)
    ->ArgNames({"place", "us"})
    ->ArgsProduct({kPlaces, {10, 100, 1000}})
    ->UseManualTime()
    ->Iterations(1000);
BENCHMARK(container_map)->ArgName("place")->ArgsProduct({kPlaces})->UseRealTime();
BENCHMARK(container_map_and_run)->ArgName("place")->ArgsProduct({kPlaces})->UseRealTime();
BENCHMARK(container_kick)
    ->ArgName("place")
    ->ArgsProduct({kPlaces})
    ->UseManualTime()
    ->Iterations(1000);
BENCHMARK(container_deadline)
    ->ArgNames({"place", "own"})
    ->ArgsProduct({kPlaces, {0, 1}})
    ->UseManualTime()
    ->Iterations(2000);

}  // namespace
}  // namespace trapline

BENCHMARK_MAIN();
