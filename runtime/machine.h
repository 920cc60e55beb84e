// The embedding API: a machine with RAM and one virtual CPU that runs translated.
//
//   auto machine = trapline::Machine::create({.memory_bytes = 16 << 20}).take();
//   machine->write_memory({0x1000}, code);
//   trapline::CpuState state = trapline::CpuState::flat32(0);
//   state.eip = 0x1000;
//   machine->set_state(state);
//   trapline::Exit exit = machine->run({.instructions = 1'000'000});
//
// One thread owns a machine, and runs no other one meanwhile; request_stop() alone may be called
// from another thread or a signal handler. Everything that a guest can do ends in an Exit, never in
// a C++ exception or a crash.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "shadowmmu/physical_memory.h"
#include "translator/mutations.h"
#include "translator/switches.h"
#include "vcpu/cpu_model.h"
#include "vcpu/fault.h"
#include "vcpu/interrupt_source.h"
#include "vcpu/memory.h"
#include "vcpu/result.h"
#include "vcpu/state.h"

namespace trapline {

/// What the board around a CPU hears from it, beside ports and memory.
class BoardEvents {
 public:
  virtual ~BoardEvents() = default;
  /// FERR#: an unmasked x87 exception with CR0.NE clear (IRQ 13 on a PC).
  virtual void x87_error() {}
  /// That exception is no more, while errors were ignored.
  virtual void x87_error_cleared() {}
  virtual bool has_local_apic() const { return false; }
  virtual void local_apic_base_written(uint64_t) {}
};

/// What the guest's time stamp counter counts.
enum class TimeSource : uint8_t {
  kHost,          ///< The host's time stamp counter.
  kInstructions,  ///< Guest instructions retired: two runs of the same machine are the same.
};

/// Whether guest user code may run on the bare processor (docs/direct-execution.md).
enum class DirectExecution : uint8_t {
  kNever,
  kAlways,    ///< Whenever the processor then does what the guest expects.
  kAdaptive,  ///< Only address spaces that compute for long without events.
};

struct MachineOptions {
  uint64_t memory_bytes = 64ull << 20;
  const CpuModel* cpu = nullptr;  ///< nullptr: CpuModel::max().
  uint64_t code_cache_bytes = 64ull << 20;
  Switches switches{};
  /// kInstructions makes all runs count, as a budget does.
  TimeSource clock = TimeSource::kHost;
  /// Where IN and OUT go. nullptr: each one is an exit (kPortRead, kPortWrite).
  PortSpace* ports = nullptr;
  BoardEvents* board = nullptr;
  /// Not 0: Statistics' samples are taken so often of the running thread's processor time. A host
  /// without high-resolution timers rounds it to its ticks.
  std::chrono::nanoseconds sample_interval{};
  /// Guest exceptions with these vectors' bits set are exits (kException) and are not delivered.
  uint32_t exit_on_exceptions = 0;
  /// Where a broken invariant of the engine's leaves a crash bundle, for `trapline replay`. Empty:
  /// nowhere.
  std::string crash_directory{};
  DirectExecution direct_execution = DirectExecution::kNever;
  /// For tests: code that was written may run natively again at once, however often that happens,
  /// and is patched however seldom it runs.
  bool native_at_once = false;
  /// For tests only: makes the engine wrong in one way.
  Mutation mutation = Mutation::kNone;
};

/// Why such a machine runs nothing natively, whatever the host offers: one clause. Empty: it may.
std::string native_exclusion(const MachineOptions& options);

struct RunLimits {
  /// Stop after exactly this many guest instructions (a REP iteration that was interrupted counts
  /// as none). Counting costs speed.
  std::optional<uint64_t> instructions{};
  /// Stop soon after this much host time (within a millisecond).
  std::optional<std::chrono::nanoseconds> time{};
  /// After a deadline the same thread runs the machine again soon, or calls rest(): it is not set
  /// free meanwhile, which takes some microseconds, from the processor that it shares with native
  /// code.
  bool goes_on = false;
};

struct Exit {
  enum class Kind : uint8_t {
    kHalt,          ///< HLT retired; EIP is after it. Running on waits for nothing: it goes on.
    kTripleFault,   ///< State is as it was when the third fault was found.
    kPortRead,      ///< IN: call complete_port_read(), then run on.
    kPortWrite,     ///< OUT: `value` holds what was written; run on.
    kBreakpoint,    ///< EIP reached a breakpoint; the instruction there has not run.
    kException,     ///< See MachineOptions::exit_on_exceptions; EIP as it would be pushed.
    kInstructions,  ///< RunLimits::instructions ran out.
    kDeadline,      ///< RunLimits::time ran out.
    kStopped,       ///< request_stop().
    kError,         ///< `message` says what; the machine cannot go on.
  };
  Kind kind = Kind::kError;
  uint16_t port = 0;
  uint8_t size = 0;     ///< Port accesses: 1, 2 or 4.
  uint32_t value = 0;   ///< kPortWrite.
  Fault fault;          ///< kException.
  std::string message;  ///< kError.
};

struct OpcodeCount {
  std::string name;
  uint64_t count = 0;
};

/// Events that ended native execution, of one kind.
struct NativeEventCount {
  std::string name;
  uint64_t count = 0;
  uint64_t nanoseconds = 0;  ///< From where guest code stopped to where it could go on.
  uint64_t demotions = 0;    ///< Of address spaces, mostly because of these.
};

/// Pages of code that were not let run natively because of one instruction.
struct RefusedPageCount {
  std::string instruction;
  uint64_t sensitive = 0;   ///< It is known to be there.
  uint64_t unexplored = 0;  ///< Bytes there look like it.
};

/// Plain counters; names in docs/statistics.md.
struct Statistics {
  uint64_t instructions = 0;  ///< Retired, where they are counted (see counted).
  bool counted = false;       ///< Whether all runs counted (a budget or --stats does).
  uint64_t interpreted = 0;
  std::vector<OpcodeCount> interpreted_top;  ///< At most 20, most frequent first.
  uint64_t blocks_translated = 0;
  uint64_t blocks_copied = 0;  ///< From those that the same code had at another address.
  uint64_t pages_of_code_moved = 0;
  uint64_t basic_blocks_translated = 0;  ///< What these consist of.
  uint64_t instructions_translated = 0;
  uint64_t guest_bytes_translated = 0;
  uint64_t host_bytes_emitted = 0;
  uint64_t translation_nanoseconds = 0;
  uint64_t blocks_invalidated = 0;
  uint64_t cache_flushes = 0;
  uint64_t dispatches = 0;            ///< Returns from translated code to the run loop.
  uint64_t page_misses = 0;           ///< Accesses that found no entry in a view.
  uint64_t careful_instructions = 0;  ///< MMIO, traced, crossing: executed one by one.
  uint64_t pages_joined = 0;          ///< Pairs, since a stack lies across them.
  uint64_t traced_writes = 0;
  uint64_t code_writes = 0;
  uint64_t view_switches = 0;
  uint64_t device_memory = 0;
  uint64_t exceptions = 0;
  uint64_t page_faults = 0;
  uint64_t interrupts = 0;
  uint64_t port_accesses = 0;
  uint64_t kicks = 0;
  uint64_t native_stays = 0;
  uint64_t native_stays_apart = 0;  ///< Of these, with a processor of their own.
  uint64_t native_nanoseconds = 0;
  uint64_t native_kicks = 0;
  uint64_t native_faults_hidden = 0;
  uint64_t native_faults_reflected = 0;
  uint64_t native_system_calls = 0;
  uint64_t native_instructions = 0;
  uint64_t native_segment_loads = 0;
  uint64_t native_patch_stops = 0;
  uint64_t native_hidden_accesses = 0;
  std::vector<NativeEventCount> native_events;
  std::vector<RefusedPageCount> native_pages_refused;  ///< Most frequent first.
  uint64_t native_promotions = 0;
  uint64_t native_rests = 0;
  uint64_t native_demotions = 0;
  uint64_t native_pages_fine = 0;
  uint64_t native_pages_sensitive = 0;
  uint64_t native_pages_unexplored = 0;
  uint64_t native_pages_patched = 0;
  uint64_t native_pages_rewritten = 0;
  uint64_t native_looks = 0;
  uint64_t native_looks_nanoseconds = 0;
  uint64_t native_mappings_made = 0;
  uint64_t native_mappings_removed = 0;
  uint64_t native_mappings_evicted = 0;
  uint64_t native_pages_mapped = 0;
  uint64_t native_containers_started = 0;
  uint64_t native_containers_recycled = 0;
  uint64_t native_containers_lost = 0;
  uint64_t samples_user = 0;  ///< See MachineOptions::sample_interval.
  uint64_t samples_kernel = 0;
  uint64_t samples_engine = 0;
  uint64_t translated_user_nanoseconds = 0;  ///< What samples_user stands for.
  /// The part of the user code's time that it spent natively.
  double native_share() const;
  std::vector<std::pair<std::string, uint64_t>> named() const;  ///< All plain ones, for printing.
};

class Machine {
 public:
  static Result<std::unique_ptr<Machine>> create(const MachineOptions& options);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Physical memory from outside the guest, while it is not running. Writes to code and to page
  /// tables are noticed.
  void read_memory(Physical address, std::span<std::byte> out) const;
  void write_memory(Physical address, std::span<const std::byte> in);
  /// All RAM is zero again.
  void clear_memory();
  PhysicalMemory& memory();
  /// Right before memory() is mapped otherwise while a guest runs, for ports and devices.
  void memory_map_changes();
  /// Where the guest's page tables lead to as they are, at the current privilege; nothing where
  /// they do not allow reading. Marks nothing as accessed.
  std::optional<Physical> physical_address(Linear address) const;

