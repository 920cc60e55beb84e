// Emits one block: where flags are, what ESP still has to be adjusted by, how memory is reached,
// how blocks are left. The lowering functions, one file per family, are written in terms of it.
//
// Invariants while a block is being emitted:
//  E1  Guest registers hold their values at the start of the current instruction until its accesses
//      have all been opened; so every gate can leave with exact state.
//  E2  Live arithmetic flags are in the host's EFLAGS, or in the flags register, or what the
//      comparison `comparison_` would give again (flags_in_host_, recompute_). The last is so
//      between two instructions of a block only; cold code that calls C++ saves them first.
//  E3  Guest ESP is the stack register plus esp_pending_, which records carry; it is flushed before
//      every exit.
#pragma once

#include <asmjit/x86.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "translator/analysis.h"
#include "translator/context.h"
#include "translator/host_assembler.h"
#include "translator/host_registers.h"
#include "translator/instruction.h"
#include "translator/translation.h"
#include "vcpu/address.h"
#include "vcpu/fault.h"

namespace trapline {

enum class AccessKind : uint8_t { kRead, kWrite, kModify };
/// How large an offset can be.
enum class OffsetSize : uint8_t { k16, k32 };

class BlockEmitter {
 public:
  /// What blocks need memory for, to be used again for the next one.
  struct Workspace;
  /// What blocks say again and again.
  struct Phrases;

  BlockEmitter(Workspace& workspace, const Thunks& thunks, const Switches& switches,
               const TranslationRequest& request, const BlockAnalysis& analysis, Translation& out);

  void emit_block(std::span<const Instruction> instructions);

  HostAssembler& a;

  // --- what lowering functions may ask ---
  const ModeKey& mode() const { return request_.mode; }
  const Switches& switches() const { return switches_; }
  const TranslationRequest& request() const { return request_; }
  bool mutated(Mutation mutation) const { return request_.mutation == mutation; }
  bool stack32() const { return request_.mode.stack32(); }
  uint32_t flags_live_after() const { return current_->live_after; }

  // --- flags ---
  /// Before code that destroys the host's flags: saves them if anything needs them later.
  void clobber_flags();
  /// Before an instruction that reads the guest's flags.
  void need_flags();
  /// After an instruction whose host flags are now the guest's.
  void flags_are_in_host();
  /// Makes the host's flags ready for re-emitting `in`: restores them when it reads or only partly
  /// writes them.
  void prepare_flags(const Instruction& in);
  /// Puts live flags into the flags register, where exits through C++ expect them.
  void save_flags_for_exit();

  // --- stack pointer ---
  void flush_esp();
  void adjust_esp(int32_t bytes) { esp_pending_ += bytes; }
  /// Whether what the current instruction does to the stack cannot wrap, or wraps as ESP does.
  bool esp_is_whole() const { return stack32() || narrow_window(); }
  int32_t esp_pending() const { return esp_pending_; }
  /// For a mutation: the change that is pending, which nobody will make.
  int32_t forget_esp() { return std::exchange(esp_pending_, 0); }

  // --- addresses and memory ---
  /// Offset (before segmentation) of a memory operand into the address register. `esp_bias` is
  /// added when the base is ESP (POP counts it already incremented).
  void load_offset(const Operand& operand, const Instruction& in, int32_t esp_bias = 0,
                   const asmjit::x86::Gp& address = host::kAddress);
  /// Opens a memory operand and gives the host operand for it. Uses the address and delta registers
  /// (not for window accesses). Two accesses may be open at once only if the first is not used
  /// again.
  asmjit::x86::Mem open(const Operand& operand, const Instruction& in, uint32_t size,
                        AccessKind kind, int32_t esp_bias = 0);
  /// Same for an offset that is in the address register already.
  asmjit::x86::Mem open_offset(SegmentName segment, uint32_t size, AccessKind kind,
                               OffsetSize offset = OffsetSize::k32);
  /// The linear address in the address register.
  asmjit::x86::Mem open_linear(uint32_t size, AccessKind kind) {
    return lookup(size, kind, Operand::kNoRegister);
  }
  /// The stack slot at ESP + displacement.
  asmjit::x86::Mem open_stack(int32_t displacement, uint32_t size, AccessKind kind);
  /// After the instruction that wrote: commits in careful blocks, nothing elsewhere.
  void commit();
  bool careful() const { return careful_; }

  // --- calls into C++ ---
  void gate(Gate which, uint32_t info);
  void call_thunk(uint32_t Thunks::*which);
  /// Ends the block through C++. EIP is set to `in`'s address. Value in the address register.
  void system(SystemOp op, uint32_t payload, const Instruction& in);
  void raise(Vector vector, bool has_error, uint32_t error, const Instruction& in);
  /// Cold code that ends the block through C++ instead of what emitted code does here otherwise.
  /// Live flags must have been saved.
  CodeLabel system_elsewhere(SystemOp op, uint32_t payload);
  /// Likewise, for a load of DS or ES that would change the segment's class: behind it, the block
  /// of the other mode goes on if that is known. The selector is in the address register, what the
  /// thunks call the segment in the delta register, and `popped` bytes leave the stack.
  CodeLabel class_elsewhere(SystemOp op, uint32_t payload, const Instruction& in, uint8_t popped);

