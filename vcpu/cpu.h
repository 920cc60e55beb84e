// The privileged semantics of the CPU: everything that translated code does by calling down into
// C++, and what the interpreter is made of. All of it works on a complete CpuState (registers and
// flags spilled), is exact about checks, error codes and restart points, and never touches host
// vector or x87 registers' guest content.
//
// Rules that hold for every function here:
//  * A fault leaves CpuState and memory as they were before the instruction, except where the
//    manual says otherwise.
//  * state.eip is the address of the instruction when a function is called, and `next_eip` (where
//    passed) the one after it. Functions that transfer control set state.eip themselves; the others
//    leave it alone, and the caller advances it.
//  * Functions that change segments, CPL, control registers or system flags keep every derived
//    field (Segment::derive) and tell CpuEvents what they must.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "vcpu/cpu_model.h"
#include "vcpu/fault.h"
#include "vcpu/memory.h"
#include "vcpu/state.h"

namespace trapline {

/// Exceptions and IRETs that stay in their ring, on a flat stack, and how the last ones went: what
/// was found is found again while the descriptors in memory are the same. Nothing has to be
/// invalidated.
struct KnownTransfers {
  /// A code segment that IRET has returned to, of the selector's RPL.
  struct Target {
    uint64_t descriptor = 0;
    Segment cs;
  };
  /// Where a gate of 32 bits led from a privilege level.
  struct Handler {
    uint64_t gate = 0;
    uint64_t descriptor = 0;
    uint8_t cpl = 0;
    Segment cs;
  };
  static constexpr size_t kSlots = 8;
  std::array<Target, kSlots> targets{};    ///< By selector.
  std::array<Handler, kSlots> handlers{};  ///< By vector.

