// A process that executes guest user code natively: its low 4 GiB are what is mapped there, and it
// runs until something happens. Knows nothing of guests' page tables; docs/direct-execution.md
// tells how it is confined, and what is believed of it: nothing but that mappings are what flush()
// acknowledged.
//
// One thread owns it; kick() alone may be called from a signal handler of that thread.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/native/protocol.h"
#include "vcpu/result.h"

struct user_desc;

namespace trapline {

/// What a container is started from: the program and the guest's RAM, as files.
class ContainerFiles {
 public:
  /// The RAM's file stays the caller's.
  static Result<std::unique_ptr<ContainerFiles>> create(int ram_file);
  ~ContainerFiles();
  ContainerFiles(const ContainerFiles&) = delete;
  ContainerFiles& operator=(const ContainerFiles&) = delete;
  int program() const { return program_; }
  int ram() const { return ram_; }

 private:
  ContainerFiles() = default;
  int program_ = -1;
  int ram_ = -1;
};

/// Why guest code stopped, as the container tells it: user-mode state that may be invented.
struct NativeEvent {
  enum class Kind : uint8_t {
    kEvent,       ///< `registers` and the rest say what.
    kNotStarted,  ///< The container was gone before.
    kLost,        ///< The container is gone, and the registers with it.
  };
  Kind kind = Kind::kLost;
  uint32_t signal = 0;
  uint32_t trap = 0;  ///< Stale with some signals.
  uint64_t error = 0;
  uint64_t address = 0;      ///< Of a page fault.
  uint64_t ticks = 0;        ///< Of the host's time stamp counter, from run() to its end,
  uint64_t guest_ticks = 0;  ///< and of these, while guest code ran.
  NativeRegisters registers;
};

/// Bits of a mapping's protection.
namespace native_access {
inline constexpr uint32_t kRead = 1;
inline constexpr uint32_t kWrite = 2;
inline constexpr uint32_t kExecute = 4;
}  // namespace native_access

enum class Confinement : uint8_t { kFull, kNoneForTests };

class Container {
 public:
  static constexpr uint64_t kLowMemory = uint64_t{1} << 32;

  static Result<std::unique_ptr<Container>> start(const ContainerFiles& files,
                                                  Confinement confinement = Confinement::kFull);
  /// Ends the processes.
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  // Changes are collected; those that do not fit any more are carried out on the way. Addresses and
  // lengths are whole pages below 4 GiB.
  void map(uint64_t address, uint64_t bytes, uint32_t access, uint64_t ram_offset);
  void unmap(uint64_t address, uint64_t bytes);
  void protect(uint64_t address, uint64_t bytes, uint32_t access);
  /// A data segment of the local descriptor table, for %fs and %gs.
  void describe(uint32_t slot, uint32_t base, uint32_t limit);
  /// A flat data segment of which nothing is valid but what lies above the page.
  void describe_above(uint32_t slot, uint32_t page);
  /// A flat code segment that cannot be read by way of its selector.
  void describe_unreadable_code(uint32_t slot);
  /// From the next run() on, guest code that is about to execute what is at the address stops
  /// there, with SIGTRAP and TRAPLINE_WATCHED, until the slot watches another one. False: the host
  /// does not let Trapline do that.
  bool watch(uint32_t slot, uint32_t address);
  void unwatch(uint32_t slot);
  static constexpr uint32_t kWatches = 4;  ///< As many debug registers.
  static uint16_t selector(uint32_t slot) { return static_cast<uint16_t>(slot << 3 | 7); }

  /// Carries the collected changes out. False when that cannot be known: the container is lost
  /// then.
  bool flush();
  /// Lets guest code run until something happens. `attention` is what a kick follows from: a
  /// container that does not answer kicks while it is set is ended. At the deadline, in nanoseconds
  /// of the monotonic clock, guest code is kicked: by the thread where they are apart, else by a
  /// timer of the container's, unless somebody hostile has put that out of action; 0: never. Where
  /// they are apart and guest code runs for long, the thread does something else once, and is then
  /// as late as that takes.
  NativeEvent run(const NativeRegisters& registers, const volatile uint8_t& attention,
                  uint64_t deadline = 0, const std::function<void()>& meanwhile = {});
  /// Both processes run there from now on, and so must the calling thread: neither side looks at
  /// the mailbox again and again any more.
  void move_to(int processor);
  /// Guest code runs on one of the others from now on, the mapper there, and so must the calling
  /// thread. Both sides look at the mailbox again and again for a while.
  void move_apart(int processor, const cpu_set_t& others);
  bool apart() const { return apart_; }
  /// So long the thread does from now on.
  void look_for(std::chrono::nanoseconds time) { looks_ = time; }
  /// The container does not any more, until it runs again: another one is to run.
  void stop_looking();
  /// Makes a running container stop soon. Async-signal-safe.
  void kick() const;

  bool lost() const { return lost_; }
  /// Whether CPUID is an event.
  bool cpuid_faults() const { return cpuid_faults_; }
  pid_t pid() const { return pid_; }
  pid_t mapper_pid() const { return mapper_pid_; }

 private:
  Container() = default;
  Result<void> launch(const ContainerFiles& files, Confinement confinement);
  bool wait_stopped(uint32_t ticket, const volatile uint8_t* attention,
                    std::chrono::nanoseconds patience, const std::function<void()>& meanwhile = {});
  bool looks_stopped(uint32_t ticket, std::chrono::nanoseconds time);
  void sleep_while_running(uint32_t ticket, std::chrono::nanoseconds time);
  void open_watches();
  void add(const NativeCommand& command);
  void add_descriptor(const user_desc& entry);
  void post(uint32_t starts);
  void go_on();
  bool carried_out() const;
  bool acknowledged();
  bool still_alive();
  void end();

  NativeCommands* commands_ = nullptr;
  const volatile NativeStatus* status_ = nullptr;
  NativeMailbox* mailbox_ = nullptr;
  pid_t pid_ = -1;
  pid_t mapper_pid_ = -1;
  uint32_t ticket_ = 0;
  uint32_t sequence_ = 0;
  uint32_t pending_ = 0;
  std::chrono::nanoseconds looks_{0};  ///< How long the thread looks before it sleeps,
  uint32_t container_looks_ = 0;       ///< and the container, in ticks.
  int processor_ = -1;                 ///< Of the calling thread, and the mapper.
  bool apart_ = false;                 ///< Guest code has another one,
  cpu_set_t others_{};                 ///< one of these.
  std::optional<std::chrono::steady_clock::time_point> kick_at_;  ///< The deadline, then.
  bool lost_ = false;
  bool silent_ = false;  ///< It was ended because it did not answer.
  bool cpuid_faults_ = false;
  std::array<int, kWatches> watches_ = {-1, -1, -1, -1};  ///< Files.
  std::chrono::steady_clock::time_point looked_at_;       ///< When it surely was alive.
};

}  // namespace trapline
