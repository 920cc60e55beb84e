// The block assembler against AsmJit's: the same bytes for the same calls.
#include "translator/host_assembler.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace trapline {
namespace {

namespace x86 = asmjit::x86;
using asmjit::Imm;

constexpr uint32_t kAddress = 0x400000;

using Bytes = std::vector<uint8_t>;

class HostAssemblerTest : public ::testing::Test {
 protected:
  /// Absolute operands are relative to RIP where AsmJit knows the base.
  template <typename Emit>
  void expect_same(const Emit& emit, uint64_t base = asmjit::Globals::kNoBaseAddress) {
    ours_.begin(kAddress);
    emit(ours_);
    const auto found = ours_.finish();
    asmjit::CodeHolder code;
    code.init(asmjit::Environment::host(), base);
    x86::Assembler theirs(&code);
    emit(theirs);
    const uint8_t* expected = theirs.bufferData();
    ASSERT_NE(theirs.offset(), 0u) << "AsmJit does not know it";
    EXPECT_EQ(Bytes(found.begin(), found.end()), Bytes(expected, expected + theirs.offset()));
  }

  std::vector<x86::Gp> registers(uint32_t size) {
    std::vector<x86::Gp> all;
    for (uint32_t id = 0; id < 16; ++id) {
      if (id == x86::Gp::kIdSp) continue;
      const x86::Gp whole = x86::gpq(id);
      all.push_back(size == 1   ? whole.r8()
                    : size == 2 ? whole.r16()
                    : size == 4 ? whole.r32()
                                : whole);
    }
    return all;
  }

  std::vector<x86::Mem> memories(uint32_t size) {
    std::vector<x86::Mem> all;
    for (const x86::Gp& base : registers(8))
      for (int32_t displacement : {0, 1, -128, 127, 128, -0x12345}) {
        all.emplace_back(base, displacement, size);
        for (const x86::Gp& index : {x86::rax, x86::rbp, x86::r9, x86::r12})
          all.emplace_back(base, index, displacement & 3, displacement, size);
      }
    for (const x86::Gp& index : registers(8))
      for (uint32_t shift = 0; shift < 4; ++shift)
        for (int32_t displacement : {0, 1, -0x12345})
          all.emplace_back(static_cast<uint64_t>(int64_t{displacement}), index, shift, size);
    all.emplace_back(uint64_t{0x1000}, size);
    return all;
  }