  const CpuState& state() const;
  /// Takes the state as it is: any segment caches, any control bits. Derived fields are recomputed,
  /// and the privilege level outside of protected mode and in virtual-8086 mode.
  /// Not during a run.
  void set_state(const CpuState& state);

  Exit run(const RunLimits& limits = {});
  /// For ports and devices, during a run with a time limit: it is to end after this much time from
  /// now on instead.
  void change_time_limit(std::chrono::nanoseconds time);
  /// What the IN that the last run ended at gets: the next run begins with it, whatever waits. Does
  /// nothing after other exits.
  void complete_port_read(uint32_t value);

  /// Delivered when the guest next accepts interrupts; queued in order.
  void inject_interrupt(uint8_t vector);
  /// Delivered behind the current instruction, or while an NMI is handled, behind the next IRET.
  /// One is remembered.
  void inject_nmi();
  /// Whether an NMI comes when the machine next runs.
  bool nmi_due() const;
  /// For a reset: what was injected and has not been delivered never comes.
  void forget_injected();
  /// The interrupt controller's INTR line: a level. The source must outlive the machine's runs.
  void set_interrupt_line(bool asserted, InterruptSource* source);
  /// A PC's gate for bit 20 of physical addresses, which is 0 in all that the CPU sends out while
  /// the gate is shut. It is open at first.
  void set_a20_gate(bool open);
  /// IGNNE#: with CR0.NE clear, x87 instructions run in spite of an error that has been reported.
  /// For a board, which releases it when the error is cleared.
  void ignore_x87_errors(bool ignore);
  /// See RunLimits::goes_on.
  void rest();
  /// Async-signal-safe; may come from any thread.
  void request_stop();

  void add_breakpoint(Linear address);
  void remove_breakpoint(Linear address);

  const CpuModel& model() const;
  Statistics statistics() const;
  /// Grows with every stay of the guest in privilege level 3.
  uint64_t user_entries() const;
  /// Why nothing runs natively although MachineOptions asked for it: one clause. Empty otherwise.
  const std::string& native_refusal() const;
  /// MachineOptions::clock now, before CpuState::tsc_offset. Exact also while an IN or OUT of the
  /// guest is being answered: it has not retired.
  uint64_t time_stamp() const;
  /// With TimeSource::kInstructions: time passes that no instruction takes. Not during a run.
  void skip_time(uint64_t instructions);
  /// A digest of CPU state and RAM: two runs with different switches compare by it.
  uint64_t state_hash() const;

 private:
  Machine();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trapline
