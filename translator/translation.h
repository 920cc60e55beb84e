// What goes into a translation and what comes out. The translator knows neither the cache nor the
// engine: addresses it needs are given to it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "translator/mode.h"
#include "translator/mutations.h"
#include "translator/switches.h"
#include "vcpu/cpu.h"
#include "vcpu/cpu_model.h"

namespace trapline {

/// Calls from the middle of an instruction into C++ that come back (or leave the block, with the
/// state as it was before the instruction).
/// In: address register = argument, delta register = information. Out: delta register.
/// Preserve everything else but the host's flags.
enum class Gate : uint8_t {
  kFill,     ///< Linear address -> delta for an access (AccessInfo).
  kSegment,  ///< Offset: the full segment check (AccessInfo).
  kWindow,   ///< Moves the stack window to a linear address; information: the span's class.
  kFrame,    ///< Makes the stack window reach there as well as the stack (FrameInfo).
  kOpen,     ///< As kFill, but always gives an address, possibly of a buffer (AccessInfo).
  kCommit,   ///< Writes back what kOpen gave a buffer for.
  kDivide,   ///< Leaves with #DE when the signed division would overflow (value register: divisor).
  kFpuSync,  ///< Makes the x87 pointers in the host's FPU the guest's.
  kVerify,   ///< Selector, whether writable: VERW or VERR's ZF.
  kFpuLoad,  ///< Puts the guest's FPU state into the host's FPU. Changes no register at all.
};
inline constexpr int kGateCount = 10;

/// Jumps into C++ that end the block. In: CpuState::eip = the instruction, address register =
/// value, delta register = payload, flags register = saved flags. C++ says where to go on.
/// Unless said otherwise a payload holds the instruction's length in its top byte, and below that
/// the number of the block's instructions from this one on.
enum class SystemOp : uint8_t {
  kLink,             ///< Payload: exit number. A direct branch that is not linked yet.
  kLookup,           ///< Value: linear address of the next instruction; EIP is not set.
  kStraddle,         ///< Payload: the block's variant. Its second page is not what it was.
  kInterpret,        ///< One instruction for vcpu/'s interpreter.
  kRaise,            ///< Payload: vector | has_error << 8; value: error code.
  kTrapStep,         ///< Single step: #DB after the instruction; value: next EIP.
  kBreakpoint,       ///< A breakpoint of the embedder's.
  kGuestBreakpoint,  ///< One of the guest's debug registers, for execution.
  kBudget,           ///< The instruction budget does not cover the block.
  kHalt,
  kInterrupt,  ///< Payload: vector | InterruptForm << 8 | length << 24.
  kIret,       ///< Payload: operand size.
  kFarJump,    ///< Payload: operand size; value: offset; the selector is in HotFields::scratch.
  kFarCall,
  kFarReturn,    ///< Payload: operand size; value: bytes to release.
  kLoadSegment,  ///< Payload: segment | length << 24; value: selector.
  kPopSegment,   ///< Payload: segment | operand size << 8 | length << 24.
  /// LDS and its kin, both parts read. Payload: segment | register << 3 | operand size << 8;
  /// value: selector; the offset is in HotFields::scratch.
  kLoadFarPointer,
  kIn,  ///< Payload: size | length << 24; value: port.
  kOut,
  kInputString,  ///< INS. Payload: StringPortInfo.
  kOutputString,
  kEnter,      ///< Payload: operand size | level << 8; value: bytes.
  kFpuState,   ///< Payload: FpuStateInfo; value: the operand's offset.
  kFlagsPush,  ///< PUSHF. Payload: operand size | length << 24.
  kFlagsPop,
  kCli,  ///< Payload: length << 24.
  kSti,
  kDirection,  ///< CLD (value 0), STD (value 1).
  kPushAll,    ///< PUSHA. Payload: operand size.
  kPopAll,
  kStoreTable,         ///< Payload: GDT or IDT | segment << 4 | address size << 8; value: offset.
  kLoadSystemSegment,  ///< Payload: LDTR or TR; value: selector.
  kLoadStatusWord,     ///< LMSW. Value: word.
  kQuerySelector,      ///< LAR or LSL. Payload: which | register << 4 | its size << 8; value.
  kMoveDebug,          ///< Payload: number | general register << 4 | whether to debug << 7.
  kClearTaskSwitched,
  kIdentify,  ///< CPUID.
  kReadMsr,
  kWriteMsr,
  kReadCounter,
  kMoveToCr,     ///< Payload: register | length << 24; value.
  kMoveFromCr4,  ///< Payload: general register.
  kReadTsc,
  kSysenter,
  kSysexit,
  /// A repeated string instruction is not through. Payload: whether it compares; value: then the
  /// flags from before all of it.
  kSafepoint,
};
enum class InterruptForm : uint8_t { kIntN, kInt1, kInt3, kInto };
inline constexpr int kSystemOpCount = static_cast<int>(SystemOp::kSafepoint) + 1;

/// Packed description of an access, for gates.
struct AccessInfo {
  /// What a MOV stores, where C++ can tell it by itself.
  enum class Stored : uint8_t { kOther, kZero, kRegister, kHighByte };

