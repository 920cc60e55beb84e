#include "runtime/pc/polling.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "translator/decoder.h"

namespace trapline {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
/// A guest is suspected when it has been in one place for this long.
constexpr uint64_t kFirstPatience = 5 * kMillisecond;
/// Looks that find a guest busy become rarer, up to this.
constexpr uint64_t kLongestPatience = 1000 * kMillisecond;
/// After an event, a guest that was polling is given this long to react.
constexpr uint64_t kReaction = 20'000;

/// What an instruction does beside what its operands show.
enum class Deed : uint8_t {
  kOther,     ///< Something that is not harmless, or not known to be.
  kOperands,  ///< Nothing.
  kPortRead,
  kPush,   ///< Writes one word of its operand size below ESP.
  kStack,  ///< Reads the stack.
};

Deed deed_of(uint16_t mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_IN:
      return Deed::kPortRead;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_PUSHFD:
      return Deed::kPush;
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_POPFD:
      return Deed::kStack;
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_JB:
    case ZYDIS_MNEMONIC_JBE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JL:
    case ZYDIS_MNEMONIC_JLE:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_JNB:
    case ZYDIS_MNEMONIC_JNBE:
    case ZYDIS_MNEMONIC_JNL:
    case ZYDIS_MNEMONIC_JNLE:
    case ZYDIS_MNEMONIC_JNO:
    case ZYDIS_MNEMONIC_JNP:
    case ZYDIS_MNEMONIC_JNS:
    case ZYDIS_MNEMONIC_JNZ:
    case ZYDIS_MNEMONIC_JO:
    case ZYDIS_MNEMONIC_JP:
    case ZYDIS_MNEMONIC_JS:
    case ZYDIS_MNEMONIC_JZ:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SETB:
    case ZYDIS_MNEMONIC_SETBE:
    case ZYDIS_MNEMONIC_SETL:
    case ZYDIS_MNEMONIC_SETLE:
    case ZYDIS_MNEMONIC_SETNB:
    case ZYDIS_MNEMONIC_SETNBE:
    case ZYDIS_MNEMONIC_SETNL:
    case ZYDIS_MNEMONIC_SETNLE:
    case ZYDIS_MNEMONIC_SETNS:
    case ZYDIS_MNEMONIC_SETNZ:
    case ZYDIS_MNEMONIC_SETS:
    case ZYDIS_MNEMONIC_SETZ:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XOR:
      return Deed::kOperands;
    default:
      return Deed::kOther;
  }
}

bool harmless_operand(const Operand& operand) {
  switch (operand.kind) {
    case Operand::Kind::kRegister:
      return operand.register_kind <= RegisterKind::kGpr32;
    case Operand::Kind::kFar:
      return false;
    default:
      return true;
  }
}

Linear address_of(const Operand& operand, const Instruction& in, const CpuState& state) {
  auto offset = static_cast<uint32_t>(operand.value);
  if (operand.base != Operand::kNoRegister) offset += state.gpr[operand.base];
  if (operand.index != Operand::kNoRegister) offset += state.gpr[operand.index] * operand.scale;
  if (in.address_size == 2) offset &= 0xffff;
  return {offset + state.segment[operand.segment].base};
}

Linear stack_address(const CpuState& state, int32_t distance) {
  const Segment& ss = state.segment[kSs];
  const uint32_t offset = state.gpr[kEsp] + static_cast<uint32_t>(distance);
  return {ss.base + (ss.big() ? offset : offset & 0xffff)};
}

constexpr uint32_t distance(uint32_t a, uint32_t b) {
  return a > b ? a - b : b - a;
}

}  // namespace

bool PollingWatch::Place::near(const Place& other) const {
  constexpr uint32_t kCode = 512, kStack = 512;
  return distance(eip, other.eip) < kCode && distance(esp, other.esp) < kStack &&
         cr3 == other.cr3 && cpl == other.cpl;
}

PollingWatch::Place PollingWatch::place() const {
  const CpuState& state = machine_.state();
  return {state.eip, state.gpr[kEsp], state.cr3, state.cpl};
}

bool PollingWatch::look(uint64_t now) {
  ended_.reset();
  if (now < next_look_) return false;
  const Place here = place();
  const bool suspect = here.near(last_);
  if (suspect && goes_round()) return true;
  if (suspect || patience_ < kFirstPatience)
    patience_ = std::clamp(2 * patience_, kReaction, kLongestPatience);
  if (patience_ >= kFirstPatience) last_ = here;  // Until then it may come back to where it polled.
  next_look_ = now + std::max(patience_, kReaction);
  return false;
}

void PollingWatch::halts(uint64_t now) {
  last_ = {};
  next_look_ = std::max(next_look_, now + kFirstPatience);
}

void PollingWatch::goes_on(uint64_t now) {
  patience_ = kReaction;
  next_look_ = now + patience_;
}

