// The engine: one virtual CPU running translated. It owns the code cache, the views' use, and the
// C++ side of every gate and system operation; it runs until something asks to leave.
//
// Only the VCPU's thread touches it, but for request_attention(), which a signal handler calls.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cache/code_cache.h"
#include "cache/code_memory.h"
#include "runtime/execution_views.h"
#include "runtime/host_ticks.h"
#include "runtime/kick_timer.h"
#include "runtime/machine.h"
#include "runtime/native/held_processor.h"
#include "runtime/native/native_user.h"
#include "runtime/native/placement.h"
#include "runtime/native/policy.h"
#include "runtime/native/processor_wait.h"
#include "runtime/signals.h"
#include "shadowmmu/adjacent_pages.h"
#include "shadowmmu/shadow_mmu.h"
#include "translator/context.h"
#include "translator/instruction.h"
#include "translator/thunks.h"
#include "translator/translator.h"
#include "vcpu/cpu.h"
#include "vcpu/debug_registers.h"

namespace trapline {

struct CrashBundle;

/// Where the engine's thread was when its sampling timer fired.
struct EngineSamples {
  std::atomic<uint64_t> user{0};    ///< Translated code of the guest's ring 3,
  std::atomic<uint64_t> kernel{0};  ///< of its other rings,
  std::atomic<uint64_t> engine{0};  ///< or elsewhere, called by it or for it.
};

/// Why translated code was left for the run loop.
enum class Leave : uint32_t {
  kAttention,  ///< Something asked for the run loop; the state is between two instructions.
  kExit,       ///< Engine::exit() says what for.
};

struct EngineCounters {
  uint64_t interpreted = 0;
  uint64_t blocks_translated = 0;
  uint64_t basic_blocks_translated = 0;
  uint64_t instructions_translated = 0;
  uint64_t guest_bytes_translated = 0;
  uint64_t host_bytes_emitted = 0;
  uint64_t translation_ticks = 0;  ///< HostTicks.
  uint64_t dispatches = 0;
  uint64_t page_misses = 0;
  uint64_t careful_instructions = 0;
  uint64_t pages_joined = 0;
  uint64_t code_writes = 0;
  uint64_t exceptions = 0;
  uint64_t page_faults = 0;
  uint64_t software_interrupts = 0;
  uint64_t interrupts = 0;
  uint64_t port_accesses = 0;
  uint64_t user_entries = 0;
  uint64_t fast_system_calls = 0;  ///< SYSENTER.
  std::atomic<uint64_t> kicks{0};  ///< Of a signal handler.
  uint64_t native_stays = 0;
  uint64_t native_stays_apart = 0;
  uint64_t native_nanoseconds = 0;
  uint64_t native_kicks = 0;
  uint64_t native_faults_hidden = 0;
  uint64_t native_faults_reflected = 0;
  uint64_t native_system_calls = 0;
  uint64_t native_instructions = 0;
  uint64_t native_segment_loads = 0;
  uint64_t native_patch_stops = 0;
  uint64_t native_hidden_accesses = 0;
  /// An instruction that ends in one of these has no single step's trap.
  uint64_t stepping_events() const { return exceptions + software_interrupts; }
  struct NativeEvents {
    uint64_t count = 0;
    uint64_t ticks = 0;  ///< Of the host, from where guest code stopped to where it goes on.
  };
  std::array<NativeEvents, kNativeCauses> native_events{};
};

class Engine final : public LinearMemory, public CpuEvents, public MmuObserver, public PortSpace {
 public:
  static Result<std::unique_ptr<Engine>> create(const MachineOptions& options);
  ~Engine() override;

  Exit run(const RunLimits& limits);
  void complete_port_read(uint32_t value);

  const CpuState& state() const { return context_->cpu; }
  void set_state(const CpuState& state);
  PhysicalMemory& memory() { return *memory_; }
  std::optional<Physical> physical_address(Linear address) const;
  void write_memory(Physical address, std::span<const std::byte> in);
  void clear_memory();
  void memory_map_changes();

