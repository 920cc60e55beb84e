#include <Zydis/Zydis.h>

#include "vcpu/interpreter_table.h"
#include "world.h"

namespace trapline {
namespace {

constexpr int kGp = 13;

// Runs one instruction at CS:EIP.
class Interpreter : public World {
 protected:
  Interpreter() = default;
  explicit Interpreter(const CpuModel& cpu_model) : World(cpu_model) {}

  StepResult step(const std::vector<uint8_t>& code) {
    memory.put(state.segment[kCs].base + state.eip, code);
    return interpret(cpu);
  }
  void done(const std::vector<uint8_t>& code) {
    const uint32_t eip = state.eip;
    const StepResult result = step(code);
    ASSERT_EQ(result.step, Step::kRetired) << "vector " << static_cast<int>(result.fault.vector)
                                           << " error " << result.fault.error_code;
    EXPECT_EQ(result.length, code.size());
    if (straight_) {
      EXPECT_EQ(state.eip, eip + code.size());
    }
    state.eip = eip;
  }
  /// For instructions that set EIP.
  void transfers(const std::vector<uint8_t>& code) {
    const StepResult result = step(code);
    ASSERT_EQ(result.step, Step::kRetired) << "vector " << static_cast<int>(result.fault.vector)
                                           << " error " << result.fault.error_code;
  }
  void faults(const std::vector<uint8_t>& code, int vector, uint32_t error = 0) {
    memory.put(state.segment[kCs].base + state.eip, code);
    const CpuState before = state;
    const std::vector<uint8_t> bytes = memory.bytes();
    const StepResult result = interpret(cpu);
    ASSERT_EQ(result.step, Step::kFault);
    EXPECT_EQ(static_cast<int>(result.fault.vector), vector);
    EXPECT_EQ(result.fault.error_code, error);
    EXPECT_TRUE(state_is(before));
    EXPECT_TRUE(memory.bytes() == bytes);
  }
  uint32_t& eax() { return state.gpr[kEax]; }
  uint32_t flags() const { return state.eflags & eflags::kArithmetic; }

  bool straight_ = true;
};

class InterpreterPentium : public Interpreter {
 protected:
  InterpreterPentium() : Interpreter(*CpuModel::find("pentium")) {}
};
class Interpreter486 : public Interpreter {
 protected:
  Interpreter486() : Interpreter(*CpuModel::find("486")) {}
};

TEST_F(Interpreter, SaysWhatItHandles) {
  EXPECT_TRUE(interpreter_handles(ZYDIS_MNEMONIC_LGDT));
  EXPECT_TRUE(interpreter_handles(ZYDIS_MNEMONIC_FXSAVE));
  EXPECT_FALSE(interpreter_handles(ZYDIS_MNEMONIC_ADD));
  EXPECT_FALSE(interpreter_handles(0xffff));
  const StepResult result = step({0x01, 0xd8});  // add eax,ebx
  EXPECT_EQ(result.step, Step::kNotHandled);
  EXPECT_EQ(result.mnemonic, ZYDIS_MNEMONIC_ADD);
}

// --- Fetching -----------------------------------------------------------------------------------

TEST_F(Interpreter, FetchStopsAtTheInstruction) {
  state.eip = 0x10fff;
  memory.absent.insert(0x11);
  done({0xfa});
  faults({0x0f}, 14);
  memory.absent.clear();
  done({0x0f, 0xa2});
  state.segment[kCs].limit = 0x10fff;
  done({0xfa});
  faults({0x0f, 0xa2}, kGp);
}

TEST_F(Interpreter, FifteenBytesAtMost) {
  std::vector<uint8_t> code(14, 0x66);
  code.push_back(0xfa);
  done(code);
  code.insert(code.begin(), 0x66);
  faults(code, kGp);
}

TEST_F(Interpreter, UndefinedOpcodes) {
  faults({0x0f, 0x0b}, 6);
  faults({0x0f, 0xb9, 0xc0}, 6);
  faults({0x0f, 0xff, 0xc0}, 6);
  faults({0x8e, 0xc8}, 6);        // mov cs,eax
  faults({0x8c, 0xf0}, 6);        // mov eax,segment 6
  faults({0x0f, 0x22, 0xc8}, 6);  // mov cr1,eax
  faults({0x0f, 0x22, 0xe8}, 6);  // mov cr5,eax
  faults({0xc5, 0xf8, 0x77}, 6);  // lds with a register; elsewhere vzeroupper
}

TEST_F(Interpreter, LockIsIllegal) {
  for (const std::vector<uint8_t>& code :
       std::vector<std::vector<uint8_t>>{{0xf0, 0xfa},
                                         {0xf0, 0x0f, 0x22, 0xc0},
                                         {0xf0, 0x8e, 0xd8},
                                         {0xf0, 0xcf},
                                         {0xf0, 0x0f, 0xa2},
                                         {0xf0, 0x0f, 0x01, 0x10},
                                         {0xf0, 0xee},
                                         {0xf0, 0x60},
                                         {0xf0, 0x0f, 0xae, 0x00}})
    faults(code, 6);
}

TEST_F(Interpreter, ShadowsLastOneInstruction) {
  state.eflags |= eflags::kIf;
  eax() = kData0;
  done({0x8e, 0xd0});  // mov ss,eax
  EXPECT_EQ(state.shadow, InterruptShadow::kMovSs);
  done({0xfa});
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
  done({0xfb});
  EXPECT_EQ(state.shadow, InterruptShadow::kSti);
  done({0xfb});
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
}

TEST_F(Interpreter, RetiringClearsRf) {
  state.eflags |= eflags::kRf;
  faults({0x0f, 0x0b}, 6);
  done({0xfa});
  EXPECT_FALSE(state.eflags & eflags::kRf);
}

// --- Moves and the stack ------------------------------------------------------------------------

TEST_F(Interpreter, MovOfSegmentRegisters) {
  eax() = 0xffff0000 | kData3;
  done({0x8e, 0xe0});  // mov fs,eax
  EXPECT_EQ(state.segment[kFs].selector, kData3);
  done({0x8c, 0xe3});  // mov ebx,fs
  EXPECT_EQ(state.gpr[kEbx], kData3);
  state.gpr[kEbx] = 0xffffffff;
  done({0x66, 0x8c, 0xe3});  // mov bx,fs
  EXPECT_EQ(state.gpr[kEbx], 0xffff0000u | kData3);
  memory.poke<uint32_t>(0x20000, 0xffffffff);
  done({0x8c, 0x25, 0, 0, 2, 0});  // mov [0x20000],fs
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0xffff0000u | kData3);
  done({0x8e, 0x2d, 0, 0, 2, 0});  // mov gs,[0x20000]
  EXPECT_EQ(state.segment[kGs].selector, kData3);
  eax() = kCode3;
  faults({0x8e, 0xd0}, kGp, kCode3 & ~3);
}

TEST_F(Interpreter, MovInGeneral) {
  eax() = 0x11223344;
  done({0x88, 0xe3});  // mov bl,ah
  EXPECT_EQ(state.gpr[kEbx], 0x33u);
  done({0xa3, 0, 0, 2, 0});
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0x11223344u);
  done({0xc7, 0x05, 0, 0, 2, 0, 0x78, 0x56, 0x34, 0x12});
  done({0x67, 0x66, 0xa1, 0x00, 0x00});
  done({0x66, 0xb8, 0x01, 0x00});
  EXPECT_EQ(eax(), 0x11220001u);
  done({0xb4, 0x55});
  EXPECT_EQ(eax(), 0x11225501u);
}