  uint8_t size = 0;
  bool write = false;
  SegmentName segment = kDs;
  bool read = true;
  bool aligned = false;  ///< SSE: #GP(0) unless 16-byte aligned, before anything else.
  Stored stored = Stored::kOther;
  uint8_t source = 0;              ///< The register that is stored.
  uint8_t instruction_length = 0;  ///< Of a MOV whose value C++ can tell.
  bool shared = false;             ///< What comes of it is for other accesses, too.

  constexpr uint32_t pack() const {
    return size | (write ? 0x100u : 0u) | (read ? 0x200u : 0u) | (aligned ? 0x400u : 0u) |
           uint32_t{segment} << 12 | static_cast<uint32_t>(stored) << 16 | uint32_t{source} << 18 |
           uint32_t{instruction_length} << 21 | (shared ? 1u << 25 : 0u);
  }
  static constexpr AccessInfo unpack(uint32_t bits) {
    return {static_cast<uint8_t>(bits),
            (bits & 0x100) != 0,
            static_cast<SegmentName>(bits >> 12 & 7),
            (bits & 0x200) != 0,
            (bits & 0x400) != 0,
            static_cast<Stored>(bits >> 16 & 3),
            static_cast<uint8_t>(bits >> 18 & 7),
            static_cast<uint8_t>(bits >> 21 & 15),
            (bits & 1u << 25) != 0};
  }
};

/// Packed description of a frame, for Gate::kFrame.
struct FrameInfo {
  uint32_t span_class = 0;
  bool window_in_use = false;  ///< The block relies on where the window is.

  constexpr uint32_t pack() const { return span_class | (window_in_use ? 0x100u : 0u); }
  static constexpr FrameInfo unpack(uint32_t bits) { return {bits & 0xff, (bits & 0x100) != 0}; }
};

/// Packed description of INS and OUTS.
struct StringPortInfo {
  static constexpr uint32_t pack(const StringPort& string) {
    return string.size | (string.repeated ? 0x8u : 0u) | uint32_t{string.source} << 4 |
           static_cast<uint32_t>(string.address) << 8;
  }
  static constexpr StringPort unpack(uint32_t bits) {
    return {static_cast<uint8_t>(bits & 7), static_cast<AddressSize>(bits >> 8 & 7),
            (bits & 8) != 0, static_cast<SegmentName>(bits >> 4 & 7)};
  }
};

/// Packed description of FNSAVE and its kin.
struct FpuStateInfo {
  FpuStateOp op = FpuStateOp::kFldenv;
  SegmentName segment = kDs;
  OperandSize size = OperandSize::k32;

  constexpr uint32_t pack() const {
    return static_cast<uint32_t>(op) | uint32_t{segment} << 4 | static_cast<uint32_t>(size) << 8;
  }
  static constexpr FpuStateInfo unpack(uint32_t bits) {
    return {static_cast<FpuStateOp>(bits & 15), static_cast<SegmentName>(bits >> 4 & 7),
            static_cast<OperandSize>(bits >> 8 & 7)};
  }
};

/// Addresses in code memory of what every block uses. All below 2 GiB.
struct Thunks {
  std::array<uint32_t, kGateCount> gate{};
  std::array<uint32_t, kSystemOpCount> system{};
  uint32_t enter = 0;       ///< uint32_t (*)(CpuState* context, uint64_t code)
  uint32_t miss_host = 0;   ///< Where unused entries lead, flags in the host's EFLAGS.
  uint32_t miss_saved = 0;  ///< Likewise, flags in the flags register.
  uint32_t leave = 0;       ///< Ends enter(), with HotFields::exit_code.
  /// Loads the selector in the address register into the segment register whose offset in
  /// CpuState::segment is in the delta register, if LoadedSegment knows what comes out: then ZF is
  /// set. Otherwise nothing has changed. Preserve everything else but the host's flags.
  uint32_t load_segment = 0;
  uint32_t load_segment_of_class = 0;  ///< Likewise, but not when the segment's class changes.
  /// Likewise, where it is known what mode that leads to: see KnownClass. The offset of its first
  /// slot in the table is in the value register.
  uint32_t load_segment_and_class = 0;
  /// Loads CS with the selector in the delta register, as real mode does, where KnownCode has it
  /// for the mode word in the value register. Then ZF is set, the address register, which had IP,
  /// has the linear address, and the delta register the code to jump to. Otherwise nothing has
  /// changed but these three registers.
  uint32_t enter_code = 0;
  uint32_t signal_exit = 0;  ///< Where the signal handler sends a block's fault.
};

/// Four bytes of a block's code that are not the same wherever its parts lie, or wherever the guest
/// has its page.
struct Reference {
  enum class To : uint8_t {
    kHot,      ///< A rel32 of the cold part to the rest,
    kCold,     ///< or the other way round,
    kOutside,  ///< or of either part to a thunk.
    kLinear,   ///< A guest address, or EIP, which moves with the page.
    kSlot,     ///< The place of such an address's page in an execution table.
    kExit,     ///< The number of one of the block's exits.
  };
  uint16_t at = 0;  ///< Offset.
  To to = To::kOutside;