  void inject_interrupt(uint8_t vector);
  void inject_nmi();
  bool nmi_due() const { return nmi_waiting_ && !context_->cpu.nmi_blocked; }
  void forget_injected();
  void set_interrupt_line(bool asserted, InterruptSource* source);
  void set_a20_gate(bool open);
  void ignore_x87_errors(bool ignore);
  void rest();
  /// Async-signal-safe.
  void request_stop();

  void set_breakpoint(Linear address, bool on);
  const CpuModel& model() const { return model_; }
  Statistics statistics() const;
  uint64_t user_entries() const { return counters_.user_entries; }
  /// Why nothing runs natively although it was asked for; empty otherwise.
  const std::string& native_refusal() const { return native_refusal_; }
  void skip_time(uint64_t instructions) { instructions_skipped_ += instructions; }
  uint64_t state_hash() const;
  /// For a broken invariant: what there is to know, as far as it can be known in the middle of
  /// something. For the engine's thread.
  CrashBundle crash_bundle();
  const std::string& crash_directory() const { return options_.crash_directory; }

  // --- LinearMemory ---
  OrFault<void> probe_write(Linear address, uint32_t size, Privilege privilege) override;
  OrFault<uint8_t> fetch(Linear address) override;
  // --- CpuEvents ---
  void paging_changed(bool flush) override;
  void invalidate_page(Linear address) override;
  uint64_t read_physical(Physical address) override;
  uint64_t time_stamp() override;
  bool has_local_apic() const override;
  void local_apic_base_written(uint64_t value) override;
  // --- MmuObserver ---
  void mapping_dropped(View& view, uint32_t page) override;
  void view_emptied(View& view) override;
  void view_dropped(View& view) override;
  void writing_dropped(View& view, uint32_t page) override;
  void writes_denied(uint64_t frame) override;
  void code_written(Physical address, uint32_t bytes) override;
  // --- PortSpace: what the machine's owner gave, or an exit ---
  uint32_t in(uint16_t port, uint32_t size) override;
  void out(uint16_t port, uint32_t size, uint32_t value) override;

  /// The signal handler's part: whether the fault was translated code's. Async-signal-safe.
  bool handle_signal(int signal, void* info, void* ucontext);
  /// Goes on after handle_signal(), on the thread's ordinary stack.
  uint64_t handle_signal_exit();
  /// Async-signal-safe.
  Kick kick(void* ucontext);
  void sample(const void* ucontext);

 private:
  friend struct Gates;      // engine_gates.cc
  friend struct SystemOps;  // engine_system.cc

  /// An access that a careful block has open.
  struct OpenAccess {
    uint32_t linear = 0;
    uint32_t size = 0;
    bool one_store = false;  ///< A write that is one store, to `physical`.
    Physical physical;
    alignas(16) std::array<std::byte, 64> buffer{};
    /// As misaligned as the guest's address: SSE faults on it the same.
    std::byte* bytes() { return buffer.data() + (linear & 15); }
  };

  Engine(const MachineOptions& options, std::unique_ptr<Context> context);
  Result<void> build(const MachineOptions& options);