TEST_F(Interpreter, SixteenBitAddressesWrap) {
  state.gpr[kEbx] = 0xffff8000;
  memory.poke<uint32_t>(0x0010, 0xcafe);
  done({0x67, 0x8b, 0x87, 0x10, 0x80});  // mov eax,[bx-0x7ff0]
  EXPECT_EQ(eax(), 0xcafeu);
}

TEST_F(Interpreter, PushAndPop) {
  state.gpr[kEsp] = kStack0;
  done({0x54});  // push esp
  EXPECT_EQ(stack32(0), kStack0);
  done({0x6a, 0xff});
  EXPECT_EQ(stack32(0), 0xffffffffu);
  memory.poke<uint32_t>(state.gpr[kEsp] - 4, 0xdeadbeef);
  done({0x0e});  // push cs
  EXPECT_EQ(stack32(0), 0xdead0000u | kCode0);
  done({0x07 + 0x18});  // pop ds
}

TEST_F(Interpreter, PopForms) {
  push32(kData0);
  done({0x17});  // pop ss
  EXPECT_EQ(state.shadow, InterruptShadow::kMovSs);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
  push32(0x12345678);
  done({0x8f, 0x04, 0x24});  // pop [esp]: the address after the pop
  EXPECT_EQ(memory.peek<uint32_t>(kStack0), 0x12345678u);
  push32(0x4444);
  done({0x5c});  // pop esp
  EXPECT_EQ(state.gpr[kEsp], 0x4444u);
  state.gpr[kEsp] = kStack0;
  push32(0x100);
  faults({0x1f}, kGp, 0x100);  // pop ds beyond the GDT
  memory.absent.insert(0x30);
  faults({0x8f, 0x05, 0, 0, 3, 0}, 14, page_fault::kWrite);
}

TEST_F(Interpreter, PushaAndPopa) {
  for (uint32_t i = 0; i < 8; ++i)
    if (i != kEsp) state.gpr[i] = 0x11110000 * (i + 1);
  const auto before = state.gpr;
  done({0x60});
  EXPECT_EQ(stack32(7), before[kEax]);
  EXPECT_EQ(stack32(3), kStack0);
  EXPECT_EQ(stack32(0), before[kEdi]);
  for (uint32_t i = 0; i < 8; ++i)
    if (i != kEsp) state.gpr[i] = 0;
  done({0x61});
  EXPECT_EQ(state.gpr, before);
  done({0x66, 0x60});
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 16);
  done({0x66, 0x61});
  EXPECT_EQ(state.gpr, before);
}

TEST_F(Interpreter, PushfAndPopf) {
  state.eflags |= eflags::kCf | eflags::kRf;
  done({0x9c});
  EXPECT_EQ(stack32(0), eflags::kCf | eflags::kFixed1);
  memory.poke<uint32_t>(state.gpr[kEsp], eflags::kZf | eflags::kIf);
  done({0x9d});
  EXPECT_EQ(state.eflags, eflags::kZf | eflags::kIf | eflags::kFixed1);
  EXPECT_EQ(state.shadow, InterruptShadow::kNone);
  done({0x66, 0x9c});
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 2);
  done({0x66, 0x9d});
}

TEST_F(Interpreter, LoadFarPointers) {
  memory.poke<uint32_t>(0x20000, 0xdeadbeef);
  memory.poke<uint16_t>(0x20004, kData0);
  state.gpr[kEbx] = 0x20000;
  done({0xc5, 0x03});  // lds eax,[ebx]
  EXPECT_EQ(eax(), 0xdeadbeefu);
  done({0xc4, 0x03});
  done({0x0f, 0xb2, 0x03});
  EXPECT_EQ(state.segment[kSs].selector, kData0);
  done({0x0f, 0xb4, 0x03});
  done({0x0f, 0xb5, 0x03});
  EXPECT_EQ(state.segment[kGs].selector, kData0);
  memory.poke<uint16_t>(0x20004, kData3);
  faults({0x0f, 0xb2, 0x03}, kGp, kData3 & ~3);
  eax() = 0;
  memory.poke<uint16_t>(0x20002, kData0);
  done({0x66, 0x0f, 0xb4, 0x03});
  EXPECT_EQ(eax(), 0xbeefu);
}