  bool operator==(const Reference&) const = default;
};

/// Maps a host address inside a block to the guest instruction it belongs to.
struct Record {
  uint16_t host = 0;         ///< Offset of the first byte it holds for.
  int16_t guest = 0;         ///< The instruction's offset from the block's first.
  int16_t esp_pending = 0;   ///< Guest ESP at its start, minus the stack register.
  uint8_t index = 0;         ///< How many instructions of the block come before it.
  bool flags_saved = false;  ///< The live flags are in the flags register, not in the host's.
};

/// A direct branch out of the block.
struct ExitSite {
  uint32_t target = 0;                 ///< EIP.
  uint32_t jump = 0;                   ///< Offset of the branch's rel32.
  uint32_t stub = 0;                   ///< Offset of the code that asks for the link.
  bool flags_saved = false;            ///< Which entry of the target fits.
  Variant variant = Variant::kNormal;  ///< Of the target.
};

/// Guest bytes that a block was made from, as offsets from its first instruction. More than one
/// range when liveness looked ahead.
struct GuestRange {
  int32_t start = 0;
  uint32_t length = 0;
};

struct TranslationRequest {
  uint32_t eip = 0;
  uint32_t linear = 0;
  ModeKey mode;
  Variant variant = Variant::kNormal;
  /// The page that `linear` is in, whole, followed by what is known of the next page (nothing, or
  /// its first 15 bytes: then the first instruction may straddle).
  std::span<const uint8_t> page;
  /// How many instruction bytes CS's limit leaves at `eip`.
  uint64_t limit_left = ~uint64_t{0};
  uint64_t straddle_entry = 0;          ///< What the execution table must hold for the second page.
  uint32_t first_exit = 0;              ///< Number of the first ExitSite.
  uint32_t code_address = 0;            ///< Where the block will be put.
  bool fpu_error_native = true;         ///< CR0.NE.
  uint32_t mxcsr_mask = 0xffff;         ///< What LDMXCSR may set.
  Mutation mutation = Mutation::kNone;  ///< For tests.
  std::function<bool(uint32_t)> is_breakpoint;  ///< By linear address; may be empty.
  /// Linear addresses of the guest's breakpoints. Blocks end before them; a normal block that
  /// begins at one is the breakpoint, others have passed it.
  std::span<const uint32_t> guest_breakpoints;
};

struct Translation {
  enum class Status : uint8_t {
    kOk,
    kNeedsNextPage,  ///< The first instruction goes on in the next page.
    kPastLimit,      ///< The first instruction goes past CS's limit.
  };
  Status status = Status::kOk;
  std::span<const uint8_t> code;          ///< Valid until the next translation.
  uint32_t cold_start = 0;                ///< The code from this offset on may be put elsewhere.
  std::span<const Reference> references;  ///< Valid until the next translation.
  /// Whether the references are all that is to be changed for the same code in another linear page.
  bool movable = false;
  uint32_t host_entry = 0;   ///< Offset; flags in the host's EFLAGS.
  uint32_t saved_entry = 0;  ///< Offset; flags in the flags register.
  uint32_t guest_bytes = 0;  ///< Up to the first jump that was followed.
  uint32_t instructions = 0;
  uint32_t basic_blocks = 0;  ///< Stretches between branches.
  bool straddles = false;
  std::vector<Record> records;
  std::vector<ExitSite> exits;
  /// Behind jumps that were followed, and what the look-ahead saw.
  std::vector<GuestRange> lookahead;
};

}  // namespace trapline