  // engine.cc: modes, views, look-up
  PagingContext paging_context() const;
  void refresh_mode();
  void note_code(uint64_t tables);
  View& view(bool user) { return views_[user] ? *views_[user] : activate_view(user); }
  View& activate_view(bool user);
  void forget_views();
  View& view_for(Privilege privilege) { return view(user_rights(privilege)); }
  View& current_view() { return view(context_->cpu.cpl == 3); }
  void drop_window();
  void exchange_window(uint64_t tables, uint64_t removals);
  /// HotFields::attention while nothing but a single step wants it.
  static constexpr uint8_t kStepping = 2;
  uint64_t resume();
  uint64_t attend();
  uint64_t resume_variant(Variant variant);
  uint64_t enter_block(Variant variant);
  uint64_t resume_careful();
  const Block* known_block(Variant variant);
  void remember_block(const Block& block, Variant variant);
  uint32_t mode_number(const ModeKey& key);
  uint32_t window_stack() const;
  void fill_without_trace(uint32_t page);
  bool move_window(uint32_t address, int span_class);
  AdjacentPages::State join_window(uint32_t address);
  /// Makes the window hold ESP and `linear`; where it is `in_use`, it may only grow.
  AdjacentPages::State widen_window(uint32_t linear, uint32_t span_class, bool in_use);
  OrFault<Resolution> resolve_code(Linear address);
  /// Where EIP leads, with its page's slot filled.
  struct CodePlace {
    Resolution code;
    EntryTable* table = nullptr;
    uint16_t offset = 0;
  };
  OrFault<CodePlace> code_place();
  OrFault<Block*> find_block(Variant variant);
  /// The block's entry for saved flags.
  OrFault<uint64_t> find_entry(Variant variant);
  Block* copy_block(EntryTable& table, uint16_t offset, Variant variant);
  OrFault<Block*> translate_block(EntryTable& table, const Resolution& code, Variant variant);
  Block& insert_block(EntryTable& table, const TranslationRequest& request, const Translation& made,
                      uint64_t second_frame);
  void deny_code_writes(uint64_t frame);
  std::span<const uint8_t> page_bytes(const Resolution& code);
  bool set_slot(uint32_t page, uint64_t frame);
  void fill_slot(EntryTable& table);
  uint64_t leave(Leave reason);
  uint64_t leave_with(Exit exit);
  void flush_code();

  // engine_events.cc
  uint64_t raise(const Fault& fault);
  /// False when the machine has to stop: exit_ says why.
  bool deliver(const Fault& fault);
  void locate(uint64_t from);
  void import_flags();
  void export_flags();
  void keep_flags_before_compare(uint32_t saved_flags);
  void restore_flags_before_compare();
  bool interrupts_waiting() const;
  /// After every change of what waits for IF.
  void note_interrupts();
  bool steps_on_over_breakpoint() const;
  void ask_for_attention_if_due();
  /// Makes the block that `from` is in end in the run loop, after an instruction that asked for it.
  void leave_soon(uint64_t from);
  bool deliver_pending(Exit& exit);
  /// Whether deliver_pending() has something to do.
  bool deliverable() const;
  uint64_t resume_after();
  uint64_t interpret_instruction(uint32_t payload);
  /// After a load of a data segment register: lets emitted code do the next one.
  void remember_segment(SegmentName name);
  /// Likewise, where the load has changed the mode: the mode's word and execution table before it.
  void remember_class(SegmentName name, uint32_t word, uint64_t table);

  // engine_debug.cc
  uint32_t breakpoint_set() { return watched() ? find_breakpoint_set() : 0; }
  uint32_t find_breakpoint_set();
  std::span<const uint32_t> guest_breakpoints() const;
  std::optional<Fault> execution_breakpoint();
  void note_debug(uint32_t met);
  /// Whether a breakpoint was met.
  bool note_access(Linear address, uint32_t size, bool write);
  void note_port(uint16_t port, uint32_t size);
  std::optional<Exit> debug_trap(bool stepped);

  // engine_memory.cc
  OrFault<uint64_t> read_unreached(Linear address, uint32_t size, Privilege privilege) override;
  OrFault<void> write_unreached(Linear address, uint32_t size, uint64_t value,
                                Privilege privilege) override;
  OrFault<void> probe_crossing(const View& view, Linear address, Access access);
  OrFault<uint64_t> read_slow(View& view, Linear address, uint32_t size);
  OrFault<void> write_slow(View& view, Linear address, uint32_t size, uint64_t value);