  const std::vector<int64_t> values_ = {0,    1,      -1,      127,        -127,       128,
                                        -128, 0x1234, -0x1234, 0x12345678, 0x7fffffff, -0x7fffffff};
  HostAssembler ours_;
};

TEST_F(HostAssemblerTest, TwoRegisters) {
  for (uint32_t size : {1, 2, 4, 8})
    for (const x86::Gp& a : registers(size))
      for (const x86::Gp& b : registers(size)) {
        expect_same([&](auto& to) { to.mov(a, b); });
        if (size >= 4) expect_same([&](auto& to) { to.bswap(a); });
        expect_same([&](auto& to) { to.add(a, b); });
        expect_same([&](auto& to) { to.and_(a, b); });
        expect_same([&](auto& to) { to.sub(a, b); });
        expect_same([&](auto& to) { to.xor_(a, b); });
        expect_same([&](auto& to) { to.cmp(a, b); });
        expect_same([&](auto& to) { to.test(a, b); });
        expect_same([&](auto& to) { to.xchg(a, b); });
        if (size >= 2) expect_same([&](auto& to) { to.movzx(a, b.r8()); });
        if (size >= 4) expect_same([&](auto& to) { to.movzx(a, b.r16()); });
        if (size >= 4)
          expect_same(
              [&](auto& to) { to.shrx(a, b, size == 4 ? x86::r14.r32() : x86::Gp(x86::r14)); });
      }
}

TEST_F(HostAssemblerTest, HighBytes) {
  for (uint32_t id = 0; id < 4; ++id)
    for (const x86::Gp& other : std::vector<x86::Gp>{x86::al, x86::cl, x86::bh}) {
      const x86::Gp high = x86::gpb_hi(id);
      expect_same([&](auto& to) { to.mov(high, other); });
      expect_same([&](auto& to) { to.add(other, high); });
      expect_same([&](auto& to) { to.test(high, other); });
      expect_same([&](auto& to) { to.movzx(x86::edx, high); });
      expect_same([&](auto& to) { to.cmp(high, 5); });
      expect_same([&](auto& to) { to.mov(x86::ptr(x86::rsi, 5, 1), high); });
    }
}

TEST_F(HostAssemblerTest, Memory) {
  for (uint32_t size : {1, 2, 4, 8})
    for (const x86::Mem& memory : memories(size))
      for (const x86::Gp& reg : registers(size)) {
        // With an absolute address and the accumulator there is a form of its own.
        expect_same([&](auto& to) { to.mov(reg, memory); });
        expect_same([&](auto& to) { to.mov(memory, reg); });
        expect_same([&](auto& to) { to.sub(reg, memory); });
        expect_same([&](auto& to) { to.cmp(memory, reg); });
        if (size <= 2) expect_same([&](auto& to) { to.movzx(reg.r32(), memory); });
        if (size >= 4) expect_same([&](auto& to) { to.lea(reg, memory); });
      }
}

TEST_F(HostAssemblerTest, Immediates) {
  for (int64_t value : values_)
    for (uint32_t size : {1, 2, 4, 8}) {
      if (size == 1 && value != static_cast<int8_t>(value)) continue;
      if (size == 2 && value != static_cast<int16_t>(value)) continue;
      for (const x86::Gp& reg : registers(size)) {
        expect_same([&](auto& to) { to.mov(reg, Imm(value)); });
        expect_same([&](auto& to) { to.and_(reg, Imm(value)); });
        expect_same([&](auto& to) { to.cmp(reg, Imm(value)); });
        expect_same([&](auto& to) { to.test(reg, Imm(value)); });
        if (size >= 4 && value > 0 && value < 32)
          expect_same([&](auto& to) { to.shr(reg, Imm(value)); });
      }
      for (const x86::Mem& memory : memories(size)) {
        expect_same([&](auto& to) { to.mov(memory, Imm(value)); });
        expect_same([&](auto& to) { to.add(memory, Imm(value)); });
        expect_same([&](auto& to) { to.test(memory, Imm(value)); });
      }
    }
  expect_same([](auto& to) { to.and_(x86::ptr(x86::r15, 8, 4), Imm(0xfffffdff)); });
  expect_same([](auto& to) { to.cmp(x86::ecx, Imm(0xffffffff)); });
}

TEST_F(HostAssemblerTest, OthersWithoutMemory) {
  expect_same([](auto& to) { to.lahf(); });
  expect_same([](auto& to) { to.sahf(); });
  for (const x86::Gp& reg : registers(1)) expect_same([&](auto& to) { to.seto(reg); });
  for (const x86::Gp& reg : registers(8)) expect_same([&](auto& to) { to.jmp(reg); });
  for (uint32_t target : {kAddress - 0x1000, kAddress + 0x1000}) {
    expect_same([&](auto& to) { to.jmp(Imm(target)); }, kAddress);
    expect_same([&](auto& to) { to.call(Imm(target)); }, kAddress);
  }
}

int32_t relative_at(std::span<const uint8_t> code, size_t at) {
  int32_t value = 0;
  std::memcpy(&value, &code[at], sizeof value);
  return value;
}

TEST_F(HostAssemblerTest, Labels) {
  ours_.begin(kAddress);
  const CodeLabel forward = ours_.new_label();
  const CodeLabel back = ours_.new_label();
  EXPECT_FALSE(CodeLabel().valid());
  EXPECT_TRUE(forward.valid());
  ours_.bind(back);
  ours_.jz(forward);   // 0 to 5
  ours_.jmp(back);     // 6, 7: short
  ours_.jmp(forward);  // 8 to 12
  for (int i = 0; i < 200; ++i) ours_.lahf();
  ours_.jnz(back);  // 213 to 218
  ours_.bind(forward);
  const auto code = ours_.finish();
  ASSERT_EQ(code.size(), 219u);
  EXPECT_EQ(code[1], 0x84);
  EXPECT_EQ(relative_at(code, 2), 219 - 6);
  EXPECT_EQ(code[6], 0xeb);
  EXPECT_EQ(static_cast<int8_t>(code[7]), -8);
  EXPECT_EQ(relative_at(code, 9), 219 - 13);
  EXPECT_EQ(relative_at(code, 215), -219);
}

TEST_F(HostAssemblerTest, TellsWhatLeadsOutOfColdCodeAndIntoIt) {
  ours_.begin(kAddress);
  const CodeLabel hot = ours_.new_label();
  const CodeLabel cold = ours_.new_label();
  ours_.bind(hot);
  ours_.jz(cold);                 // 0 to 5
  ours_.jmp(Imm(kAddress + 64));  // 6 to 10: stays as it is
  ours_.begin_cold();
  ours_.bind(cold);
  ours_.jmp(hot);                  // 11 to 15: not short, for it may become long
  ours_.jmp(cold);                 // 16, 17: short
  ours_.call(Imm(kAddress + 64));  // 18 to 22
  const auto code = ours_.finish();
  ASSERT_EQ(code.size(), 23u);
  EXPECT_EQ(relative_at(code, 2), 11 - 6);
  EXPECT_EQ(code[11], 0xe9);
  EXPECT_EQ(relative_at(code, 12), -16);
  EXPECT_EQ(code[16], 0xeb);
  ours_.mov(x86::ecx, Imm(1));  // 23 to 27
  ours_.refer(Reference::To::kLinear);
  const auto references = ours_.references();
  using To = Reference::To;
  EXPECT_EQ(std::vector<Reference>(references.begin(), references.end()),
            (std::vector<Reference>{{7, To::kOutside},
                                    {2, To::kCold},
                                    {12, To::kHot},
                                    {19, To::kOutside},
                                    {24, To::kLinear}}));
  ours_.begin(kAddress);
  EXPECT_TRUE(ours_.references().empty());
}

TEST_F(HostAssemblerTest, NothingStaysFromTheBlockBefore) {
  ours_.begin(kAddress);
  ours_.jmp(ours_.new_label());
  ours_.begin(kAddress);
  ours_.lahf();
  EXPECT_EQ(ours_.finish().size(), 1u);
}

TEST_F(HostAssemblerTest, ShortJumpForward) {
  ours_.begin(kAddress);
  const uint32_t from = ours_.jecxz_forward();
  ours_.lahf();
  ours_.land_short(from);
  const auto code = ours_.finish();
  EXPECT_EQ(Bytes(code.begin(), code.end()), (Bytes{0x67, 0xe3, 0x01, 0x9f}));
}

}  // namespace
}  // namespace trapline