  Target& target(uint16_t selector) { return targets[selector / 8u % kSlots]; }
  Handler& handler(uint8_t vector) { return handlers[vector % kSlots]; }
};

struct Cpu {
  CpuState& state;
  const CpuModel& model;
  LinearMemory& memory;
  PortSpace& ports;
  CpuEvents& events;
  KnownTransfers known{};
};

enum class SegmentAccess : uint8_t { kRead, kWrite };
enum class OperandSize : uint8_t { k16 = 2, k32 = 4 };
enum class AddressSize : uint8_t { k16 = 2, k32 = 4 };

// --- segments.cc -------------------------------------------------------------------------------

/// The full limit, type, null and expand-down check. #SS for SS, #GP for the others. Also raises
/// #AC when `aligned_to` > 1 and alignment checks are armed.
OrFault<Linear> check_segment(const CpuState& state, SegmentName name, uint32_t offset,
                              uint32_t size, SegmentAccess access, uint32_t aligned_to = 1);

/// MOV to a segment register, POP of one, LDS and friends. Not for CS. Loading SS sets no shadow:
/// the instruction does.
OrFault<void> load_segment(Cpu& cpu, SegmentName name, uint16_t selector);

/// What VERR and VERW find out: whether the segment may be read, or written, at this level.
OrFault<bool> verify_selector(Cpu& cpu, uint16_t selector, bool writing);

OrFault<void> load_ldtr(Cpu& cpu, uint16_t selector);
OrFault<void> load_tr(Cpu& cpu, uint16_t selector);

// --- transfers.cc, returns.cc, fast_calls.cc; tasks.cc has the task switches ---------------------

OrFault<void> far_jump(Cpu& cpu, uint16_t selector, uint32_t offset, OperandSize size,
                       uint32_t next_eip);
OrFault<void> far_call(Cpu& cpu, uint16_t selector, uint32_t offset, OperandSize size,
                       uint32_t next_eip);
OrFault<void> far_return(Cpu& cpu, OperandSize size, uint16_t release);
/// `next_eip` is what a task that returns to its caller resumes at.
OrFault<void> iret(Cpu& cpu, OperandSize size, uint32_t next_eip);
OrFault<void> sysenter(Cpu& cpu);
OrFault<void> sysexit(Cpu& cpu);

// --- delivery.cc -------------------------------------------------------------------------------

enum class Delivered : uint8_t { kOk, kTripleFault };

/// Delivers a fault raised by the instruction at state.eip, through the IDT (or IVT), escalating
/// to #DF and triple fault as the manual's table says. Sets CR2 for page faults, RF in the pushed
/// image for faults.
Delivered deliver_fault(Cpu& cpu, const Fault& fault);
/// Which instruction a software interrupt came from. INT n alone depends on IOPL in V86 mode; INT1
/// alone ignores the gate's DPL.
enum class SoftwareInterrupt : uint8_t { kIntN, kInt1, kInt3, kInto };
/// INT n, INT1, INT3, INTO: with the gate's DPL check; the pushed EIP is next_eip. The `fault` that
/// comes back is one of the INT instruction itself, still to be delivered.
OrFault<void> software_interrupt(Cpu& cpu, uint8_t vector, uint32_t next_eip,
                                 SoftwareInterrupt form = SoftwareInterrupt::kIntN);
/// A trap such as single-step #DB after the instruction: no DPL check, pushes state.eip.
Delivered deliver_trap(Cpu& cpu, Vector vector);
/// An external interrupt or an NMI, between instructions.
Delivered deliver_interrupt(Cpu& cpu, uint8_t vector);
Delivered deliver_nmi(Cpu& cpu);

// --- control.cc, msr.cc -----------------------------------------------------------------------

OrFault<void> write_cr0(Cpu& cpu, uint32_t value);
OrFault<void> write_cr3(Cpu& cpu, uint32_t value);
OrFault<void> write_cr4(Cpu& cpu, uint32_t value);
OrFault<uint64_t> read_msr(Cpu& cpu, uint32_t index);
OrFault<void> write_msr(Cpu& cpu, uint32_t index, uint64_t value);

/// POPF's rule: which bits of EFLAGS an image may change at this CPL, IOPL and mode.
OrFault<void> write_flags(Cpu& cpu, uint32_t image, OperandSize size);
/// PUSHF's image. Faults in V86 mode with IOPL < 3.
OrFault<uint32_t> read_flags(const Cpu& cpu, OperandSize size);
OrFault<void> cli(Cpu& cpu);
/// Sets the interrupt shadow when IF was clear.
OrFault<void> sti(Cpu& cpu);
/// IOPL and the TSS's I/O permission bitmap.
OrFault<void> check_port(Cpu& cpu, uint16_t port, uint32_t size);
OrFault<uint32_t> port_in(Cpu& cpu, uint16_t port, uint32_t size);
OrFault<void> port_out(Cpu& cpu, uint16_t port, uint32_t size, uint32_t value);

// --- interpreter_data.cc, interpreter_io.cc, interpreter_fpu_state.cc ---------------------------

OrFault<void> push_all(Cpu& cpu, OperandSize size);
OrFault<void> pop_all(Cpu& cpu, OperandSize size);
/// ENTER, with 0 to 31 outer frames.
OrFault<void> enter_frame(Cpu& cpu, uint32_t bytes, uint32_t level, OperandSize size);

struct StringPort {
  uint8_t size = 1;  ///< Bytes of an element.
  AddressSize address = AddressSize::k32;
  bool repeated = false;
  SegmentName source = kDs;  ///< Of OUTS.
};
enum class StringStep : uint8_t {
  kThrough,
  kAgain,  ///< Repeated, and the count has not run out.
};
/// One element of INS, of OUTS.
OrFault<StringStep> input_string(Cpu& cpu, const StringPort& string);
OrFault<StringStep> output_string(Cpu& cpu, const StringPort& string);

enum class FpuStateOp : uint8_t { kFldenv, kFnstenv, kFnsave, kFrstor, kFxsave, kFxrstor };
/// With the memory operand at an offset in a segment.
OrFault<void> move_fpu_state(Cpu& cpu, FpuStateOp op, SegmentName segment, uint32_t offset,
                             OperandSize size);

// --- interpreter_system.cc, interpreter_protection.cc ------------------------------------------

/// MOV from and to DR0 to DR7.
OrFault<uint32_t> read_debug(Cpu& cpu, int number);
OrFault<void> write_debug(Cpu& cpu, int number, uint32_t value);
/// SGDT and SIDT.
OrFault<void> store_table(Cpu& cpu, const TableRegister& table, SegmentName segment,
                          uint32_t offset, AddressSize size);
/// LMSW.
OrFault<void> load_status_word(Cpu& cpu, uint32_t value);
void identify(Cpu& cpu);               ///< CPUID.
OrFault<void> read_counter(Cpu& cpu);  ///< RDPMC.

/// What LAR and LSL give, if they give anything.
OrFault<std::optional<uint32_t>> access_rights(Cpu& cpu, uint16_t selector);
OrFault<std::optional<uint32_t>> segment_limit(Cpu& cpu, uint16_t selector);

// --- interpreter.cc ----------------------------------------------------------------------------

enum class Step : uint8_t {
  kRetired,     ///< Done; state.eip is the next instruction's.
  kHalt,        ///< HLT retired: state.eip is after it, state.halted set.
  kFault,       ///< `fault` is to be delivered; state is as before the instruction.
  kNotHandled,  ///< Not one of the interpreter's instructions: translate it.
};

struct StepResult {
  Step step = Step::kRetired;
  Fault fault;
  uint16_t mnemonic = 0;  ///< ZydisMnemonic, for the statistics.
  uint8_t length = 0;
};

/// Executes the one instruction at CS:EIP when it is one that is too rare to lower. REP-prefixed
/// INS and OUTS do one iteration and leave EIP in place until the count runs out.
StepResult interpret(Cpu& cpu);

}  // namespace trapline