  Exit loop();
  uint64_t retired() const;

  // engine_native.cc
  enum class AfterEvent : uint8_t { kNatively, kTranslated, kEnded };
  Result<void> build_native(const MachineOptions& options);
  void prepare_thread_for_native();
  bool native_allowed() const;
  void rest_after(const Exit& exit, const RunLimits& limits);
  bool native_due() { return native_ && next_is_native(); }
  bool next_is_native();
  bool native_wanted(const View& user);
  /// Cheap, and nearly always what keeps code from going native.
  bool may_go_native(const View& view) {
    return native_ && context_->cpu.cpl == 3 && native_wanted(view);
  }
  void note_user_code();
  bool native_stays_translated(uint32_t page);
  CodeKnown code_known(Linear address, bool entry) const;
  NativeRegisters to_native(NativeSpace& space) const;
  bool from_native(const NativeEvent& event, const NativeRegisters& given);
  OrFault<void> load_changed_segments(const NativeRegisters& in, const NativeRegisters& given);
  void gather_memory();
  bool gathers_meanwhile() const;
  std::optional<Exit> run_native();
  void place(Container& container, uint64_t now);
  void begin_brief_stay();
  void end_brief_stay();
  /// For where C++ is entered whenever translated code runs for long.
  void note_entry() {
    if (brief_entries_ != 0 && --brief_entries_ == 0) end_brief_stay();
  }
  std::optional<Exit> stay_native();
  void map_expected(NativeSpace& space);
  AfterEvent native_fault(const Fault& fault);
  bool step_back_over(std::initializer_list<uint8_t> code);
  AfterEvent step_translated();
  void note_hidden_access(const NativeEvent& event, NativeSpace& space);
  AfterEvent native_event(const NativeEvent& event, NativeSpace& space);
  AfterEvent native_page_fault(const NativeEvent& event, const NativeSpace& stopped);

  // engine_fpu.cc
  struct CodeBytes {
    std::array<uint8_t, 15> bytes{};
    uint32_t count = 0;
  };
  CodeBytes code_bytes(uint32_t linear);
  bool decode_here(const CodeBytes& code, Instruction& in) const;
  /// Makes the pointers in the image, which the host has stored, the guest's.
  void sync_fpu_pointers();
  void translate_fpu_instruction_pointer();
  /// After C++ has changed the image. Also takes the selectors out: newer processors have none, and
  /// 64-bit kernels lose those of older ones.
  void note_fpu_pointers();
  /// Whether the instruction at EIP reports pending x87 exceptions.
  bool waits_for_x87();
  uint64_t raise_x87();
  void mask_x87();
  void unmask_x87(bool completed);
  /// When the instruction at EIP, whose operand cannot be accessed, is an x87 store that an
  /// unmasked exception of its own keeps from storing: it touches no memory, and has been executed.
  bool finish_suppressed_store();

  MachineOptions options_;
  const CpuModel& model_;
  std::unique_ptr<PhysicalMemory> memory_;
  std::unique_ptr<ShadowMmu> mmu_;
  std::unique_ptr<CodeMemory> code_memory_;
  std::unique_ptr<CodeCache> cache_;
  std::unique_ptr<Translator> translator_;
  std::unique_ptr<ExecutionViews> execution_views_;
  std::unique_ptr<Context> context_;
  Thunks thunks_;
  Cpu cpu_;

