// The assembler that blocks are emitted with. It is AsmJit's, with encoders of its own for the
// instructions that blocks are mostly made of, and with labels that need no memory; both write to
// the same buffer. Where it has an encoder, it gives the bytes that AsmJit gives.
#pragma once

#include <asmjit/x86.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "translator/translation.h"

namespace trapline {

/// A place in a block's code, to be jumped to from inside the block.
class CodeLabel {
 public:
  bool valid() const { return number_ != 0; }

 private:
  friend class HostAssembler;
  uint32_t number_ = 0;  ///< From 1 on.
};

/// Instructions that many blocks have alike, without labels: encoded once, then copied.
class Phrase {
 private:
  friend class HostAssembler;
  static constexpr uint32_t kMostBytes = 31;
  uint8_t size_ = 0;  ///< 0: not encoded yet.
  std::array<uint8_t, kMostBytes> bytes_{};
};

class HostAssembler : public asmjit::x86::Assembler {
 public:
  using Base = asmjit::x86::Assembler;
  using Gp = asmjit::x86::Gp;
  using Mem = asmjit::x86::Mem;
  using Imm = asmjit::Imm;
  using CondCode = asmjit::x86::CondCode;

  /// Blocks are smaller; whoever emits one looks at offset() now and then.
  static constexpr uint32_t kLargestBlock = 0x10000;

  HostAssembler();
  ~HostAssembler() override;

  /// Forgets what was emitted; what comes now will be put at `address`.
  void begin(uint32_t address);
  /// What comes now may be put elsewhere than the rest.
  void begin_cold() { cold_start_ = static_cast<uint32_t>(offset()); }
  /// Everything emitted, each label that was jumped to bound. Valid until begin().
  std::span<const uint8_t> finish() const;
  /// The rel32s that lead from one part to the other or outside, and what was referred to.
  std::span<const Reference> references() const { return references_; }
  /// The last four bytes are such a reference.
  void refer(Reference::To to) { note(static_cast<uint32_t>(offset()) - 4, to); }

  // --- labels and branches ---
  CodeLabel new_label();
  using Base::bind;
  void bind(const CodeLabel& label);
  void j(CondCode condition, const CodeLabel& label);
  void jmp(const CodeLabel& label);
  void ja(const CodeLabel& label) { j(CondCode::kA, label); }
  void jae(const CodeLabel& label) { j(CondCode::kAE, label); }
  void jb(const CodeLabel& label) { j(CondCode::kB, label); }
  void jbe(const CodeLabel& label) { j(CondCode::kBE, label); }
  void je(const CodeLabel& label) { j(CondCode::kE, label); }
  void jg(const CodeLabel& label) { j(CondCode::kG, label); }
  void jne(const CodeLabel& label) { j(CondCode::kNE, label); }
  void jns(const CodeLabel& label) { j(CondCode::kNS, label); }
  void jnz(const CodeLabel& label) { j(CondCode::kNZ, label); }
  void jz(const CodeLabel& label) { j(CondCode::kZ, label); }
  /// JECXZ to where land_short() is called with what it returns, less than 128 bytes on.
  uint32_t jecxz_forward();
  void land_short(uint32_t from);
  /// To an address outside of the block.
  void jmp(const Imm& target);
  void call(const Imm& target);
  void jmp(const Gp& target);

  // --- prefixes of the instruction that comes next ---
  void lock() { put(0xf0); }
  void rep() { put(0xf3); }

  // --- data movement ---
  void mov(const Gp& to, const Gp& from);
  void mov(const Gp& to, const Mem& from);
  void mov(const Mem& to, const Gp& from);
  void mov(const Gp& to, const Imm& value);
  void mov(const Mem& to, const Imm& value);
  void movzx(const Gp& to, const Gp& from);
  void movzx(const Gp& to, const Mem& from);
  void lea(const Gp& to, const Mem& from);
  void xchg(const Gp& first, const Gp& second);
  void bswap(const Gp& reg);

  // --- arithmetic ---
  template <typename To, typename From>
  void add(const To& to, const From& from) {
    arithmetic(0, to, from);
  }
  template <typename To, typename From>
  void and_(const To& to, const From& from) {
    arithmetic(4, to, from);
  }
  template <typename To, typename From>
  void sub(const To& to, const From& from) {
    arithmetic(5, to, from);
  }
  template <typename To, typename From>
  void xor_(const To& to, const From& from) {
    arithmetic(6, to, from);
  }
  template <typename To, typename From>
  void cmp(const To& to, const From& from) {
    arithmetic(7, to, from);
  }
  void test(const Gp& first, const Gp& second);
  void test(const Gp& first, const Imm& value);
  void test(const Mem& first, const Imm& value);
  void shr(const Gp& to, const Imm& count);
  void shrx(const Gp& to, const Gp& from, const Gp& count);

  // --- flags ---
  void lahf() { put(0x9f); }
  void sahf() { put(0x9e); }
  void seto(const Gp& to);

  // --- bytes ---
  /// What `emit` emits, which must be the same each time that it is said with this phrase.
  template <typename Emit>
  void say(Phrase& phrase, const Emit& emit) {
    if (phrase.size_ == 0) {
      const size_t start = offset();
      emit();
      keep(phrase, start);
      return;
    }
    std::memcpy(_bufferPtr, phrase.bytes_.data(), Phrase::kMostBytes);
    _bufferPtr += phrase.size_;
  }
  void put(uint8_t byte) { *_bufferPtr++ = byte; }
  void put(std::span<const uint8_t> bytes);
  /// REX if it must be, opcode, ModRM with `reg`, SIB and displacement. The operand must have a
  /// base or an index.
  void put_with_memory(std::span<const uint8_t> opcode, uint8_t reg, const Mem& memory);

 private:
  struct Place {
    uint32_t offset = 0;  ///< kUnbound until bind().
    uint32_t chain = 0;   ///< The last rel32 that waits for it; each holds the one before; 0: none.
  };
  static constexpr uint32_t kUnbound = ~0u;
  static constexpr uint32_t kNoCold = ~0u;

  bool is_cold(uint32_t offset) const { return offset >= cold_start_; }
  bool short_reaches(const Place& place) const;
  void note(uint32_t field, Reference::To to) {
    references_.push_back({static_cast<uint16_t>(field), to});
  }
  void put_distance(uint32_t field, uint32_t to);
  void keep(Phrase& phrase, size_t start) const;
  void put_relative(const CodeLabel& label);
  void put_target(const Imm& target);
  void arithmetic(uint32_t operation, const Gp& to, const Gp& from);
  void arithmetic(uint32_t operation, const Gp& to, const Mem& from);
  void arithmetic(uint32_t operation, const Mem& to, const Gp& from);
  void arithmetic(uint32_t operation, const Gp& to, const Imm& value);
  void arithmetic(uint32_t operation, const Mem& to, const Imm& value);

  asmjit::CodeHolder code_;
  uint32_t address_ = 0;
  uint32_t cold_start_ = kNoCold;
  std::vector<Reference> references_;
  std::vector<Place> places_{64};
  uint32_t labels_ = 0;   ///< How many of the places are in use.
  uint32_t waiting_ = 0;  ///< Jumps to places that are not bound yet.
};

}  // namespace trapline
