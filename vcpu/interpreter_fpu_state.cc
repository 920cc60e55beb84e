// The instructions that store and load the x87 and SSE state as a whole.
#include <cstring>

#include "vcpu/execution.h"
#include "vcpu/host_access.h"

namespace trapline {
namespace {

constexpr uint16_t kExceptionMasks = 0x3f;
constexpr uint16_t kErrorSummary = 1u << 7;
constexpr uint16_t kBusy = 1u << 15;
constexpr uint16_t kInitialControl = 0x037f;
constexpr uint16_t kOpcodeMask = 0x7ff;
constexpr uint32_t kRegisterBytes = 10;

// One of these instructions, and where its memory operand is.
struct Move {
  Cpu& cpu;
  CpuState& state;
  SegmentName segment;
  uint32_t offset;
  OperandSize operand_size;

  uint32_t operand_bytes() const { return static_cast<uint32_t>(operand_size); }
  OrFault<Linear> range(uint32_t size, SegmentAccess access, uint32_t aligned_to = 1) const {
    return check_segment(state, segment, offset, size, access, aligned_to);
  }
};

uint32_t top(uint16_t status) {
  return status >> 11 & 7;
}

// The summary bits follow from the flags and the masks.
/// Bits 7 and 13 to 15 of a control word read as 0, bit 6 as 1, whatever is loaded.
constexpr uint16_t held_control(uint32_t control) {
  return static_cast<uint16_t>((control & 0x1f3f) | 0x40);
}

uint16_t with_summary(uint16_t status, uint16_t control) {
  const bool pending = status & ~control & kExceptionMasks;
  const auto plain = static_cast<uint16_t>(status & ~(kErrorSummary | kBusy));
  return pending ? static_cast<uint16_t>(plain | kErrorSummary | kBusy) : plain;
}

// --- Tag words ----------------------------------------------------------------------------------

enum Tag : uint16_t { kValid = 0, kZero = 1, kSpecial = 2, kEmpty = 3 };

Tag classify(const std::array<uint8_t, 16>& value) {
  uint64_t mantissa;
  uint16_t exponent;
  std::memcpy(&mantissa, value.data(), 8);
  std::memcpy(&exponent, value.data() + 8, 2);
  exponent &= 0x7fff;
  if (exponent == 0) return mantissa == 0 ? kZero : kSpecial;
  if (exponent == 0x7fff || !(mantissa >> 63)) return kSpecial;
  return kValid;
}

uint16_t full_tag(const FpuImage& fpu) {
  uint32_t tag = 0;
  for (uint32_t physical = 0; physical < 8; ++physical) {
    const bool used = fpu.abridged_tag >> physical & 1;
    const uint32_t bits = used ? classify(fpu.st[(physical - top(fpu.status)) & 7]) : kEmpty;
    tag |= bits << physical * 2;
  }
  return static_cast<uint16_t>(tag);
}

uint8_t abridged_tag(uint16_t full) {
  uint32_t tag = 0;
  for (uint32_t physical = 0; physical < 8; ++physical)
    if ((full >> physical * 2 & 3) != kEmpty) tag |= 1u << physical;
  return static_cast<uint8_t>(tag);
}

// --- The environment, in its four layouts
// ---------------------------------------------------------

// Seven fields of two or four bytes each, as FNSTENV stores them.
struct Environment {
  std::array<uint32_t, 7> field{};
};

bool protected_layout(const CpuState& state) {
  return state.protected_mode() && !state.v86();
}

Environment make_environment(const Move& x) {
  const FpuImage& fpu = x.state.fpu;
  const bool wide = x.operand_size == OperandSize::k32;
  const uint32_t filler = wide ? 0xffff0000u : 0;
  const uint32_t opcode = fpu.opcode & kOpcodeMask;
  Environment e;
  e.field = {fpu.control | filler, fpu.status | filler, full_tag(fpu) | filler, 0, 0, 0, 0};
  if (protected_layout(x.state)) {
    e.field[3] = fpu.ip;
    e.field[4] = wide ? fpu.cs | opcode << 16 : fpu.cs;
    e.field[5] = fpu.dp;
    e.field[6] = fpu.ds | filler;
    return e;
  }
  const uint32_t ip = (uint32_t{fpu.cs} << 4) + fpu.ip;
  const uint32_t dp = (uint32_t{fpu.ds} << 4) + fpu.dp;
  const uint32_t high = wide ? 0xffff : 0xf;
  e.field[3] = ip & 0xffff;
  e.field[4] = (ip >> 16 & high) << 12 | opcode;
  e.field[5] = dp & 0xffff;
  e.field[6] = (dp >> 16 & high) << 12;
  return e;
}

void take_environment(const Move& x, const Environment& e, FpuImage& fpu) {
  const bool wide = x.operand_size == OperandSize::k32;
  fpu.control = held_control(e.field[0]);
  fpu.status = with_summary(static_cast<uint16_t>(e.field[1]), fpu.control);
  fpu.abridged_tag = abridged_tag(static_cast<uint16_t>(e.field[2]));
  if (protected_layout(x.state)) {
    fpu.ip = e.field[3];
    fpu.cs = static_cast<uint16_t>(e.field[4]);
    fpu.opcode = wide ? e.field[4] >> 16 & kOpcodeMask : 0;
    fpu.dp = e.field[5];
    fpu.ds = static_cast<uint16_t>(e.field[6]);
    return;
  }
  fpu.ip = (e.field[3] & 0xffff) | e.field[4] >> 12 << 16;
  fpu.dp = (e.field[5] & 0xffff) | e.field[6] >> 12 << 16;
  fpu.cs = fpu.ds = 0;
  fpu.opcode = e.field[4] & kOpcodeMask;
}

// FLDENV renames the registers: their contents stay where they are, TOP moves.
void rotate(FpuImage& fpu, uint32_t old_top) {
  const auto old = fpu.st;
  const uint32_t shift = top(fpu.status) - old_top;
  for (uint32_t i = 0; i < 8; ++i) fpu.st[i] = old[(i + shift) & 7];
}

// --- Access -------------------------------------------------------------------------------------

OrFault<void> check_available(const Move& x) {
  if (x.state.cr0 & (cr0::kEm | cr0::kTs)) return Fault::plain(Vector::kDeviceNotAvailable);
  return {};
}

// Without CR0.NE, too: the caller then waits for an interrupt in place of raising it.
OrFault<void> check_pending(const Move& x) {
  if (x.state.fpu.status & kErrorSummary) return Fault::plain(Vector::kX87);
  return {};
}

// Memory of one of these instructions, checked as a whole before anything is touched.
class Area {
 public:
  static OrFault<Area> open(const Move& x, uint32_t size, SegmentAccess access,
                            uint32_t aligned_to) {
    TRAPLINE_TRY_LET(linear, x.range(size, access, aligned_to));
    if (access == SegmentAccess::kWrite)
      TRAPLINE_TRY(x.cpu.memory.probe_write(linear, size, Privilege::kCurrent));
    const bool writes = access == SegmentAccess::kWrite;
    return Area{x.cpu.memory, linear,
                x.cpu.memory.reach(linear, size, writes, Privilege::kCurrent)};
  }
  // A default one is never used; OrFault wants it to exist.
  Area() = default;