TEST_F(Interpreter, EnterAndLeave) {
  state.gpr[kEbp] = 0x7777;
  done({0xc8, 0x20, 0x00, 0x00});
  EXPECT_EQ(state.gpr[kEbp], kStack0 - 4);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 4 - 0x20);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 4), 0x7777u);
  done({0xc9});
  EXPECT_EQ(state.gpr[kEbp], 0x7777u);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
}

TEST_F(Interpreter, EnterCopiesTheDisplay) {
  state.gpr[kEbp] = 0x20010;
  memory.poke<uint32_t>(0x2000c, 0x1111);
  memory.poke<uint32_t>(0x20008, 0x2222);
  done({0xc8, 0x10, 0x00, 0x03});
  EXPECT_EQ(state.gpr[kEbp], kStack0 - 4);
  EXPECT_EQ(state.gpr[kEsp], kStack0 - 16 - 0x10);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 4), 0x20010u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 8), 0x1111u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 12), 0x2222u);
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 16), kStack0 - 4);
}

TEST_F(Interpreter, EnterReadsWhatItHasPushed) {
  state.gpr[kEbp] = kStack0;  // The display overlaps the new frame.
  done({0xc8, 0x00, 0x00, 0x02});
  EXPECT_EQ(memory.peek<uint32_t>(kStack0 - 8), kStack0);
}

TEST_F(Interpreter, EnterProbesItsFrame) {
  memory.absent.insert((kStack0 - 0x2000) >> kPageShift);
  faults({0xc8, 0x00, 0x20, 0x00}, 14, page_fault::kWrite);
}

TEST_F(Interpreter, Xlat) {
  state.gpr[kEbx] = 0x20000;
  eax() = 0xaabbcc05;
  memory.poke<uint8_t>(0x20005, 0x99);
  done({0xd7});
  EXPECT_EQ(eax(), 0xaabbcc99u);
  state.segment[kFs].base = 0x100;
  memory.poke<uint8_t>(0x20199, 0x44);
  done({0x64, 0xd7});
  EXPECT_EQ(eax() & 0xff, 0x44u);
}

TEST_F(Interpreter, AlignmentChecks) {
  ring(3);
  memory.put(kCode, {0});
  state.cr0 |= cr0::kAm;
  state.eflags |= eflags::kAc;
  faults({0xa1, 2, 0, 2, 0}, 17);
  done({0x66, 0xa1, 2, 0, 2, 0});
}

// --- Transfers ----------------------------------------------------------------------------------

TEST_F(Interpreter, NearTransfers) {
  transfers({0xeb, 0x10});
  EXPECT_EQ(state.eip, kCode + 0x12);
  state.eip = kCode;
  transfers({0xe8, 0x00, 0x10, 0x00, 0x00});
  EXPECT_EQ(state.eip, kCode + 0x1005);
  EXPECT_EQ(stack32(0), kCode + 5);
  transfers({0xc2, 0x08, 0x00});
  EXPECT_EQ(state.eip, kCode + 5);
  EXPECT_EQ(state.gpr[kEsp], kStack0 + 8);
  state.segment[kCs].limit = 0x10fff;
  state.eip = kCode;
  faults({0xe9, 0x00, 0x10, 0x00, 0x00}, kGp);
}

TEST_F(Interpreter, FarTransfers) {
  transfers({0xea, 0x00, 0x50, 0x00, 0x00, kConforming0, 0x00});
  EXPECT_EQ(state.segment[kCs].selector, kConforming0);
  EXPECT_EQ(state.eip, 0x5000u);
  state.eip = kCode;
  transfers({0x9a, 0x00, 0x50, 0x00, 0x00, kCode0, 0x00});
  EXPECT_EQ(stack32(0), kCode + 7);
  EXPECT_EQ(stack32(1), kConforming0);
  transfers({0xcb});
  EXPECT_EQ(state.eip, kCode + 7);
  EXPECT_EQ(state.gpr[kEsp], kStack0);
  memory.poke<uint32_t>(0x20000, 0x6000);
  memory.poke<uint16_t>(0x20004, kCode0);
  transfers({0xff, 0x2d, 0, 0, 2, 0});  // jmp far [0x20000]
  EXPECT_EQ(state.eip, 0x6000u);
  transfers({0xff, 0x1d, 0, 0, 2, 0});  // call far [0x20000]
  EXPECT_EQ(stack32(0), 0x6006u);
  state.eip = kCode;
  transfers({0x66, 0xea, 0x00, 0x70, kCode0, 0x00});
  EXPECT_EQ(state.eip, 0x7000u);
}

TEST_F(Interpreter, SoftwareInterrupts) {
  for (uint8_t vector : {1, 3, 4, 0x80})
    set_gate(vector, gate(kCode0, 0x20000u + vector, kInterrupt32 | dpl(vector == 1 ? 0 : 3)));
  const auto run = [&](const std::vector<uint8_t>& code, uint32_t vector) {
    ring(3);
    transfers(code);
    EXPECT_EQ(state.eip, 0x20000 + vector);
    EXPECT_EQ(stack32(0), kCode + code.size());
  };
  run({0xcd, 0x80}, 0x80);
  run({0xcc}, 3);
  run({0xf1}, 1);  // INT1 passes a gate of DPL 0.
  ring(3);
  done({0xce});
  state.eflags |= eflags::kOf;
  run({0xce}, 4);
  ring(3);
  faults({0xcd, 0x01}, kGp, 1 * 8 + 2);
}

TEST_F(Interpreter, IretKeepsTheLoadedRf) {
  push32(eflags::kRf | eflags::kCf);
  push32(kCode0);
  push32(0x7000);
  transfers({0xcf});
  EXPECT_EQ(state.eip, 0x7000u);
  EXPECT_EQ(state.eflags, eflags::kRf | eflags::kCf | eflags::kFixed1);
}