  struct ModeHash {
    size_t operator()(const ModeKey& key) const {
      const uint64_t hash = (key.word ^ uint64_t{key.cs_base} << 32) * 0x9e3779b97f4a7c15u +
                            (key.cs_limit ^ uint64_t{key.breakpoints} << 32) * 0xc2b2ae3d27d4eb4fu;
      return hash ^ hash >> 32;
    }
    /// Of few bits, for what is asked at each refresh.
    static uint32_t quick(const ModeKey& key) {
      return (key.word * 0x9e3779b1u ^ key.cs_base * 0x85ebca6bu) >> 26;
    }
  };
  ModeKey mode_;
  uint32_t mode_id_ = 0;
  std::unordered_map<ModeKey, uint32_t, ModeHash> modes_;
  /// Blocks of one instruction found lately, by EIP. Good while no mapping has gone.
  struct FoundBlock {
    uint32_t eip = 0;
    uint32_t mode = 0;
    uint32_t view = 0;
    Variant variant = Variant::kNormal;
    uint64_t epoch = 0;
    const Block* block = nullptr;
  };
  std::array<FoundBlock, 256> found_blocks_{};
  uint64_t mapping_epoch_ = 1;  ///< Counts mappings dropped and code flushes.
  uint64_t removals_seen_ = 0;
  /// The stack whose window it is: the base of SS where that is a 16-bit one.
  uint32_t window_stack_ = kFlatStack;
  static constexpr uint32_t kFlatStack = 1;  ///< Other bases are multiples of 16.
  struct LeftWindow {
    uint64_t tables = 0;
    uint64_t removals = 0;
    uint32_t stack = 0;
    uint32_t base = 0;
    uint64_t delta = 0;
    std::array<int64_t, kWindowClasses> limit{};
  };
  std::array<LeftWindow, 4> left_windows_{};
  uint32_t left_window_next_ = 0;
  std::optional<AdjacentPages> joined_pages_;  ///< Those with a stack across them.
  uint64_t address_mask_ = ~uint64_t{0};       ///< What the A20 gate lets through.
  std::unique_ptr<NativeUser> native_;
  NativePolicy policy_;
  std::string native_refusal_;
  std::atomic<const Container*> native_running_{nullptr};
  int native_failures_ = 0;
  /// How often C++ may still be entered before the deadline is taken back from the container; 0: it
  /// need not be.
  uint32_t brief_entries_ = 0;
  static constexpr uint32_t kBriefEntries = 16;
  /// How many of the next stays in translated code are not taken for brief. Set by a handler, too.
  std::atomic<uint32_t> not_brief_{0};
  static constexpr uint32_t kNotBrief = 256;
  HeldProcessor processor_;
  ProcessorWait thread_wait_;
  ProcessorWait container_wait_;
  Placement placement_;
  bool two_processors_ = false;      ///< Native code may have one of its own.
  std::function<void()> meanwhile_;  ///< What the thread does while that runs for long.
  uint64_t waited_apart_ = 0;        ///< When it last did.
  /// What the instruction at `eip` is to access when the guest's kernel returns to it.
  struct ExpectedAccess {
    uint32_t view = 0;
    uint32_t eip = 0;
    Linear address{};
    Access access = Access::kRead;
  };
  ExpectedAccess native_expected_;
  NativeCause native_cause_ = NativeCause::kKick;  ///< Of the last event.
  bool step_translated_ = false;  ///< The next instruction alone is to run translated.
  /// Execution tables whose pages are left for the run loop, which may go on natively.
  bool companion_ = false;
  std::array<View*, 2> views_{};  ///< Supervisor, user; of the current paging context.
  ExecutionView* execution_view_ = nullptr;
  /// By what of the mode changes most often: privilege, and the place of code with a base.
  struct RecentMode {
    ModeKey key;
    uint32_t id = 0;
    uint32_t view = 0;
    ExecutionView* execution = nullptr;
    uint64_t recycled = 0;
    bool companion = false;
  };
  /// What the mode was where what it is made of was the same. By what differs most between modes
  /// that take turns.
  using ModeInputs = std::array<uint64_t, 5>;
  struct SeenMode {
    ModeInputs inputs{};
    uint32_t view = 0;
    uint32_t id = 0;
    ModeKey key;
    ExecutionView* execution = nullptr;
    uint64_t recycled = 0;
  };
  std::array<SeenMode, 128> seen_modes_;
  ModeInputs mode_inputs() const;
  void recall_mode(View& view);
  void find_mode(View& view);
  void follow_view(View& view);
  std::array<RecentMode, 64> recent_modes_;  ///< By ModeHash::quick().
  uint64_t known_codes_recycled_ = 0;        ///< ExecutionViews::recycled() that they are good for.
  bool counted_ = false;
  uint64_t budget_given_ = 0;  ///< What the budget was when the run began.