/// Whether all is soon as it is now, after nothing but harmless instructions.
bool PollingWatch::goes_round() {
  const CpuState start = machine_.state();
  write_count_ = 0;
  for (int i = 0; i < kMostSteps; ++i) {
    if (!step_is_harmless()) return false;
    Exit exit = machine_.run({.instructions = 1});
    if (exit.kind != Exit::Kind::kInstructions) {
      ended_ = std::move(exit);
      return false;
    }
    if (same_as(start)) return memory_is_as_before();
  }
  return false;
}

/// What harmless instructions, and interrupts in between, can change.
bool PollingWatch::same_as(const CpuState& start) const {
  const CpuState& state = machine_.state();
  return state.eip == start.eip && state.gpr == start.gpr && state.eflags == start.eflags &&
         state.cr2 == start.cr2 && state.cpl == start.cpl &&
         state.segment[kCs].base == start.segment[kCs].base;
}

bool PollingWatch::memory_is_as_before() const {
  return std::all_of(
      writes_.begin(), writes_.begin() + static_cast<ptrdiff_t>(write_count_),
      [this](const Write& write) { return read(write.address, write.size) == write.before; });
}

bool PollingWatch::step_is_harmless() {
  Instruction in;
  if (!decode_here(in) || in.rep || in.repne) return false;
  switch (deed_of(in.mnemonic)) {
    case Deed::kOther:
      return false;
    case Deed::kOperands:
      return accesses_are_harmless(in);
    case Deed::kPortRead:
      return port_is_harmless(in);
    case Deed::kPush:
      return accesses_are_harmless(in) && stack_write_is_harmless(in.operand_size);
    case Deed::kStack: {
      const uint32_t at = in.mnemonic == ZYDIS_MNEMONIC_LEAVE ? kEbp : kEsp;
      const Linear top = stack_address(
          machine_.state(),
          static_cast<int32_t>(machine_.state().gpr[at] - machine_.state().gpr[kEsp]));
      return accesses_are_harmless(in) && read_is_harmless(top, in.operand_size);
    }
  }
  return false;
}

bool PollingWatch::accesses_are_harmless(const Instruction& in) {
  for (int i = 0; i < in.operand_count; ++i) {
    const Operand& operand = in.operand[static_cast<size_t>(i)];
    if (!harmless_operand(operand)) return false;
    if (operand.kind != Operand::Kind::kMemory || operand.address_only) continue;
    const Linear address = address_of(operand, in, machine_.state());
    if (operand.size == 0 || operand.size > 4 || !read_is_harmless(address, operand.size))
      return false;
    if (operand.written && !write_is_harmless(address, operand.size)) return false;
  }
  return true;
}

bool PollingWatch::port_is_harmless(const Instruction& in) const {
  const Operand& from = in.operand[1];
  const uint32_t port = from.kind == Operand::Kind::kImmediate
                            ? static_cast<uint32_t>(from.value) & 0xff
                            : machine_.state().gpr[kEdx] & 0xffff;
  return ports_.changes_by_events_only(static_cast<uint16_t>(port), in.operand[0].size);
}

bool PollingWatch::stack_write_is_harmless(uint32_t size) {
  return write_is_harmless(stack_address(machine_.state(), -static_cast<int32_t>(size)), size);
}

bool PollingWatch::read_is_harmless(Linear address, uint32_t size) const {
  return read(address, size).has_value();
}

bool PollingWatch::write_is_harmless(Linear address, uint32_t size) {
  const auto before = read(address, size);
  if (!before) return false;
  for (size_t i = 0; i < write_count_; ++i)
    if (writes_[i].address == address && writes_[i].size >= size) return true;
  if (write_count_ == writes_.size()) return false;
  writes_[write_count_++] = {address, size, *before};
  return true;
}

bool PollingWatch::decode_here(Instruction& in) const {
  const CpuState& state = machine_.state();
  const Segment& cs = state.segment[kCs];
  std::array<uint8_t, 15> bytes{};
  uint32_t count = 0;
  while (count < bytes.size()) {
    const Linear at{cs.base + state.eip + count};
    const auto physical = machine_.physical_address(at);
    if (!physical) break;
    const uint32_t part =
        std::min<uint32_t>(static_cast<uint32_t>(bytes.size()) - count, kPageSize - at.offset());
    machine_.read_memory(*physical, std::as_writable_bytes(std::span(bytes).subspan(count, part)));
    count += part;
  }
  return decode({bytes.data(), count}, cs.big() ? CodeSize::k32 : CodeSize::k16, machine_.model(),
                state.eip, in) == Decoded::kOk;
}

/// Nothing where a device or nothing is, or what the guest's tables do not map.
std::optional<uint32_t> PollingWatch::read(Linear address, uint32_t size) const {
  uint32_t value = 0;
  for (uint32_t done = 0; done < size;) {
    const Linear at = address + done;
    const auto physical = machine_.physical_address(at);
    if (!physical) return std::nullopt;
    const Frame& frame = machine_.memory().frame(physical->frame());
    if (!frame.host) return std::nullopt;
    const uint32_t part = std::min(size - done, kPageSize - at.offset());
    std::memcpy(reinterpret_cast<std::byte*>(&value) + done, frame.host + at.offset(), part);
    done += part;
  }
  return value;
}

}  // namespace trapline