  // --- interrupt shadow ---
  /// Whether the instruction after this one is in the block, so that the shadow can end with it.
  bool shadow_fits() const { return size_t{index_} + 1 < instructions_.size(); }
  bool ends_shadow() const { return index_ == shadow_ends_after_; }
  void begin_shadow() { shadow_ends_after_ = index_ + 1; }

  // --- branches ---
  /// Goes to a constant EIP; ends the code path.
  void jump_to(uint32_t eip);
  /// A conditional branch to a constant EIP on the host's flags.
  void branch_to(asmjit::x86::CondCode condition, uint32_t eip);
  /// An unconditional branch out of the middle of the block's code.
  void branch_always(uint32_t eip);
  /// Raises #GP when the EIP in the address register is beyond CS's limit. Before any effect.
  void check_indirect_limit(const Instruction& in);
  /// Goes to the EIP in the address register; ends the code path.
  void jump_indirect();
  bool flags_in_host() const { return flags_in_host_; }
  bool recomputes_flags() const { return recompute_; }
  /// The block is not one that could be moved to another page.
  void stays_here() { out_.movable = false; }
  void set_flags_saved() { flags_in_host_ = recompute_ = false; }
  std::span<const uint8_t> bytes_of(const Instruction& in) const;
  bool linkable(uint32_t eip) const;
  /// Checks a constant target against CS's limit; raises and returns false when it is outside.
  bool target_in_limit(uint32_t eip, const Instruction& in);

  // --- FPU ---
  /// Raises what the mode makes of the instruction, or makes sure that the guest's FPU state is
  /// loaded. False when the instruction can only fault (it has been emitted as that).
  bool prepare_fpu(const Instruction& in);

  // --- cold code ---
  /// Jumps to cold code that calls the gate and comes back here.
  struct Cold {
    enum class Kind : uint8_t { kGate, kJumpStub, kRaise, kWindow, kSystem, kNoSharing };
    Kind kind = Kind::kGate;
    CodeLabel entry;
    CodeLabel resume;
    Gate gate = Gate::kFill;
    SystemOp op = SystemOp::kLink;
    uint32_t info = 0;                ///< Or the payload of the system operation.
    uint8_t address_register = 0xff;  ///< Guest register that the address register is set from.
    int32_t offset = 0;               ///< What is added to that register.
    CodeLabel misaligned;             ///< Valid: a look-up that comes here when misaligned.
    bool write = false;               ///< Which table it looks up.
    bool to_value = false;            ///< The value register gets what the gate gives.
    uint8_t size = 0;
    /// Not -1: when misaligned, the access may leave this segment of class k64K.
    int8_t segment = -1;
    // kJumpStub
    uint32_t target = 0;
    bool flags_saved = false;
    uint32_t jump_offset = 0;
    // kSystem
    bool changes_class = false;  ///< See class_elsewhere(). It goes on at `target`.
    uint8_t popped = 0;
    bool whole_esp = false;
    // kRaise
    Fault fault;
    // Where it belongs
    Record record;
    int comparison = -1;  ///< Instruction that gives the live flags, which are nowhere else.
  };
  Cold& add_cold(Cold::Kind kind);
  void emit_change_of_class(const Cold& cold);

  /// Whether the current instruction is a jump and the block goes on at its target.
  bool follows_jump() const { return index_ + 1 < block_size(); }
  /// Whether the current instruction is the branch of a loop that has an unchecked copy.
  bool closes_page_loop() const {
    return analysis_.loop.found && analysis_.loop.back_edge == index_;
  }

  void end_block() { ended_ = true; }
  /// After code paths inside an instruction that ended the block, when others go on.
  void continue_block() { ended_ = false; }
  bool ended() const { return ended_; }