  std::array<std::byte, 64> gathered_{};  ///< A read across a page end.
  uint64_t discarded_ = 0;                ///< Where an instruction stores what has been stored.
  std::array<OpenAccess, 4> open_;        ///< Used in rotation: no instruction has more.
  uint32_t open_next_ = 0;
  std::array<uint32_t, 4> pending_{};  ///< Slots to be written back by the commit, in order.
  uint32_t pending_count_ = 0;
  std::array<std::byte, kPageSize + 16> straddle_buffer_{};
  std::vector<CodeRange> new_ranges_;  ///< Of the block being inserted.

  Exit exit_;
  CpuState before_ports_;  ///< To go back to when INS has to leave for its value.
  /// The guest's pointers as they were when the host's FPU was last given them.
  struct FpuPointers {
    uint32_t dp = 0;
    uint16_t opcode = 0;
  };
  FpuPointers fpu_loaded_;
  /// The last x87 instruction that was found: its EIP, and where its code segment began.
  struct FpuInstruction {
    uint32_t eip = 0;
    uint32_t base = 0;
  };
  FpuInstruction fpu_instruction_;
  bool x87_ignored_ = false;  ///< IGNNE#: waiting instructions run in spite of an error.
  bool x87_held_ = false;     ///< An instruction has not begun because of an error.
  bool x87_passes_ = false;   ///< ... and is to run in spite of it.
  uint16_t x87_masks_ = 0;    ///< The guest's while one does: for the host, all are masked.
  bool x87_sets_control_ = false;
  bool port_exit_ = false;  ///< in() or out() filled exit_ and wants to leave.
  bool port_read_waits_ = false;
  bool port_read_completed_ = false;
  uint32_t port_read_value_ = 0;

  std::vector<uint8_t> queued_interrupts_;
  bool nmi_waiting_ = false;
  InterruptSource* interrupt_source_ = nullptr;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> deadline_passed_{false};

  /// Sets of addresses, sorted: ModeKey::breakpoints is an index plus 1.
  std::vector<std::vector<uint32_t>> breakpoint_sets_;
  uint32_t debug_met_ = 0;  ///< Breakpoints that the current instruction has met.
  /// The last instruction that was entered by itself.
  struct SingleStep {
    bool trap = false;    ///< TF was set.
    uint64_t events = 0;  ///< EngineCounters::stepping_events() before it.
    bool completed(const EngineCounters& now) const { return events == now.stepping_events(); }
  };
  SingleStep step_;

  std::unordered_set<uint32_t> breakpoints_;
  bool running_ = false;
  bool at_breakpoint_ = false;  ///< Where the last run ended.
  bool step_over_breakpoint_ = false;
  uint32_t breakpoint_at_ = 0;

  // Of a repeated CMPS or SCAS that is not through: HotFields::compare_unfinished.
  uint32_t compare_eip_ = 0;
  uint32_t flags_before_compare_ = 0;

  // What the signal handler found.
  int signal_trap_ = 0;
  uint64_t signal_pc_ = 0;

  std::optional<SamplingTimer> sampling_timer_;
  EngineSamples samples_;
  EngineCounters counters_;
  HostTicks ticks_;
  std::array<uint64_t, 2048> interpreted_by_mnemonic_{};
  uint64_t instructions_counted_ = 0;
  uint64_t instructions_skipped_ = 0;  ///< Time that passed without any.
  bool all_counted_ = true;            ///< In every run so far.
};

}  // namespace trapline