  OrFault<uint64_t> read(uint32_t offset, uint32_t size) const {
    if (host_) return load_sized(host_ + offset, size);
    return memory_->read(linear_ + offset, size, Privilege::kCurrent);
  }
  OrFault<void> write(uint32_t offset, uint32_t size, uint64_t value) const {
    if (host_) {
      store_sized(host_ + offset, size, value);
      return {};
    }
    return memory_->write(linear_ + offset, size, value, Privilege::kCurrent);
  }
  OrFault<void> read_bytes(uint32_t offset, std::span<uint8_t> out) const {
    if (host_) {
      std::memcpy(out.data(), host_ + offset, out.size());
      return {};
    }
    for (uint32_t done = 0; done < out.size();) {
      const uint32_t size = out.size() - done >= 8 ? 8 : 2;
      TRAPLINE_TRY_LET(value, read(offset + done, size));
      std::memcpy(&out[done], &value, size);
      done += size;
    }
    return {};
  }
  OrFault<void> write_bytes(uint32_t offset, std::span<const uint8_t> bytes) const {
    if (host_) {
      std::memcpy(host_ + offset, bytes.data(), bytes.size());
      return {};
    }
    for (uint32_t done = 0; done < bytes.size();) {
      const uint32_t size = bytes.size() - done >= 8 ? 8 : 2;
      uint64_t value = 0;
      std::memcpy(&value, &bytes[done], size);
      TRAPLINE_TRY(write(offset + done, size, value));
      done += size;
    }
    return {};
  }

