// Instructions of old guests that C++ executes as a whole, and what comes up in the middle of them.
#include <functional>

#include "tests/unit/runtime/ring0_machine.h"

namespace trapline {
namespace {

constexpr uint32_t kData = 0x8000;

class Ports final : public PortSpace {
 public:
  uint32_t in(uint16_t, uint32_t) override {
    ++accesses;
    return value;
  }
  void out(uint16_t, uint32_t, uint32_t) override {
    ++accesses;
    if (written) written();
  }
  uint32_t value = 0;
  uint32_t accesses = 0;
  std::function<void()> written;
};

/// NMI copies ECX to EBX. ESI and EDI point at data, which are an LDT and a TSS as well.
class TranslatedSystemTest : public Ring0Machine {
 protected:
  void make(const Code& code) {
    start(code, {0x89, 0xcb, 0xcf});                                 // mov ebx, ecx; iret
    put64(kGdt + 0x18, 0x000082000000ffff | uint64_t{kData} << 16);  // An LDT.
    put64(kGdt + 0x20, 0x0000890000000067 | uint64_t{kData} << 16);  // A TSS.
    change([](CpuState& state) { state.gpr[kEsi] = state.gpr[kEdi] = kData; });
  }
  uint8_t byte_at(uint32_t at) const { return static_cast<uint8_t>(dword(at)); }
};

TEST_F(TranslatedSystemTest, NothingOfItIsDecodedAgain) {
  Ports ports;
  options.ports = &ports;
  make({
      0xb9, 4,    0,    0,    0,    0xf3, 0x6c,  // mov ecx, 4; rep insb
      0xb9, 4,    0,    0,    0,    0xf3, 0x6e,  // mov ecx, 4; rep outsb
      0xbf, 0x00, 0x90, 0,    0,                 // mov edi, 0x9000
      0xd9, 0x37, 0xd9, 0x27, 0x66, 0xd9, 0x37,  // fnstenv, fldenv, fnstenv of 16 bits
      0xdd, 0x37, 0xdd, 0x27,                    // fnsave [edi]; frstor [edi]
      0x0f, 0xae, 0x07, 0x0f, 0xae, 0x0f,        // fxsave [edi]; fxrstor [edi]
      0x31, 0xc0, 0x89, 0x07, 0x89, 0x47, 0x04,  // xor eax, eax; mov [edi], eax; mov [edi + 4], eax
      0x62, 0x07,                                // bound eax, [edi]
      0xc8, 8,    0,    0,    0xc9,              // enter 8, 0; leave
      0xc8, 8,    0,    1,    0xc9, 0xc8, 8,    0,
      3,    0xc9,                                      // enter 8, 1; leave; enter 8, 3; leave
      0xc7, 0x47, 0x04, 0x10, 0,    0,    0,           // mov dword [edi + 4], 0x10
      0xc4, 0x07, 0xc5, 0x07,                          // les eax, [edi]; lds eax, [edi]
      0x0f, 0xb4, 0x07, 0x0f, 0xb5, 0x07,              // lfs eax, [edi]; lgs eax, [edi]
      0x0f, 0x01, 0x07, 0x0f, 0x01, 0x0f,              // sgdt [edi]; sidt [edi]
      0x0f, 0x01, 0x1f, 0x0f, 0x01, 0x07,              // lidt [edi]; sgdt [edi]
      0x0f, 0x01, 0x17,                                // lgdt [edi]
      0xb8, 0x18, 0,    0,    0,    0x0f, 0x00, 0xd0,  // mov eax, 0x18; lldt ax
      0xb8, 0x20, 0,    0,    0,    0x0f, 0x00, 0xd8,  // mov eax, 0x20; ltr ax
      0x0f, 0x00, 0xc3, 0x0f, 0x00, 0xcb,              // sldt ebx; str ebx
      0x0f, 0x01, 0xe3, 0x0f, 0x01, 0xf3,              // smsw ebx; lmsw bx
      0x0f, 0x02, 0xd8, 0x0f, 0x03, 0xd8,              // lar ebx, eax; lsl ebx, eax
      0x0f, 0x06, 0x0f, 0x09, 0x0f, 0x08,              // clts; wbinvd; invd
      0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8,              // mov eax, dr7; mov dr7, eax
      0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0,              // mov eax, cr4; mov cr4, eax
      0x31, 0xc0, 0x0f, 0xa2,                          // xor eax, eax; cpuid
      0xb9, 0x10, 0,    0,    0,    0x0f, 0x32,        // mov ecx, 0x10; rdmsr
      0x0f, 0x30, 0x60, 0x61, 0xf4,                    // wrmsr; pusha; popa; hlt
  });
  EXPECT_EQ(machine->run({}).kind, Kind::kHalt);
  EXPECT_EQ(ports.accesses, 8u);
  EXPECT_EQ(machine->statistics().interpreted, 0u);
}

TEST_F(TranslatedSystemTest, AnNmiComesBetweenTwoElements) {
  Ports ports;
  options.ports = &ports;
  ports.written = [&] {
    if (ports.accesses == 3) machine->inject_nmi();
  };
  make({0xb9, 10, 0, 0, 0, 0xf3, 0x6e, 0xf4});  // mov ecx, 10; rep outsb; hlt
  EXPECT_EQ(machine->run({}).kind, Kind::kHalt);
  EXPECT_EQ(ports.accesses, 10u);
  EXPECT_EQ(gpr(kEbx), 7u);
  EXPECT_EQ(gpr(kEcx), 0u);
  EXPECT_EQ(gpr(kEsi), kData + 10);
}

TEST_F(TranslatedSystemTest, WhatInsWritesOverCodeRunsNext) {
  Ports ports;
  options.ports = &ports;
  ports.value = 0x43;                          // inc ebx
  make({0xbf, kCode & 0xff, kCode >> 8, 0, 0,  // mov edi, the first hlt
        0x83, 0xc7, 0x0f, 0xb9, 2, 0, 0, 0,    // add edi, 15; mov ecx, 2
        0xf3, 0x6c, 0xf4, 0xf4, 0xf4});        // rep insb; hlt; hlt; hlt
  EXPECT_EQ(machine->run({}).kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEbx), 2u);
  EXPECT_EQ(machine->state().eip, kCode + 18);
}

TEST_F(TranslatedSystemTest, EachElementLeavesForAPortWithoutAnOwner) {
  make({0xb9, 3, 0, 0, 0, 0xf3, 0x6c, 0xf4});  // mov ecx, 3; rep insb; hlt
  for (uint32_t i = 0; i < 3; ++i) {
    const Exit exit = machine->run({});
    ASSERT_EQ(exit.kind, Kind::kPortRead);
    EXPECT_EQ(machine->state().eip, kCode + 5);
    EXPECT_EQ(gpr(kEcx), 3 - i);
    machine->complete_port_read(0x20 + i);
  }
  EXPECT_EQ(machine->run({}).kind, Kind::kHalt);
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(byte_at(kData + i), 0x20 + i);
  EXPECT_EQ(gpr(kEdi), kData + 3);
}

TEST_F(TranslatedSystemTest, OutsLeavesAfterEachElement) {
  make({0xb9, 2, 0, 0, 0, 0xf3, 0x6e, 0xf4});  // mov ecx, 2; rep outsb; hlt
  put(kData, {0x31, 0x32});
  for (uint32_t i = 0; i < 2; ++i) {
    const Exit exit = machine->run({});
    ASSERT_EQ(exit.kind, Kind::kPortWrite);
    EXPECT_EQ(exit.value, 0x31 + i);
    EXPECT_EQ(gpr(kEcx), 1 - i);
  }
  EXPECT_EQ(machine->run({}).kind, Kind::kHalt);
}

TEST_F(TranslatedSystemTest, ARepeatedOneIsOneInstruction) {
  Ports ports;
  options.ports = &ports;
  make({0xb9, 10, 0, 0, 0, 0xf3, 0x6c, 0xf4});  // mov ecx, 10; rep insb; hlt
  EXPECT_EQ(machine->run({.instructions = 2}).kind, Kind::kInstructions);
  EXPECT_EQ(ports.accesses, 10u);
  EXPECT_EQ(machine->state().eip, kCode + 7);
}

TEST_F(TranslatedSystemTest, AFarCallOfV86ModeFaultsAtItsFirstPush) {
  constexpr uint32_t kDirectory = 0x20000, kTable = 0x21000, kAbsent = 0x9000;
  options.exit_on_exceptions = 1u << static_cast<int>(Vector::kPageFault);
  make({0x9a, 0x00, 0x12, 0x00, 0x00,  // call 0:0x1200
        0x9a, 0x00, 0x12, 0x00, 0x00,  // call 0:0x1200
        0xeb, 0xf4});                  // jmp back
  put(0x1200, {0xcb});                 // retf
  put64(kDirectory, kTable | 7);
  for (uint32_t page = 0; page < 16; page += 2) {
    const auto entry = [](uint32_t number) -> uint64_t {
      return number << 12 == kAbsent ? 0 : number << 12 | 7;
    };
    put64(kTable + page * 4, entry(page) | entry(page + 1) << 32);
  }
  CpuState state = machine->state();
  state.cr0 |= cr0::kPg;
  state.cr3 = kDirectory;
  state.eflags |= eflags::kVm;
  for (Segment& segment : state.segment) {
    segment = Segment::real(0, false);
    segment.attributes = 0xf3;
  }
  state.gpr[kEsp] = 0x9f00 - 0x1000;
  machine->set_state(state);
  EXPECT_EQ(machine->run({.instructions = 200}).kind, Kind::kInstructions);
  state = machine->state();
  state.eip = kCode;
  state.gpr[kEsp] = 0x9f00;
  machine->set_state(state);
  const Exit exit = machine->run({});
  ASSERT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.fault.linear, 0x9efeu);
  EXPECT_EQ(gpr(kEsp), 0x9f00u);
}

}  // namespace
}  // namespace trapline