TEST_F(Interpreter, Bound) {
  memory.poke<int32_t>(0x20000, -5);
  memory.poke<int32_t>(0x20004, 10);
  const std::vector<uint8_t> code{0x62, 0x05, 0, 0, 2, 0};
  for (int32_t inside : {-5, 0, 10}) {
    eax() = static_cast<uint32_t>(inside);
    done(code);
  }
  for (int32_t outside : {-6, 11}) {
    eax() = static_cast<uint32_t>(outside);
    faults(code, 5);
  }
  memory.poke<int16_t>(0x20002, -2);
  eax() = 0xfffd;
  done({0x66, 0x62, 0x05, 0, 0, 2, 0});
}

TEST_F(Interpreter, Sysenter) {
  state.msr.sysenter_cs = kCode0;
  state.msr.sysenter_eip = 0x6000;
  ring(3);
  transfers({0x0f, 0x34});
  EXPECT_EQ(state.cpl, 0);
  EXPECT_EQ(state.eip, 0x6000u);
  state.gpr[kEdx] = 0x7000;
  transfers({0x0f, 0x35});
  EXPECT_EQ(state.cpl, 3);
  EXPECT_EQ(state.eip, 0x7000u);
}

TEST_F(InterpreterPentium, LacksWhatCameLater) {
  faults({0x0f, 0x34}, 6);
  faults({0x0f, 0x35}, 6);
  faults({0x0f, 0x33}, 6);        // rdpmc
  faults({0x0f, 0xae, 0x00}, 6);  // fxsave
  done({0x0f, 0x31});
}

TEST_F(Interpreter486, LacksWhatCameLater) {
  faults({0x0f, 0x31}, 6);
  faults({0x0f, 0x32}, 6);
  faults({0x0f, 0x30}, 6);
  faults({0x0f, 0x20, 0xe0}, 6);  // mov eax,cr4
  faults({0x0f, 0x22, 0xe0}, 6);
  done({0x0f, 0xa2});
}

// --- System -------------------------------------------------------------------------------------

TEST_F(Interpreter, ControlRegisters) {
  eax() = 0x12345000;
  done({0x0f, 0x22, 0xd8});
  EXPECT_EQ(state.cr3, 0x12345000u);
  done({0x0f, 0x22, 0xd0});
  done({0x0f, 0x20, 0xd1});  // mov ecx,cr2
  EXPECT_EQ(state.gpr[kEcx], 0x12345000u);
  done({0x0f, 0x20, 0xc0});
  EXPECT_EQ(eax(), state.cr0);
  done({0x0f, 0x20, 0xe0});
  EXPECT_EQ(eax(), state.cr4);
  eax() = 1u << 31;
  faults({0x0f, 0x22, 0xc0}, kGp);
  ring(3);
  faults({0x0f, 0x20, 0xc0}, kGp);
}

TEST_F(Interpreter, DebugRegisters) {
  eax() = 0x12345678;
  done({0x0f, 0x23, 0xc0});  // mov dr0,eax
  EXPECT_EQ(state.dr[0], 0x12345678u);
  eax() = 0;
  done({0x0f, 0x23, 0xf0});  // mov dr6,eax
  EXPECT_EQ(state.dr[6], 0xffff0ff0u);
  done({0x0f, 0x23, 0xe8});  // mov dr5,eax: DR7
  EXPECT_EQ(state.dr[7], 0x400u);
  done({0x0f, 0x21, 0xf9});  // mov ecx,dr7
  EXPECT_EQ(state.gpr[kEcx], 0x400u);
  state.cr4 |= cr4::kDe;
  faults({0x0f, 0x21, 0xe0}, 6);  // dr4
  ring(3);
  faults({0x0f, 0x21, 0xf8}, kGp);
  ring(0);
  state.dr[7] |= 1u << 13;
  const StepResult result = step({0x0f, 0x21, 0xf8});
  EXPECT_EQ(result.step, Step::kFault);
  EXPECT_EQ(result.fault, Fault::plain(Vector::kDebug));
  EXPECT_TRUE(state.dr[6] & 1u << 13);
  EXPECT_FALSE(state.dr[7] & 1u << 13);
}

TEST_F(Interpreter, TableRegisters) {
  memory.poke<uint16_t>(0x20000, 0x1ff);
  memory.poke<uint32_t>(0x20002, 0x89abcdef);
  done({0x0f, 0x01, 0x1d, 0, 0, 2, 0});  // lidt
  EXPECT_EQ(state.idtr.limit, 0x1ff);
  EXPECT_EQ(state.idtr.base, 0x89abcdefu);
  done({0x66, 0x0f, 0x01, 0x15, 0, 0, 2, 0});  // lgdt, 24 bits
  EXPECT_EQ(state.gdtr.base, 0xabcdefu);
  done({0x0f, 0x01, 0x05, 0x10, 0, 2, 0});  // sgdt
  EXPECT_EQ(memory.peek<uint16_t>(0x20010), 0x1ff);
  EXPECT_EQ(memory.peek<uint32_t>(0x20012), 0xabcdefu);
  done({0x0f, 0x01, 0x0d, 0x10, 0, 2, 0});  // sidt
  EXPECT_EQ(memory.peek<uint32_t>(0x20012), 0x89abcdefu);
  ring(3);
  faults({0x0f, 0x01, 0x1d, 0, 0, 2, 0}, kGp);
  done({0x0f, 0x01, 0x0d, 0x10, 0, 2, 0});
  memory.absent.insert(0x21);
  faults({0x0f, 0x01, 0x0d, 0xfc, 0x0f, 2, 0}, 14, page_fault::kWrite | page_fault::kUser);
}