 private:
  Area(LinearMemory& memory, Linear linear, std::byte* host)
      : memory_(&memory), linear_(linear), host_(host) {}
  LinearMemory* memory_ = nullptr;
  Linear linear_;
  std::byte* host_ = nullptr;  ///< Null: only memory_ knows.
};

uint32_t environment_bytes(const Move& x) {
  return 7 * x.operand_bytes();
}

OrFault<void> store_environment(const Move& x, const Area& area) {
  const Environment e = make_environment(x);
  const uint32_t size = x.operand_bytes();
  for (uint32_t i = 0; i < e.field.size(); ++i)
    TRAPLINE_TRY(area.write(i * size, size, e.field[i]));
  return {};
}

OrFault<Environment> load_environment(const Move& x, const Area& area) {
  Environment e;
  const uint32_t size = x.operand_bytes();
  for (uint32_t i = 0; i < e.field.size(); ++i) {
    TRAPLINE_TRY_LET(value, area.read(i * size, size));
    e.field[i] = static_cast<uint32_t>(value);
  }
  return e;
}

// --- Instructions -------------------------------------------------------------------------------

OrFault<void> fnstenv(const Move& x) {
  TRAPLINE_TRY(check_available(x));
  TRAPLINE_TRY_LET(area,
                   Area::open(x, environment_bytes(x), SegmentAccess::kWrite, x.operand_bytes()));
  TRAPLINE_TRY(store_environment(x, area));
  FpuImage& fpu = x.state.fpu;
  fpu.control |= kExceptionMasks;
  fpu.status = with_summary(fpu.status, fpu.control);
  return {};
}

OrFault<void> fldenv(const Move& x) {
  TRAPLINE_TRY(check_available(x));
  TRAPLINE_TRY(check_pending(x));
  TRAPLINE_TRY_LET(area,
                   Area::open(x, environment_bytes(x), SegmentAccess::kRead, x.operand_bytes()));
  TRAPLINE_TRY_LET(e, load_environment(x, area));
  FpuImage& fpu = x.state.fpu;
  const uint32_t old_top = top(fpu.status);
  take_environment(x, e, fpu);
  rotate(fpu, old_top);
  return {};
}

OrFault<void> fnsave(const Move& x) {
  TRAPLINE_TRY(check_available(x));
  const uint32_t registers = environment_bytes(x);
  TRAPLINE_TRY_LET(area, Area::open(x, registers + 8 * kRegisterBytes, SegmentAccess::kWrite,
                                    x.operand_bytes()));
  FpuImage& fpu = x.state.fpu;
  TRAPLINE_TRY(store_environment(x, area));
  for (uint32_t i = 0; i < 8; ++i) {
    const std::span<const uint8_t> value(fpu.st[i].data(), kRegisterBytes);
    TRAPLINE_TRY(area.write_bytes(registers + i * kRegisterBytes, value));
  }
  const uint32_t old_top = top(fpu.status);
  fpu.control = kInitialControl;
  fpu.status = 0;
  fpu.abridged_tag = 0;
  fpu.opcode = fpu.cs = fpu.ds = 0;
  fpu.ip = fpu.dp = 0;
  rotate(fpu, old_top);
  return {};
}

OrFault<void> frstor(const Move& x) {
  TRAPLINE_TRY(check_available(x));
  TRAPLINE_TRY(check_pending(x));
  const uint32_t registers = environment_bytes(x);
  TRAPLINE_TRY_LET(
      area, Area::open(x, registers + 8 * kRegisterBytes, SegmentAccess::kRead, x.operand_bytes()));
  TRAPLINE_TRY_LET(e, load_environment(x, area));
  std::array<std::array<uint8_t, 16>, 8> st{};
  for (uint32_t i = 0; i < 8; ++i)
    TRAPLINE_TRY(area.read_bytes(registers + i * kRegisterBytes, {st[i].data(), kRegisterBytes}));
  take_environment(x, e, x.state.fpu);
  x.state.fpu.st = st;
  return {};
}

// FXSAVE's header and eight registers of each kind; what follows is not touched.
constexpr uint32_t kFxBytes = 512;
constexpr uint32_t kFxUsed = offsetof(FpuImage, rest);

OrFault<Area> open_fx(const Move& x, SegmentAccess access) {
  if (x.state.cr0 & cr0::kEm) return Fault::invalid_opcode();
  if (x.state.cr0 & cr0::kTs) return Fault::plain(Vector::kDeviceNotAvailable);
  TRAPLINE_TRY_LET(linear, x.range(kFxBytes, access));
  if (linear.value & 15) return Fault::general_protection();
  if (access == SegmentAccess::kRead)  // All of it must be there, also what is not used.
    TRAPLINE_TRY(x.cpu.memory.read(linear + (kFxBytes - 1), 1, Privilege::kCurrent));
  return Area::open(x, kFxBytes, access, 1);
}

OrFault<void> fxsave(const Move& x) {
  TRAPLINE_TRY_LET(area, open_fx(x, SegmentAccess::kWrite));
  FpuImage image = x.state.fpu;
  image.reserved1 = 0;
  image.reserved2 = image.reserved3 = 0;
  image.mxcsr_mask = x.cpu.model.mxcsr_mask();
  std::array<uint8_t, kFxUsed> bytes;
  std::memcpy(bytes.data(), &image, bytes.size());
  return area.write_bytes(0, bytes);
}

OrFault<void> fxrstor(const Move& x) {
  TRAPLINE_TRY_LET(area, open_fx(x, SegmentAccess::kRead));
  FpuImage image = x.state.fpu;
  std::array<uint8_t, kFxUsed> bytes;
  TRAPLINE_TRY(area.read_bytes(0, bytes));
  std::memcpy(static_cast<void*>(&image), bytes.data(), bytes.size());
  if (image.mxcsr & ~x.cpu.model.mxcsr_mask()) return Fault::general_protection();
  image.reserved1 = 0;
  image.reserved2 = image.reserved3 = 0;
  image.mxcsr_mask = x.state.fpu.mxcsr_mask;
  image.opcode &= kOpcodeMask;
  image.control = held_control(image.control);
  image.status = with_summary(image.status, image.control);
  for (auto& value : image.st) std::memset(value.data() + kRegisterBytes, 0, 6);
  x.state.fpu = image;
  return {};
}

template <FpuStateOp Op>
OrFault<void> move(Execution& x) {
  const EffectiveAddress at = x.address(0);
  return move_fpu_state(x.cpu, Op, at.segment, at.offset, x.operand_size());
}

constexpr uint32_t kFpu = requires_feature(Feature::kFpu);
constexpr uint32_t kFxsr = requires_feature(Feature::kFxsr);

constexpr InterpreterRow kRows[] = {
    {ZYDIS_MNEMONIC_FNSTENV, move<FpuStateOp::kFnstenv>, 0, kFpu},
    {ZYDIS_MNEMONIC_FLDENV, move<FpuStateOp::kFldenv>, 0, kFpu},
    {ZYDIS_MNEMONIC_FNSAVE, move<FpuStateOp::kFnsave>, 0, kFpu},
    {ZYDIS_MNEMONIC_FRSTOR, move<FpuStateOp::kFrstor>, 0, kFpu},
    {ZYDIS_MNEMONIC_FXSAVE, move<FpuStateOp::kFxsave>, 0, kFxsr},
    {ZYDIS_MNEMONIC_FXRSTOR, move<FpuStateOp::kFxrstor>, 0, kFxsr},
};

}  // namespace

OrFault<void> move_fpu_state(Cpu& cpu, FpuStateOp op, SegmentName segment, uint32_t offset,
                             OperandSize size) {
  const Move x{cpu, cpu.state, segment, offset, size};
  switch (op) {
    case FpuStateOp::kFldenv:
      return fldenv(x);
    case FpuStateOp::kFnstenv:
      return fnstenv(x);
    case FpuStateOp::kFnsave:
      return fnsave(x);
    case FpuStateOp::kFrstor:
      return frstor(x);
    case FpuStateOp::kFxsave:
      return fxsave(x);
    default:
      return fxrstor(x);
  }
}

std::span<const InterpreterRow> fpu_state_rows() {
  return kRows;
}

}  // namespace trapline