 private:
  uint32_t block_size() const { return static_cast<uint32_t>(analysis_.instruction.size()); }
  /// Instructions of the block from the current one on: what a budget gets back when it faults.
  uint32_t unretired() const { return block_size() - index_; }
  void end_shadow();
  void emit_entry();
  void emit_straddle_check();
  void emit_budget_check(uint32_t count);
  void emit_instruction(const Instruction& in);
  void emit_cold();
  void add_record(uint32_t host_offset);
  uint32_t offset() const { return static_cast<uint32_t>(a.offset()); }
  bool narrow_window() const { return current_->narrow && current_->in_range && !careful_; }
  void ensure_window(const InstructionAnalysis& info);
  void ensure_frame(const InstructionAnalysis& info);
  void guard_window(Gate gate, uint8_t base, int32_t low, int32_t span, bool in_use);
  asmjit::x86::Mem window_operand(uint8_t base, int32_t displacement, uint32_t size);
  asmjit::x86::Mem lookup(uint32_t size, AccessKind kind, uint8_t address_register);
  AccessInfo describe(uint32_t size, AccessKind kind) const;
  void note_comparison(const Instruction& in);
  void emit_comparison(int index);
  void settle_flags();
  void emit_save_flags();
  void emit_restore_flags();
  void set_eip(uint32_t eip);
  void jump_through_table(uint32_t linear);
  void jump_by_entry(const asmjit::x86::Gp& slot);
  void jump_to_lookup();
  void branch_to_stub(std::optional<asmjit::x86::CondCode> condition, uint32_t eip);
  bool looks_up_in_code() const;
  void load_delta(const asmjit::x86::Gp& address, bool write,
                  const asmjit::x86::Gp& delta = host::kDelta);
  void emit_misaligned(const Cold& cold);
  void emit_end_check(const Cold& cold);
  void emit_comparison_flags(const Cold& cold);

  // shared_lookup_emitter.cc
  const SharedLookup* sharing(const Operand& operand, uint32_t size) const;
  asmjit::x86::Mem open_shared(const SharedLookup& shared, const Operand& operand,
                               const Instruction& in, uint32_t size, AccessKind kind);
  void guard_page(const SharedLookup& shared, int32_t from, const asmjit::x86::Gp& address);
  asmjit::x86::Gp look_up_shared(const SharedLookup& shared, int32_t at, uint32_t size,
                                 AccessKind kind);
  void emit_no_sharing(const Cold& cold);

  // page_loop_emitter.cc
  void place_streams();
  void keep_branch_in_line(const Instruction& in);
  void pad_line(uint32_t bytes);
  void emit_page_loop(std::span<const Instruction> instructions);
  void emit_stream_guard(const LoopStream& stream, int number, bool first_of_limit);
  void emit_limit(const LoopStream& stream, bool first_of_limit);
  void emit_loop_end(std::optional<asmjit::x86::CondCode> again);
  asmjit::x86::Mem stream_operand(const Operand& operand, uint32_t size);
  void enter_page_loop(std::optional<asmjit::x86::CondCode> condition);

  const Thunks& thunks_;
  const Switches& switches_;
  const TranslationRequest& request_;
  const BlockAnalysis& analysis_;
  Translation& out_;
  std::vector<Cold>& cold_;
  Phrases& phrases_;
  const InstructionAnalysis* current_ = nullptr;
  uint32_t index_ = 0;
  std::span<const Instruction> instructions_;
  bool flags_in_host_ = true;
  bool recompute_ = false;  ///< The flags are those of `comparison_`.
  int comparison_ = -1;     ///< Whose flags are current and can be had again; -1: none.
  bool careful_ = false;
  bool careful_writes_ = false;
  bool aligned_ = false;       ///< The access being opened must be 16-byte aligned.
  int8_t end_unchecked_ = -1;  ///< Cold::segment of the access being opened.
  bool fpu_checked_ = false;
  bool ended_ = false;
  int32_t esp_pending_ = 0;
  int guarded_segment_ = -1;
  int guarded_frame_ = -1;
  uint32_t shadow_ends_after_ = ~0u;

  /// What the value register holds.
  struct SharedPlace {
    const SharedLookup* of = nullptr;
    int32_t origin = 0;     ///< What distances count from.
    bool writable = false;  ///< The page may be written as well.
  };
  SharedPlace shared_;

  /// The unchecked copy of a loop.
  struct LoopCopy {
    CodeLabel guard;             ///< Where the loop's branch goes.
    CodeLabel head;              ///< The copy's first instruction.
    CodeLabel onward;            ///< Behind the loop's branch, in the block itself.
    CodeLabel give_up;           ///< Back to the block's entry.
    bool entered = false;        ///< The block's own branch has been emitted.
    bool flags_in_host = false;  ///< At the block's own branch.
    bool emitting = false;
    /// Where each stream's base is; not valid: in LoopFields.
    std::array<asmjit::x86::Gp, kLoopStreams> base;
  };
  LoopCopy copy_;
};

/// By the register that holds the address, and by the table or the size of the access.
struct BlockEmitter::Phrases {
  static constexpr size_t kRegisters = 16;
  static constexpr size_t kTables = 2;
  static constexpr size_t kSizes = 4;

  /// The view's entry into the delta register, and the test of the address that the size asks for.
  std::array<std::array<std::array<Phrase, kSizes>, kTables>, kRegisters> look_up;
  std::array<std::array<Phrase, kTables>, kRegisters> look_up_again;
  std::array<std::array<Phrase, kSizes>, kRegisters> crossing;
  Phrase absent;
  Phrase save_flags;
};

struct BlockEmitter::Workspace {
  HostAssembler assembler;
  std::vector<Cold> cold;
  Phrases phrases;
};

}  // namespace trapline