TEST_F(Interpreter, LdtrAndTr) {
  eax() = 0;
  done({0x0f, 0x00, 0xd0});  // lldt ax
  EXPECT_TRUE(state.ldtr.unusable());
  eax() = kLdtSelector;
  done({0x0f, 0x00, 0xd0});
  eax() = ~0u;
  done({0x0f, 0x00, 0xc0});  // sldt eax
  EXPECT_EQ(eax(), kLdtSelector);
  done({0x0f, 0x00, 0xc8});  // str eax
  EXPECT_EQ(eax(), kTssSelector);
  memory.poke<uint32_t>(0x20000, ~0u);
  done({0x0f, 0x00, 0x0d, 0, 0, 2, 0});
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0xffff0000u | kTssSelector);
  faults({0x0f, 0x00, 0xd8}, kGp, kTssSelector);  // ltr ax: busy
  ring(3);
  faults({0x0f, 0x00, 0xd0}, kGp);
  done({0x0f, 0x00, 0xc0});
  real_mode();
  faults({0x0f, 0x00, 0xc0}, 6);
}

TEST_F(Interpreter, MachineStatusWord) {
  done({0x0f, 0x01, 0xe0});  // smsw eax
  EXPECT_EQ(eax(), state.cr0);
  eax() = 0xe;
  done({0x0f, 0x01, 0xf0});  // lmsw ax
  EXPECT_EQ(state.cr0 & 0xf, 0xfu);
  done({0x0f, 0x06});  // clts
  EXPECT_EQ(state.cr0 & 0xf, 0x7u);
  ring(3);
  faults({0x0f, 0x06}, kGp);
  faults({0x0f, 0x01, 0xf0}, kGp);
}

TEST_F(Interpreter, CachesAndTlb) {
  state.gpr[kEbx] = 0x1234567;
  done({0x0f, 0x01, 0x3b});
  EXPECT_EQ(events.invalidated, std::vector<uint32_t>{0x1234567});
  done({0x0f, 0x08});
  done({0x0f, 0x09});
  done({0xf3, 0x0f, 0x09});
  ring(3);
  faults({0x0f, 0x01, 0x3b}, kGp);
  faults({0x0f, 0x09}, kGp);
}

TEST_F(Interpreter, Halt) {
  EXPECT_EQ(step({0xf4}).step, Step::kHalt);
  EXPECT_TRUE(state.halted);
  EXPECT_EQ(state.eip, kCode + 1);
  ring(3);
  state.halted = false;
  faults({0xf4}, kGp);
}

TEST_F(Interpreter, IdentityAndTime) {
  eax() = 0;
  done({0x0f, 0xa2});
  EXPECT_EQ(state.gpr[kEbx], 0x756e6547u);
  state.tsc_offset = uint64_t{1} << 32;
  done({0x0f, 0x31});
  EXPECT_EQ(eax(), 1000u);
  EXPECT_EQ(state.gpr[kEdx], 1u);
  ring(3);
  done({0x0f, 0x31});
  state.cr4 |= cr4::kTsd;
  faults({0x0f, 0x31}, kGp);
  faults({0x0f, 0x33}, kGp);
  state.cr4 |= cr4::kPce;
  state.gpr[kEcx] = 1;
  done({0x0f, 0x33});
  state.gpr[kEcx] = 2;
  faults({0x0f, 0x33}, kGp);
}

TEST_F(Interpreter, Msrs) {
  state.gpr[kEcx] = 0x174;
  eax() = 0x60;
  done({0x0f, 0x30});
  eax() = 0;
  done({0x0f, 0x32});
  EXPECT_EQ(eax(), 0x60u);
  state.gpr[kEcx] = 0xdead;
  faults({0x0f, 0x32}, kGp);
  ring(3);
  state.gpr[kEcx] = 0x174;
  faults({0x0f, 0x32}, kGp);
}

TEST_F(Interpreter, ProtectionQueries) {
  struct Row {
    uint64_t raw;
    uint8_t cpl, selector_rpl;
    bool lar, lsl, verr, verw;
  };
  const Row rows[] = {
      {descriptor(0, 0x12345, kAccessData), 0, 0, true, true, true, true},
      {descriptor(0, 0x12345, kAccessData), 0, 3, false, false, false, false},
      {descriptor(0, 0x12345, kAccessData), 3, 0, false, false, false, false},
      {descriptor(0, 0x12345, kAccessData | dpl(3)), 3, 3, true, true, true, true},
      {descriptor(0, 0x12345, kAccessReadOnly), 0, 0, true, true, true, false},
      {descriptor(0, 0x12345, kAccessCode), 0, 0, true, true, true, false},
      {descriptor(0, 0x12345, kAccessExecuteOnly), 0, 0, true, true, false, false},
      {descriptor(0, 0x12345, kAccessConforming), 3, 3, true, true, true, false},
      {descriptor(0, 0x12345, kAccessTss32, 0), 0, 0, true, true, false, false},
      {descriptor(0, 0x12345, kAccessLdt, 0), 0, 0, true, true, false, false},
      {gate(kCode0, 0, kCall32), 0, 0, true, false, false, false},
      {gate(kCode0, 0, kTask), 0, 0, true, false, false, false},
      {gate(kCode0, 0, kInterrupt32), 0, 0, false, false, false, false},
      {gate(kCode0, 0, kTrap16), 0, 0, false, false, false, false},
      {descriptor(0, 0, 0x80, 0), 0, 0, false, false, false, false},
  };
  for (size_t i = 0; i < std::size(rows); ++i) {
    const Row& row = rows[i];
    SCOPED_TRACE(i);
    set(kFree, row.raw);
    ring(row.cpl);
    state.gpr[kEbx] = uint32_t{kFree} | row.selector_rpl;
    const auto query = [&](const std::vector<uint8_t>& code, bool expected) {
      eax() = 0xdeadbeef;
      done(code);
      EXPECT_EQ((state.eflags & eflags::kZf) != 0, expected) << int{code[1]} << " " << int{code[2]};
      return expected;
    };
    const bool loaded = query({0x0f, 0x02, 0xc3}, row.lar);
    EXPECT_EQ(eax(), loaded ? static_cast<uint32_t>(row.raw >> 32) & 0xffff00 : 0xdeadbeef);
    if (query({0x0f, 0x03, 0xc3}, row.lsl)) {
      EXPECT_EQ(eax(), row.raw >> 52 & 8 ? 0x12345fffu : 0x12345u);
    }
    query({0x0f, 0x00, 0xe3}, row.verr);
    query({0x0f, 0x00, 0xeb}, row.verw);
  }
  ring(0);
  for (uint32_t nothing : {0u, 3u, 0x100u}) {
    state.gpr[kEbx] = nothing;
    state.eflags |= eflags::kZf;
    done({0x0f, 0x02, 0xc3});
    EXPECT_FALSE(state.eflags & eflags::kZf);
  }
  real_mode();
  faults({0x0f, 0x02, 0xc3}, 6);
}

