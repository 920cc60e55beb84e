#include "translator/host_assembler.h"

#include <cstring>

#include "vcpu/assert.h"

namespace trapline {

using namespace asmjit;  // NOLINT: the assembler's vocabulary, in this file only

namespace {

/// Behind the largest block there is room for one guest instruction more.
constexpr size_t kBufferBytes = HostAssembler::kLargestBlock + 0x4000;

constexpr bool fits8(int64_t value) {
  return value == static_cast<int8_t>(value);
}

uint8_t* put32(uint8_t* at, uint32_t value) {
  std::memcpy(at, &value, sizeof value);
  return at + sizeof value;
}

/// As many bytes as an instruction of the size has as an immediate.
uint8_t* put_immediate(uint8_t* at, int64_t value, uint32_t size) {
  const uint32_t bytes = size == 8 ? 4 : size;
  std::memcpy(at, &value, bytes);
  return at + bytes;
}

/// An immediate as the processor sees it: sign-extended from the operand's size.
int64_t extended(int64_t value, uint32_t size) {
  const uint32_t unused = 64 - size * 8;
  return size == 8 ? value : static_cast<int64_t>(static_cast<uint64_t>(value) << unused) >> unused;
}

bool plain(const x86::Gp& reg) {
  return !reg.isGpbHi();
}

/// A 64-bit base register, an index, or both.
bool plain(const x86::Mem& memory) {
  const auto general = [](RegType type) { return type == RegType::kX86_Gpq; };
  if (memory.hasSegment() || (memory.hasIndex() && !general(memory.indexType()))) return false;
  return memory.hasBase() ? general(memory.baseType()) : memory.hasIndex();
}

/// SPL to DIL need a REX prefix.
bool needs_rex(const x86::Gp& reg) {
  return reg.size() == 1 && reg.id() >= 4;
}

uint32_t rex_of(uint32_t reg, const x86::Mem& memory) {
  const uint32_t index = memory.hasIndex() ? memory.indexId() : 0;
  const uint32_t base = memory.hasBase() ? memory.baseId() : 0;
  return (reg >> 1 & 4) | (index >> 2 & 2) | (base >> 3 & 1);
}

uint8_t* put_prefixes(uint8_t* at, uint32_t size, uint32_t rex, bool forced) {
  if (size == 2) *at++ = 0x66;
  if (size == 8) rex |= 8;
  if (rex || forced) *at++ = static_cast<uint8_t>(0x40 | rex);
  return at;
}

uint8_t* put_opcode(uint8_t* at, uint32_t opcode) {
  if (opcode > 0xff) *at++ = static_cast<uint8_t>(opcode >> 8);
  *at++ = static_cast<uint8_t>(opcode);
  return at;
}

uint8_t modrm(uint32_t mod, uint32_t reg, uint32_t rm) {
  return static_cast<uint8_t>(mod << 6 | (reg & 7) << 3 | (rm & 7));
}

/// ModRM, SIB and displacement.
uint8_t* put_memory(uint8_t* at, uint32_t reg, const x86::Mem& memory) {
  const int32_t displacement = memory.offsetLo32();
  if (!memory.hasBase()) {
    *at++ = modrm(0, reg, 4);
    *at++ = modrm(memory.shift(), memory.indexId(), 5);
    return put32(at, static_cast<uint32_t>(displacement));
  }
  const uint32_t base = memory.baseId();
  const uint32_t mod = displacement == 0 && (base & 7) != 5 ? 0 : fits8(displacement) ? 1 : 2;
  if (memory.hasIndex()) {
    *at++ = modrm(mod, reg, 4);
    *at++ = modrm(memory.shift(), memory.indexId(), base);
  } else {
    *at++ = modrm(mod, reg, base);
    if ((base & 7) == 4) *at++ = modrm(0, 4, base);
  }
  if (mod == 1) *at++ = static_cast<uint8_t>(displacement);
  if (mod == 2) at = put32(at, static_cast<uint32_t>(displacement));
  return at;
}

uint8_t* put_reg_mem(uint8_t* at, uint32_t opcode, const x86::Gp& reg, const x86::Mem& memory) {
  at = put_prefixes(at, reg.size(), rex_of(reg.id(), memory), needs_rex(reg));
  return put_memory(put_opcode(at, opcode), reg.id(), memory);
}

/// The operand size is that of `sized`.
uint8_t* put_reg_reg(uint8_t* at, uint32_t opcode, const x86::Gp& sized, uint32_t reg, uint32_t rm,
                     bool forced_rex) {
  at = put_prefixes(at, sized.size(), (reg >> 1 & 4) | (rm >> 3 & 1), forced_rex);
  at = put_opcode(at, opcode);
  *at++ = modrm(3, reg, rm);
  return at;
}

/// Opcodes of byte operations are one less than those of the others.
uint32_t by_size(uint32_t opcode, uint32_t size) {
  return size == 1 ? opcode - 1 : opcode;
}

}  // namespace

HostAssembler::HostAssembler() {
  TRAPLINE_ASSERT(code_.init(Environment::host()) == kErrorOk);
  TRAPLINE_ASSERT(code_.attach(this) == kErrorOk);
  TRAPLINE_ASSERT(code_.reserveBuffer(&code_.sectionById(0)->buffer(), kBufferBytes) == kErrorOk);
  TRAPLINE_ASSERT(remainingSpace() >= kBufferBytes);
}

HostAssembler::~HostAssembler() {
  code_.detach(this);
}

void HostAssembler::begin(uint32_t address) {
  address_ = address;
  _bufferPtr = _bufferData;
  labels_ = 0;
  waiting_ = 0;
  cold_start_ = kNoCold;
  references_.clear();
}

std::span<const uint8_t> HostAssembler::finish() const {
  TRAPLINE_ASSERT(waiting_ == 0 && offset() <= kLargestBlock);
  return {_bufferData, offset()};
}

void HostAssembler::keep(Phrase& phrase, size_t start) const {
  const size_t size = offset() - start;
  TRAPLINE_ASSERT(size > 0 && size <= Phrase::kMostBytes);
  std::memcpy(phrase.bytes_.data(), _bufferData + start, size);
  phrase.size_ = static_cast<uint8_t>(size);
}

// --- labels and branches -------------------------------------------------------------------------

CodeLabel HostAssembler::new_label() {
  if (labels_ == places_.size()) places_.resize(places_.size() * 2);
  places_[labels_] = {kUnbound, 0};
  CodeLabel label;
  label.number_ = ++labels_;
  return label;
}

void HostAssembler::bind(const CodeLabel& label) {
  Place& place = places_[label.number_ - 1];
  place.offset = static_cast<uint32_t>(offset());
  uint32_t field = std::exchange(place.chain, 0);
  while (field) {
    uint32_t next = 0;
    std::memcpy(&next, _bufferData + field, sizeof next);
    put_distance(field, place.offset);
    field = next;
    --waiting_;
  }
}

void HostAssembler::put_distance(uint32_t field, uint32_t to) {
  put32(_bufferData + field, to - (field + 4));
  if (is_cold(field) != is_cold(to))
    note(field, is_cold(to) ? Reference::To::kCold : Reference::To::kHot);
}

/// Whether a branch of two bytes at the present offset reaches the place.
bool HostAssembler::short_reaches(const Place& place) const {
  const auto here = static_cast<uint32_t>(offset());
  return place.offset != kUnbound && is_cold(here) == is_cold(place.offset) &&
         fits8(int64_t{place.offset} - int64_t{here + 2});
}

/// A rel32.
void HostAssembler::put_relative(const CodeLabel& label) {
  Place& place = places_[label.number_ - 1];
  const auto field = static_cast<uint32_t>(offset());
  if (place.offset != kUnbound) {
    put_distance(field, place.offset);
    _bufferPtr += 4;
    return;
  }
  _bufferPtr = put32(_bufferPtr, place.chain);
  place.chain = field;
  ++waiting_;
}

void HostAssembler::j(CondCode condition, const CodeLabel& label) {
  const auto code = static_cast<uint8_t>(condition);
  const Place& place = places_[label.number_ - 1];
  if (short_reaches(place)) {
    put(0x70 | code);
    put(static_cast<uint8_t>(place.offset - (offset() + 1)));
    return;
  }
  put(0x0f);
  put(0x80 | code);
  put_relative(label);
}

void HostAssembler::jmp(const CodeLabel& label) {
  const Place& place = places_[label.number_ - 1];
  if (short_reaches(place)) {
    put(0xeb);
    put(static_cast<uint8_t>(place.offset - (offset() + 1)));
    return;
  }
  put(0xe9);
  put_relative(label);
}

uint32_t HostAssembler::jecxz_forward() {
  put(0x67);
  put(0xe3);
  put(0);
  return static_cast<uint32_t>(offset());
}

void HostAssembler::land_short(uint32_t from) {
  const size_t distance = offset() - from;
  TRAPLINE_ASSERT(distance < 0x80);
  _bufferData[from - 1] = static_cast<uint8_t>(distance);
}

void HostAssembler::put_target(const Imm& target) {
  const auto field = static_cast<uint32_t>(offset());
  const uint32_t next = address_ + field + 4;
  note(field, Reference::To::kOutside);
  _bufferPtr = put32(_bufferPtr, static_cast<uint32_t>(target.value()) - next);
}

void HostAssembler::jmp(const Imm& target) {
  put(0xe9);
  put_target(target);
}

void HostAssembler::call(const Imm& target) {
  put(0xe8);
  put_target(target);
}

void HostAssembler::jmp(const Gp& target) {
  _bufferPtr = put_prefixes(_bufferPtr, 0, target.id() >> 3, false);
  put(0xff);
  put(modrm(3, 4, target.id()));
}

// --- data movement -------------------------------------------------------------------------------

void HostAssembler::mov(const Gp& to, const Gp& from) {
  if (!plain(to) || !plain(from)) {
    Base::mov(to, from);
    return;
  }
  _bufferPtr = put_reg_reg(_bufferPtr, by_size(0x89, to.size()), to, from.id(), to.id(),
                           needs_rex(to) || needs_rex(from));
}

void HostAssembler::mov(const Gp& to, const Mem& from) {
  if (!plain(to) || !plain(from)) {
    Base::mov(to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, by_size(0x8b, to.size()), to, from);
}

void HostAssembler::mov(const Mem& to, const Gp& from) {
  if (!plain(to) || !plain(from)) {
    Base::mov(to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, by_size(0x89, from.size()), from, to);
}

void HostAssembler::mov(const Gp& to, const Imm& value) {
  if (to.size() != 4) {
    Base::mov(to, value);
    return;
  }
  uint8_t* at = put_prefixes(_bufferPtr, 0, to.id() >> 3, false);
  *at++ = static_cast<uint8_t>(0xb8 | (to.id() & 7));
  _bufferPtr = put32(at, static_cast<uint32_t>(value.value()));
}

void HostAssembler::mov(const Mem& to, const Imm& value) {
  const uint32_t size = to.size();
  if (!plain(to) || size == 0 || size > 4) {
    Base::mov(to, value);
    return;
  }
  uint8_t* at = put_prefixes(_bufferPtr, size, rex_of(0, to), false);
  at = put_memory(put_opcode(at, by_size(0xc7, size)), 0, to);
  _bufferPtr = put_immediate(at, value.value(), size);
}

void HostAssembler::movzx(const Gp& to, const Gp& from) {
  if (!plain(from)) {
    Base::movzx(to, from);
    return;
  }
  _bufferPtr = put_reg_reg(_bufferPtr, from.size() == 1 ? 0x0fb6 : 0x0fb7, to, to.id(), from.id(),
                           needs_rex(from));
}

void HostAssembler::movzx(const Gp& to, const Mem& from) {
  if (!plain(from)) {
    Base::movzx(to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, from.size() == 1 ? 0x0fb6 : 0x0fb7, to, from);
}

void HostAssembler::lea(const Gp& to, const Mem& from) {
  if (!plain(from)) {
    Base::lea(to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, 0x8d, to, from);
}

void HostAssembler::xchg(const Gp& first, const Gp& second) {
  const bool accumulator = first.size() == 4 && second.size() == 4 && second.id() == 0;
  if (!accumulator || first.id() == 0) {
    Base::xchg(first, second);
    return;
  }
  _bufferPtr = put_prefixes(_bufferPtr, 4, first.id() >> 3, false);
  put(static_cast<uint8_t>(0x90 | (first.id() & 7)));
}

void HostAssembler::bswap(const Gp& reg) {
  _bufferPtr = put_prefixes(_bufferPtr, reg.size(), reg.id() >> 3, false);
  put(0x0f);
  put(static_cast<uint8_t>(0xc8 | (reg.id() & 7)));
}

// --- arithmetic ----------------------------------------------------------------------------------

namespace {
constexpr InstId kArithmetic[] = {x86::Inst::kIdAdd, x86::Inst::kIdOr,  x86::Inst::kIdAdc,
                                  x86::Inst::kIdSbb, x86::Inst::kIdAnd, x86::Inst::kIdSub,
                                  x86::Inst::kIdXor, x86::Inst::kIdCmp};
}

void HostAssembler::arithmetic(uint32_t operation, const Gp& to, const Gp& from) {
  if (!plain(to) || !plain(from)) {
    emit(kArithmetic[operation], to, from);
    return;
  }
  _bufferPtr = put_reg_reg(_bufferPtr, by_size(operation << 3 | 1, to.size()), to, from.id(),
                           to.id(), needs_rex(to) || needs_rex(from));
}

void HostAssembler::arithmetic(uint32_t operation, const Gp& to, const Mem& from) {
  if (!plain(to) || !plain(from)) {
    emit(kArithmetic[operation], to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, by_size(operation << 3 | 3, to.size()), to, from);
}

void HostAssembler::arithmetic(uint32_t operation, const Mem& to, const Gp& from) {
  if (!plain(to) || !plain(from)) {
    emit(kArithmetic[operation], to, from);
    return;
  }
  _bufferPtr = put_reg_mem(_bufferPtr, by_size(operation << 3 | 1, from.size()), from, to);
}

void HostAssembler::arithmetic(uint32_t operation, const Gp& to, const Imm& value) {
  const uint32_t size = to.size();
  if (!plain(to)) {
    emit(kArithmetic[operation], to, value);
    return;
  }
  const int64_t number = extended(value.value(), size);
  const bool small = size != 1 && fits8(number);
  uint8_t* at = put_prefixes(_bufferPtr, size, to.id() >> 3, needs_rex(to));
  if (!small && to.id() == 0) {
    *at++ = static_cast<uint8_t>(by_size(operation << 3 | 5, size));
  } else {
    *at++ = static_cast<uint8_t>(small ? 0x83 : by_size(0x81, size));
    *at++ = modrm(3, operation, to.id());
  }
  _bufferPtr = put_immediate(at, number, small ? 1 : size);
}

void HostAssembler::arithmetic(uint32_t operation, const Mem& to, const Imm& value) {
  const uint32_t size = to.size();
  if (!plain(to) || size == 0) {
    emit(kArithmetic[operation], to, value);
    return;
  }
  const int64_t number = extended(value.value(), size);
  const bool small = size != 1 && fits8(number);
  uint8_t* at = put_prefixes(_bufferPtr, size, rex_of(0, to), false);
  *at++ = static_cast<uint8_t>(small ? 0x83 : by_size(0x81, size));
  _bufferPtr = put_immediate(put_memory(at, operation, to), number, small ? 1 : size);
}

void HostAssembler::test(const Gp& first, const Gp& second) {
  if (!plain(first) || !plain(second)) {
    Base::test(first, second);
    return;
  }
  _bufferPtr = put_reg_reg(_bufferPtr, by_size(0x85, first.size()), first, second.id(), first.id(),
                           needs_rex(first) || needs_rex(second));
}

void HostAssembler::test(const Gp& first, const Imm& value) {
  const uint32_t size = first.size();
  if (!plain(first) || size == 8) {
    Base::test(first, value);
    return;
  }
  uint8_t* at = put_prefixes(_bufferPtr, size, first.id() >> 3, needs_rex(first));
  if (first.id() == 0) {
    *at++ = static_cast<uint8_t>(by_size(0xa9, size));
  } else {
    *at++ = static_cast<uint8_t>(by_size(0xf7, size));
    *at++ = modrm(3, 0, first.id());
  }
  _bufferPtr = put_immediate(at, value.value(), size);
}

void HostAssembler::test(const Mem& first, const Imm& value) {
  const uint32_t size = first.size();
  if (!plain(first) || size == 0 || size == 8) {
    Base::test(first, value);
    return;
  }
  uint8_t* at = put_prefixes(_bufferPtr, size, rex_of(0, first), false);
  *at++ = static_cast<uint8_t>(by_size(0xf7, size));
  _bufferPtr = put_immediate(put_memory(at, 0, first), value.value(), size);
}

void HostAssembler::shr(const Gp& to, const Imm& count) {
  if (to.size() < 4 || count.value() == 1) {
    Base::shr(to, count);
    return;
  }
  _bufferPtr = put_reg_reg(_bufferPtr, 0xc1, to, 5, to.id(), false);
  put(static_cast<uint8_t>(count.value()));
}

void HostAssembler::shrx(const Gp& to, const Gp& from, const Gp& count) {
  uint8_t* at = _bufferPtr;
  *at++ = 0xc4;
  const uint32_t outside = (to.id() >> 3 ? 0u : 0x80u) | 0x40u | (from.id() >> 3 ? 0u : 0x20u);
  *at++ = static_cast<uint8_t>(outside | 2);
  *at++ = static_cast<uint8_t>((to.size() == 8 ? 0x80u : 0u) | (~count.id() & 15) << 3 | 3);
  *at++ = 0xf7;
  *at++ = modrm(3, to.id(), from.id());
  _bufferPtr = at;
}

void HostAssembler::seto(const Gp& to) {
  _bufferPtr = put_reg_reg(_bufferPtr, 0x0f90, to, 0, to.id(), needs_rex(to));
}

// --- bytes ---------------------------------------------------------------------------------------

void HostAssembler::put(std::span<const uint8_t> bytes) {
  std::memcpy(_bufferPtr, bytes.data(), bytes.size());
  _bufferPtr += bytes.size();
}

void HostAssembler::put_with_memory(std::span<const uint8_t> opcode, uint8_t reg,
                                    const Mem& memory) {
  TRAPLINE_ASSERT(plain(memory));
  uint8_t* at = put_prefixes(_bufferPtr, 0, rex_of(reg, memory), false);
  for (const uint8_t byte : opcode) *at++ = byte;
  _bufferPtr = put_memory(at, reg, memory);
}

}  // namespace trapline
