// A PC: the machine with its interrupt controllers, clocks, bridges and serial line, put together,
// and the loop that keeps its time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/boot/boot_image.h"
#include "runtime/devices/device.h"
#include "runtime/machine.h"

namespace trapline {

struct PcOptions {
  /// `ports` and `board` are the PC's own.
  MachineOptions machine;
  /// Both must outlive the PC.
  CharacterBackend& serial;
  CharacterBackend& debug_console;
  /// Retired instructions, for Machine::statistics(). Costs speed.
  bool count_instructions = false;
  /// A guest that waits by polling sleeps as a halted one does, where that makes no difference to
  /// it.
  bool throttle_polling = true;
  /// A guest that does nothing but count timer interrupts gets a few of them at once.
  bool gather_ticks = true;
  /// What the guest has written may be passed on. Called before the PC waits for something to
  /// happen, and every 20 ms while the guest runs, on the same thread; may call wake().
  std::function<void()> flush;
};

struct PcExit {
  enum class Kind : uint8_t {
    kGoesOn,       ///< The time given is over, or wake() was called.
    kPowerOff,     ///< The guest switched the PC off.
    kReset,        ///< The guest asked for a reset: call reset(), then run on.
    kHalted,       ///< Halted for good: interrupts are off.
    kAsleep,       ///< Halted with interrupts on, and no device is going to send one.
    kDebugExit,    ///< debug_exit_status() has the status.
    kTripleFault,  ///< The CPU's state is as it was then.
    kError,        ///< `message` says what; the PC cannot go on.
  };
  Kind kind = Kind::kGoesOn;
  std::string message;
};

/// Where the guest's time went. User and kernel are told apart by where each stay ended.
struct PcTimes {
  std::chrono::nanoseconds user{};
  std::chrono::nanoseconds kernel{};
  std::chrono::nanoseconds idle{};
  /// When the guest had come to rest, counted from its first instruction: the begin of the first
  /// quarter of a second of which it was idle for nine tenths.
  std::optional<std::chrono::nanoseconds> at_rest;
  uint64_t halts = 0;
  uint64_t polling_waits = 0;    ///< Waits of guests that were found polling.
  uint64_t gathering_waits = 0;  ///< Waits in which timer interrupts were let gather.
};

class Pc : private BoardEvents {
 public:
  static Result<std::unique_ptr<Pc>> create(const PcOptions& options);
  ~Pc() override;
  Pc(const Pc&) = delete;
  Pc& operator=(const Pc&) = delete;

  Machine& machine();
  /// What to begin with, now and after each reset; once. Without a ROM, ACPI tables are added to it
  /// and, for a start in real mode, what is in the BIOS's place.
  Result<void> boot(BootImage image);
  /// As the reset button does, and then what boot() does.
  void reset();

  /// Runs the guest, and waits while it is halted, for at most that long.
  PcExit run(std::chrono::nanoseconds time);
  /// Makes run() return soon; for any thread and for signal handlers.
  void wake();

  std::optional<uint8_t> debug_exit_status() const;
  const PcTimes& times() const;

  /// The part of the memory that a boot loader must report as reserved.
  static constexpr uint64_t kTables = 0xe0000, kTablesEnd = 0x100000;

 private:
  struct Board;
  explicit Pc(const PcOptions& options);

  void x87_error() override;
  void x87_error_cleared() override;
  bool counts_time() const;
  bool has_local_apic() const override;
  void local_apic_base_written(uint64_t value) override;

  void run_guest(std::chrono::nanoseconds time, PcExit& out);
  void note(const Exit& exit, PcExit& out);
  uint64_t next_stop(uint64_t until) const;
  bool polls(PcExit& out);
  bool wait_halted(uint64_t until, PcExit& out);
  void wait(uint64_t until);
  std::optional<uint64_t> wakes_at() const;
  void flush();
  bool wakes_up() const;
  std::optional<PcExit> requested();

  PcOptions options_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Board> board_;
};

}  // namespace trapline