TEST_F(Interpreter, Lar16AndMemory) {
  memory.poke<uint16_t>(0x20000, kData0);
  eax() = ~0u;
  done({0x66, 0x0f, 0x02, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(eax(), 0xffff9300u);
  done({0x66, 0x0f, 0x03, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(eax(), 0xffffffffu);
}

TEST_F(Interpreter, Arpl) {
  eax() = 0x10;
  state.gpr[kEbx] = 0x23;
  done({0x63, 0xd8});  // arpl ax,bx
  EXPECT_EQ(eax(), 0x13u);
  EXPECT_TRUE(state.eflags & eflags::kZf);
  done({0x63, 0xd8});
  EXPECT_FALSE(state.eflags & eflags::kZf);
  memory.read_only.insert(0x20);
  memory.poke<uint16_t>(0x20000, 0x13);
  done({0x63, 0x1d, 0, 0, 2, 0});  // Nothing to write.
}

// --- Ports --------------------------------------------------------------------------------------

TEST_F(Interpreter, Ports) {
  ports.value = 0x12345678;
  state.gpr[kEdx] = 0x3f8;
  done({0xe4, 0x60});
  EXPECT_EQ(ports.last, "in 96/1");
  EXPECT_EQ(eax() & 0xff, 0x78u);
  done({0xed});
  EXPECT_EQ(eax(), 0x12345678u);
  done({0x66, 0xef});
  EXPECT_EQ(ports.last, "out 1016/2");
  EXPECT_EQ(ports.value, 0x5678u);
  ring(3);
  memory.poke<uint8_t>(kTss + 0x68 + 0x60 / 8, 1);
  faults({0xe4, 0x60}, kGp);
}

TEST_F(Interpreter, RepInsDoesOneIteration) {
  ports.value = 0x11223344;
  state.gpr[kEcx] = 2;
  state.gpr[kEdi] = 0x20000;
  state.gpr[kEdx] = 0x1f0;
  straight_ = false;
  done({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.gpr[kEcx], 1u);
  EXPECT_EQ(state.gpr[kEdi], 0x20002u);
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0x3344u);
  transfers({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.eip, kCode + 3);
  EXPECT_EQ(state.gpr[kEcx], 0u);
  state.eip = kCode;
  ports.last = "";
  transfers({0xf3, 0x66, 0x6d});
  EXPECT_EQ(state.eip, kCode + 3);
  EXPECT_EQ(ports.last, "");
}

TEST_F(Interpreter, InsNeverReadsThePortForNothing) {
  state.gpr[kEdi] = 0x20000;
  memory.absent.insert(0x20);
  faults({0x6c}, 14, page_fault::kWrite);
  EXPECT_EQ(ports.last, "");
}

TEST_F(Interpreter, Outs) {
  memory.poke<uint32_t>(0x20000, 0x11223344);
  state.gpr[kEsi] = 0x20000;
  state.gpr[kEdx] = 0x1f0;
  state.eflags |= eflags::kDf;
  done({0x6f});
  EXPECT_EQ(ports.all, std::vector<uint32_t>{0x11223344});
  EXPECT_EQ(state.gpr[kEsi], 0x1fffcu);
  state.gpr[kEsi] = 0x20000;
  done({0x67, 0x6e});  // SI only.
  EXPECT_EQ(state.gpr[kEsi], 0x2ffffu);
}

// --- Decimal arithmetic -------------------------------------------------------------------------

TEST_F(Interpreter, DecimalAdjustments) {
  constexpr uint32_t kCf = eflags::kCf, kAf = eflags::kAf, kZf = eflags::kZf, kSf = eflags::kSf,
                     kPf = eflags::kPf;
  struct Row {
    std::vector<uint8_t> code;
    uint32_t ax, flags, result, result_flags;
  };
  const Row rows[] = {
      {{0x27}, 0x00ae, 0, 0x0014, kCf | kAf | kPf},            // daa: 79 + 35
      {{0x27}, 0x002e, 0, 0x0034, kAf},                        // daa
      {{0x27}, 0x0012, kCf, 0x0072, kCf | kPf},                // daa
      {{0x27}, 0x009a, 0, 0x0000, kCf | kAf | kZf | kPf},      // daa
      {{0x27}, 0x0010, kAf, 0x0016, kAf},                      // daa
      {{0x2f}, 0x00ee, kAf, 0x0088, kCf | kAf | kSf | kPf},    // das: 35 - 47 with a borrow
      {{0x2f}, 0x002e, 0, 0x0028, kAf | kPf},                  // das
      {{0x2f}, 0x0003, kAf, 0x00fd, kCf | kAf | kSf},          // das: the low borrow carries
      {{0x37}, 0x000b, 0, 0x0101, kCf | kAf},                  // aaa
      {{0x37}, 0x0005, 0, 0x0005, kPf},                        // aaa
      {{0x37}, 0x00fb, 0, 0x0201, kCf | kAf},                  // aaa: AL carries into AH
      {{0x3f}, 0x020b, 0, 0x0105, kCf | kAf | kPf},            // aas
      {{0x3f}, 0x0200, kAf, 0x000a, kCf | kAf | kPf},          // aas: AL borrows from AH
      {{0xd4, 10}, 0x003f, kCf, 0x0603, kPf},                  // aam
      {{0xd4, 16}, 0x003f, 0, 0x030f, kPf},                    // aam 16
      {{0xd5, 10}, 0x0603, 0, 0x003f, kPf},                    // aad
      {{0xd5, 10}, 0x0000, 0, 0x0000, kZf | kPf},              // aad
      {{0xd5, 10}, 0x01f6, 0, 0x0000, kCf | kAf | kZf | kPf},  // aad: the addition carries
      {{0xd6}, 0x1200, kCf, 0x12ff, kCf},                      // salc
      {{0xd6}, 0x12ff, 0, 0x1200, 0},                          // salc
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << std::hex << int{row.code[0]} << " of " << row.ax);
    eax() = 0xabcd0000 | row.ax;
    state.eflags = eflags::kFixed1 | row.flags;
    done(row.code);
    EXPECT_EQ(eax(), 0xabcd0000 | row.result);
    EXPECT_EQ(flags(), row.result_flags);
  }
  faults({0xd4, 0}, 0);
}

// --- The FPU's state ----------------------------------------------------------------------------

class FpuState : public Interpreter {
 protected:
  // Three registers in use from TOP = 5 on: 1.0, 0.0 and infinity.
  void load_fpu() {
    FpuImage& fpu = state.fpu;
    fpu = FpuImage{};
    fpu.control = 0x027f;
    fpu.status = 5 << 11;
    fpu.abridged_tag = 0xe0;
    set_st(0, 0x3fff, uint64_t{1} << 63);
    set_st(1, 0, 0);
    set_st(2, 0x7fff, uint64_t{1} << 63);
    fpu.ip = 0x12345678;
    fpu.cs = kCode0;
    fpu.dp = 0x9abcdef0;
    fpu.ds = kData0;
    fpu.opcode = 0x5dd;
  }
  void set_st(int i, uint16_t exponent, uint64_t mantissa) {
    std::memcpy(state.fpu.st[i].data(), &mantissa, 8);
    std::memcpy(state.fpu.st[i].data() + 8, &exponent, 2);
  }
  template <typename T>
  T at(uint32_t offset) const {
    return memory.peek<T>(0x20000 + offset);
  }
};

TEST_F(FpuState, Fnstenv32) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint32_t>(0), 0xffff027fu);
  EXPECT_EQ(at<uint32_t>(4), 0xffff2800u);
  EXPECT_EQ(at<uint32_t>(8), 0xffff93ffu);
  EXPECT_EQ(at<uint32_t>(12), 0x12345678u);
  EXPECT_EQ(at<uint32_t>(16), 0x05dd0000u | kCode0);
  EXPECT_EQ(at<uint32_t>(20), 0x9abcdef0u);
  EXPECT_EQ(at<uint32_t>(24), 0xffff0000u | kData0);
  EXPECT_EQ(state.fpu.control, 0x027f);
}

TEST_F(FpuState, FnstenvMasksExceptions) {
  load_fpu();
  state.fpu.control = 0x0340;
  state.fpu.status = 0x8081;
  done({0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(4), 0x8081);
  EXPECT_EQ(state.fpu.control, 0x037f);
  EXPECT_EQ(state.fpu.status, 0x0001);
}

TEST_F(FpuState, Fnstenv16) {
  load_fpu();
  done({0x66, 0xd9, 0x35, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(0), 0x027f);
  EXPECT_EQ(at<uint16_t>(4), 0x93ff);
  EXPECT_EQ(at<uint16_t>(6), 0x5678);
  EXPECT_EQ(at<uint16_t>(8), kCode0);
  EXPECT_EQ(at<uint16_t>(10), 0xdef0);
  EXPECT_EQ(at<uint16_t>(12), kData0);
}

TEST_F(FpuState, RealModeLayouts) {
  real_mode();
  load_fpu();
  state.segment[kDs].base = 0x20000;
  state.fpu.cs = 0x1234;
  state.fpu.ip = 0x5;
  state.fpu.ds = 0xf000;
  state.fpu.dp = 0x10;
  done({0xd9, 0x36, 0, 0});
  EXPECT_EQ(at<uint16_t>(6), 0x2345);
  EXPECT_EQ(at<uint16_t>(8), 0x15dd);
  EXPECT_EQ(at<uint16_t>(10), 0x0010);
  EXPECT_EQ(at<uint16_t>(12), 0xf000);
  done({0x66, 0xd9, 0x36, 0, 0});
  EXPECT_EQ(at<uint32_t>(12), 0x2345u);
  EXPECT_EQ(at<uint32_t>(16), 0x15ddu);
  EXPECT_EQ(at<uint32_t>(24), 0xf000u);
  done({0x66, 0xd9, 0x26, 0, 0});
  EXPECT_EQ(state.fpu.ip, 0x12345u);
  EXPECT_EQ(state.fpu.dp, 0xf0010u);
  EXPECT_EQ(state.fpu.opcode, 0x5dd);
}

TEST_F(FpuState, FldenvMovesTopOverTheRegisters) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  memory.poke<uint16_t>(0x20004, 6 << 11);
  const auto before = state.fpu.st;
  done({0xd9, 0x25, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.abridged_tag, 0xe0);
  EXPECT_EQ(state.fpu.st[0], before[1]);
  EXPECT_EQ(state.fpu.st[7], before[0]);
  EXPECT_EQ(state.fpu.ip, 0x12345678u);
  EXPECT_EQ(state.fpu.opcode, 0x5dd);
}

TEST_F(FpuState, FnsaveAndFrstor) {
  for (const bool wide : {true, false}) {
    load_fpu();
    const FpuImage before = state.fpu;
    const uint32_t registers = wide ? 28 : 14;
    std::vector<uint8_t> save{0xdd, 0x35, 0, 0, 2, 0}, restore{0xdd, 0x25, 0, 0, 2, 0};
    if (!wide) {
      save.insert(save.begin(), 0x66);
      restore.insert(restore.begin(), 0x66);
    }
    done(save);
    EXPECT_EQ(at<uint64_t>(registers), uint64_t{1} << 63);
    EXPECT_EQ(at<uint16_t>(registers + 8), 0x3fff);
    EXPECT_EQ(at<uint16_t>(registers + 28), 0x7fff);
    EXPECT_EQ(state.fpu.control, 0x037f);
    EXPECT_EQ(state.fpu.status, 0);
    EXPECT_EQ(state.fpu.abridged_tag, 0);
    done(restore);
    EXPECT_EQ(state.fpu.st, before.st);
    EXPECT_EQ(state.fpu.control, before.control);
    EXPECT_EQ(state.fpu.status, before.status);
    EXPECT_EQ(state.fpu.abridged_tag, before.abridged_tag);
  }
}

TEST_F(FpuState, LoadingRaisesThePendingSummary) {
  load_fpu();
  done({0xd9, 0x35, 0, 0, 2, 0});
  memory.poke<uint16_t>(0x20000, 0x0340);
  memory.poke<uint16_t>(0x20004, 0x0001);
  done({0xd9, 0x25, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.status, 0x8081);
  faults({0xd9, 0x25, 0, 0, 2, 0}, 16);
  done({0xd9, 0x35, 0, 0, 2, 0});  // FNSTENV does not wait.
  state.fpu.status = 0x8081;
  state.cr0 &= ~cr0::kNe;
  done({0xd9, 0x25, 0, 0, 2, 0});
  EXPECT_EQ(events.x87_errors, 1);
}

TEST_F(FpuState, FxsaveAndFxrstor) {
  load_fpu();
  state.fpu.xmm[7][15] = 0x77;
  state.fpu.mxcsr = 0x1fa0;
  memory.poke<uint8_t>(0x20000 + 288, 0x55);
  const FpuImage before = state.fpu;
  done({0x0f, 0xae, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(at<uint16_t>(0), 0x027f);
  EXPECT_EQ(at<uint8_t>(4), 0xe0);
  EXPECT_EQ(at<uint32_t>(8), 0x12345678u);
  EXPECT_EQ(at<uint32_t>(24), 0x1fa0u);
  EXPECT_EQ(at<uint32_t>(28), 0xffffu);
  EXPECT_EQ(at<uint8_t>(287), 0x77);
  EXPECT_EQ(at<uint8_t>(288), 0x55);
  state.fpu = FpuImage{};
  done({0x0f, 0xae, 0x0d, 0, 0, 2, 0});
  EXPECT_EQ(state.fpu.st, before.st);
  EXPECT_EQ(state.fpu.xmm, before.xmm);
  EXPECT_EQ(state.fpu.mxcsr, before.mxcsr);
  memory.poke<uint32_t>(0x20000 + 24, 0x10000);
  faults({0x0f, 0xae, 0x0d, 0, 0, 2, 0}, kGp);
  faults({0x0f, 0xae, 0x05, 8, 0, 2, 0}, kGp);
  memory.absent.insert(0x21);
  faults({0x0f, 0xae, 0x05, 0x80, 0x0f, 2, 0}, 14, page_fault::kWrite);
}

TEST_F(FpuState, Availability) {
  const std::vector<uint8_t> env{0xd9, 0x35, 0, 0, 2, 0}, fx{0x0f, 0xae, 0x05, 0, 0, 2, 0};
  state.cr0 |= cr0::kTs;
  faults(env, 7);
  faults(fx, 7);
  state.cr0 = (state.cr0 & ~cr0::kTs) | cr0::kEm;
  faults(env, 7);
  faults(fx, 6);
}

// --- Other modes --------------------------------------------------------------------------------

TEST_F(Interpreter, RealModeInstructions) {
  real_mode();
  done({0x0f, 0x20, 0xc0});  // mov eax,cr0
  eax() = 0x1234;
  done({0x8e, 0xd8});
  EXPECT_EQ(state.segment[kDs].base, 0x12340u);
  memory.poke<uint32_t>(0x21 * 4, 0x20001234);
  transfers({0xcd, 0x21});
  EXPECT_EQ(state.eip, 0x1234u);
  EXPECT_EQ(state.segment[kCs].base, 0x20000u);
  transfers({0xcf});
  EXPECT_EQ(state.eip, 2u);
  faults({0x0f, 0x34}, kGp);  // sysenter
  state.gpr[kEsp] = 0x12340000;
  done({0x06});
  EXPECT_EQ(state.gpr[kEsp], 0x1234fffeu);
  done({0x07});
  EXPECT_EQ(state.gpr[kEsp], 0x12340000u);
}

TEST_F(Interpreter, V86Instructions) {
  v86();
  faults({0xfa}, kGp);
  faults({0xcd, 0x21}, kGp);
  faults({0x9c}, kGp);
  faults({0xf4}, kGp);
  faults({0x0f, 0x01, 0x16, 0, 0}, kGp);  // lgdt
  faults({0x0f, 0x00, 0xc0}, 6);          // sldt
  faults({0x63, 0xd8}, 6);                // arpl
  eax() = 0x1234;
  done({0x8e, 0xd8});
  EXPECT_EQ(state.segment[kDs].base, 0x12340u);
  state.eflags |= eflags::kIopl;
  done({0xfa});
  done({0x9c});
  EXPECT_EQ(state.gpr[kEsp], 0x7ffeu);
}

}  // namespace
}  // namespace trapline
