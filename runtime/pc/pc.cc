#include "runtime/pc/pc.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "runtime/boot/acpi_tables.h"
#include "runtime/boot/missing_bios.h"
#include "runtime/pc/board.h"
#include "runtime/pc/calm.h"
#include "runtime/pc/firmware_rom.h"
#include "runtime/pc/host_clock.h"
#include "runtime/pc/instruction_clock.h"
#include "runtime/pc/polling.h"
#include "runtime/pc/rest.h"

namespace trapline {

namespace {

/// The host's time that a guest runs before its output is flushed.
constexpr std::chrono::milliseconds kLongestStay{20};
/// The same for a guest that has just been woken. It usually halts soon, and if a device's timer
/// that it arms meanwhile is later than this, the host's need not be armed again.
constexpr std::chrono::milliseconds kFirstStay{1};

/// The CPU's INTR pin.
class IntrPin : public InterruptLine {
 public:
  void set(bool asserted) override {
    level_ = asserted;
    if (machine_) machine_->set_interrupt_line(asserted, source_);
  }
  void connect(Machine& machine, InterruptSource& source) {
    machine_ = &machine;
    source_ = &source;
  }
  bool level() const { return level_; }

 private:
  Machine* machine_ = nullptr;
  InterruptSource* source_ = nullptr;
  bool level_ = false;
};

/// Lets a sleeping thread be woken from signal handlers and other threads.
class WakeUp {
 public:
  WakeUp() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~WakeUp() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  bool ok() const { return descriptor_ >= 0; }
  void wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(descriptor_, &one, sizeof one);
  }
  /// Whether it was woken.
  bool sleep(uint64_t nanoseconds) {
    pollfd entry{descriptor_, POLLIN, 0};
    const timespec time{static_cast<time_t>(nanoseconds / 1'000'000'000),
                        static_cast<long>(nanoseconds % 1'000'000'000)};
    if (ppoll(&entry, 1, &time, nullptr) <= 0) return false;
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = read(descriptor_, &count, sizeof count);
    return true;
  }

 private:
  int descriptor_;
};

}  // namespace

struct Pc::Board {
  explicit Board(Pc& pc, bool local_apic)
      : clock(pc.counts_time() ? static_cast<Clock&>(instruction_clock) : host_clock),
        devices(clock, local_apic,
                {.intr = intr,
                 .nmi = [&pc] { pc.machine_->inject_nmi(); },
                 .a20 = [&pc](bool open) { pc.machine_->set_a20_gate(open); },
                 .ignne = [&pc](bool ignore) { pc.machine_->ignore_x87_errors(ignore); },
                 .power_off = [this, &pc] { ask(pc, power_off); },
                 .reset = [this, &pc] { ask(pc, reset); },
                 .debug_exit = [&pc] { pc.machine_->request_stop(); },
                 .serial = pc.options_.serial,
                 .debug_console = pc.options_.debug_console}) {
    devices.queue.on_earlier([this, &pc] {
      if (!running) return;
      const uint64_t due = *devices.queue.next_due();
      if (due >= runs_until) return;
      runs_until = due;
      if (pc.counts_time()) return pc.machine_->request_stop();
      const uint64_t now = clock.now();
      pc.machine_->change_time_limit(std::chrono::nanoseconds(due > now ? due - now : 1));
    });
  }
  static void ask(Pc& pc, bool& what) {
    what = true;
    pc.machine_->request_stop();
  }

  HostClock host_clock;
  InstructionClock instruction_clock;
  Clock& clock;
  IntrPin intr;
  WakeUp wake_up;
  PcBoard devices;
  BootImage image;
  std::optional<FirmwareRom> firmware;
  PcTimes times;
  std::chrono::steady_clock::time_point flushed;
  RestWatch rest;
  CalmWatch calm;
  std::optional<uint64_t> first_run;
  std::optional<PollingWatch> polling;
  std::atomic<bool> woken{false};
  bool power_off = false;
  bool reset = false;
  bool halted = false;
  bool running = false;
  bool has_waited = false;  ///< And has not run since.
  uint64_t runs_until = 0;  ///< Good while it is running.
};

Pc::Pc(const PcOptions& options) : options_(options) {
  options_.machine.board = this;
  board_ = std::make_unique<Board>(*this, has_local_apic());
  options_.machine.ports = &board_->devices.bus;
}

Pc::~Pc() = default;

Result<std::unique_ptr<Pc>> Pc::create(const PcOptions& options) {
  std::unique_ptr<Pc> pc(new Pc(options));
  if (!pc->board_->wake_up.ok())
    return Error{ExitStatus::kInternal, "the host gives no event descriptor"};
  auto machine = Machine::create(pc->options_.machine);
  if (!machine.ok()) return machine.error();
  pc->machine_ = machine.take();
  PcBoard& devices = pc->board_->devices;
  pc->board_->intr.connect(*pc->machine_, devices.interrupt_source());
  pc->board_->instruction_clock.connect(*pc->machine_);
  if (options.throttle_polling && !pc->counts_time())
    pc->board_->polling.emplace(*pc->machine_, devices.bus);
  PhysicalMemory& memory = pc->machine_->memory();
  devices.rtc.set_memory(std::min<uint64_t>(memory.ram_bytes(), uint64_t{3} << 30));
  if (pc->has_local_apic()) {
    if (auto done = memory.map_mmio(LocalApic::kAddress, LocalApic::kBytes, devices.local_apic);
        !done.ok())
      return done.error();
    if (auto done = memory.map_mmio(IoApic::kAddress, IoApic::kBytes, devices.io_apic); !done.ok())
      return done.error();
  }
  return pc;
}

Machine& Pc::machine() {
  return *machine_;
}

Result<void> Pc::boot(BootImage image) {
  board_->image = std::move(image);
  if (!board_->image.rom.empty()) {
    const std::span<const std::byte> rom = board_->image.rom;
    if (auto mapped = FirmwareRom::map_below_4g(*machine_, rom); !mapped.ok())
      return mapped.error();
    PcBoard& devices = board_->devices;
    devices.expect_firmware();
    board_->firmware.emplace(*machine_, devices.host_bridge, rom);
    devices.host_bridge.on_change([this] { board_->firmware->update(); });
    place_boot_image(board_->image, *machine_);
    return {};
  }
  const auto add = [this](std::vector<BootPiece> pieces) {
    for (BootPiece& piece : pieces) board_->image.pieces.push_back(std::move(piece));
  };
  add(build_acpi_tables());
  if (!board_->image.state.protected_mode()) add(missing_bios_pieces());
  place_boot_image(board_->image, *machine_);
  return {};
}

void Pc::reset() {
  board_->devices.reset();
  board_->power_off = board_->reset = board_->halted = false;
  machine_->forget_injected();
  machine_->clear_memory();
  place_boot_image(board_->image, *machine_);
}

std::optional<uint8_t> Pc::debug_exit_status() const {
  return board_->devices.debug_exit.status();
}

const PcTimes& Pc::times() const {
  return board_->times;
}

void Pc::wake() {
  board_->woken = true;
  machine_->request_stop();
  board_->wake_up.wake();
}

void Pc::x87_error() {
  board_->devices.coprocessor_error.raise();
}

void Pc::x87_error_cleared() {
  board_->devices.coprocessor_error.clear();
}

/// Whether time is a count of instructions.
bool Pc::counts_time() const {
  return options_.machine.clock == TimeSource::kInstructions;
}

bool Pc::has_local_apic() const {
  const CpuModel& model = options_.machine.cpu ? *options_.machine.cpu : CpuModel::max();
  return model.family >= 6;
}

void Pc::local_apic_base_written(uint64_t value) {
  board_->devices.local_apic.set_base_msr(value);
}

/// Whether a halted CPU goes on.
bool Pc::wakes_up() const {
  const bool interrupts = machine_->state().eflags & eflags::kIf;
  return machine_->nmi_due() || (interrupts && board_->intr.level());
}

std::optional<PcExit> Pc::requested() {
  if (debug_exit_status()) return PcExit{PcExit::Kind::kDebugExit, {}};
  if (std::exchange(board_->power_off, false)) return PcExit{PcExit::Kind::kPowerOff, {}};
  if (std::exchange(board_->reset, false)) return PcExit{PcExit::Kind::kReset, {}};
  return std::nullopt;
}

/// True when run() is to return.
bool Pc::wait_halted(uint64_t until, PcExit& out) {
  const bool interrupts = machine_->state().eflags & eflags::kIf;
  const bool timers = board_->devices.queue.next_due().has_value();
  if (!interrupts || (!timers && !board_->devices.uart.may_interrupt())) {
    out.kind = interrupts ? PcExit::Kind::kAsleep : PcExit::Kind::kHalted;
    return true;
  }
  wait(until);
  return false;
}

void Pc::flush() {
  board_->flushed = std::chrono::steady_clock::now();
  if (options_.flush) options_.flush();
}

/// When what waits is to go on. Timer interrupts of a guest that is at rest may gather meanwhile.
std::optional<uint64_t> Pc::wakes_at() const {
  const EventQueue& queue = board_->devices.queue;
  const auto due = queue.next_due();
  if (!due || !board_->halted || !options_.gather_ticks || counts_time() || !board_->calm.calm())
    return due;
  return queue.next_due_at_latest();
}

/// Waits for the next event.
void Pc::wait(uint64_t until) {
  flush();
  machine_->rest();
  board_->has_waited = true;
  EventQueue& queue = board_->devices.queue;
  const auto due = queue.next_due();
  const uint64_t begin = queue.now();
  const auto wakes = wakes_at();
  if (wakes > due) ++board_->times.gathering_waits;
  const uint64_t end = std::min(wakes.value_or(until), until);
  if (end > begin) {
    // Without a timer, only the outside can end it, and the outside needs its own time.
    if ((!counts_time() || !due) && board_->wake_up.sleep(end - begin)) board_->calm.disturb();
    if (counts_time()) machine_->skip_time(end - begin);
  }
  const uint64_t now = queue.now();
  PcTimes& times = board_->times;
  times.idle += std::chrono::nanoseconds(now - begin);
  const uint64_t start = board_->first_run.value_or(0);
  board_->rest.idle(begin - start, now - start);
  if (const auto since = board_->rest.since()) times.at_rest = std::chrono::nanoseconds(*since);
}

void Pc::run_guest(std::chrono::nanoseconds time, PcExit& out) {
  const uint64_t begin = board_->clock.now();
  const bool first = std::exchange(board_->has_waited, false);
  const auto stay = std::min<std::chrono::nanoseconds>(time, first ? kFirstStay : kLongestStay);
  RunLimits limits;
  limits.goes_on = true;
  if (counts_time()) {
    limits.instructions = static_cast<uint64_t>(time.count());
    limits.time = kLongestStay;
  } else {
    limits.time = stay;
    if (options_.count_instructions) limits.instructions = UINT64_MAX;
  }
  board_->running = true;
  board_->runs_until = begin + static_cast<uint64_t>((counts_time() ? time : stay).count());
  const Exit exit = machine_->run(limits);
  board_->running = false;
  const std::chrono::nanoseconds spent(board_->clock.now() - begin);
  (machine_->state().cpl == 3 ? board_->times.user : board_->times.kernel) += spent;
  note(exit, out);
}

void Pc::note(const Exit& exit, PcExit& out) {
  switch (exit.kind) {
    case Exit::Kind::kHalt:
      board_->halted = true;
      board_->calm.halts({board_->devices.bus.accesses(), machine_->user_entries()});
      ++board_->times.halts;
      break;
    case Exit::Kind::kDeadline:
    case Exit::Kind::kStopped:
    case Exit::Kind::kInstructions:
      break;
    case Exit::Kind::kTripleFault:
      out.kind = PcExit::Kind::kTripleFault;
      break;
    case Exit::Kind::kError:
      out = {PcExit::Kind::kError, exit.message};
      break;
    default:
      out = {PcExit::Kind::kError, "the engine stopped for a reason that nobody asked for"};
  }
}

/// Until when the guest may run without being looked at.
uint64_t Pc::next_stop(uint64_t until) const {
  const uint64_t due = board_->devices.queue.next_due().value_or(until);
  const uint64_t look = board_->polling ? board_->polling->next_look() : until;
  return std::min({until, due, std::max(look, board_->clock.now() + 1)});
}

/// Whether the guest, which runs, does nothing but wait for an event.
bool Pc::polls(PcExit& out) {
  if (!board_->polling || board_->halted || board_->woken) return false;
  const uint64_t now = board_->clock.now();
  if (board_->devices.queue.next_due().value_or(UINT64_MAX) <= now) return false;
  const bool polls = board_->polling->look(now);
  if (const auto& ended = board_->polling->ended()) note(*ended, out);
  return polls;
}

PcExit Pc::run(std::chrono::nanoseconds time) {
  struct Rests {
    Machine& machine;
    ~Rests() { machine.rest(); }
  } const rests{*machine_};
  EventQueue& queue = board_->devices.queue;
  if (!board_->first_run) board_->first_run = queue.now();
  const uint64_t until = queue.now() + static_cast<uint64_t>(time.count());
  for (;;) {
    PcExit out;
    if (auto ended = requested()) return *ended;
    queue.run_due();
    board_->devices.uart.poll();
    if (board_->woken.exchange(false)) return out;
    const uint64_t now = queue.now();
    if (now >= until) return out;
    if (board_->halted && wakes_up()) board_->halted = false;
    if (board_->halted) {
      if (wait_halted(until, out)) return out;
      if (board_->polling) board_->polling->halts(queue.now());
      continue;
    }
    const uint64_t end = next_stop(until);
    if (end <= now) continue;
    run_guest(std::chrono::nanoseconds(end - now), out);
    if (std::chrono::steady_clock::now() - board_->flushed >= kLongestStay) flush();
    if (auto ended = requested()) return *ended;
    if (out.kind != PcExit::Kind::kGoesOn) return out;
    const bool polling = polls(out);
    if (out.kind != PcExit::Kind::kGoesOn) return out;
    if (!polling) continue;
    ++board_->times.polling_waits;
    wait(until);
    board_->polling->goes_on(queue.now());
  }
}

}  // namespace trapline
