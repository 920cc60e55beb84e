// The embedding API as a user sees it: state, exits, limits, interrupts, memory from outside.
#include "runtime/machine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/runtime/ring0_machine.h"

namespace trapline {
namespace {

constexpr uint8_t kVector = 0x30;

/// Ports whose writes do what a test says.
class Ports final : public PortSpace {
 public:
  uint32_t in(uint16_t, uint32_t) override { return 0; }
  void out(uint16_t, uint32_t, uint32_t value) override { written(value); }
  std::function<void(uint32_t)> written;
};

/// Its handlers for NMI and kVector are at kHandler and for #GP at kHandler + 0x100.
class MachineTest : public Ring0Machine {
 protected:
  void make(const Code& code, const Code& handler = {0x43, 0xcf}) {  // inc ebx; iret
    start(code, handler);
    put(kHandler + 0x100, {0x46, 0x83, 0xc4, 0x04, 0xf4});  // inc esi; add esp, 4; hlt
    gate(kVector, kHandler);
    gate(13, kHandler + 0x100);
  }

  Ports ports;
};

// --- state ---------------------------------------------------------------------------------------

TEST_F(MachineTest, AllOfTheStateComesBackAsItWasSet) {
  make({0x90, 0xf4});
  CpuState state = machine->state();
  for (size_t i = 0; i < 8; ++i) state.gpr[i] = 0x01010101u * static_cast<uint32_t>(i + 1);
  state.eflags = 0x00240ed7 & ~eflags::kTf;
  state.cr2 = 0x12345678;
  state.cr4 = cr4::kOsfxsr | cr4::kDe;
  state.dr = {0x11, 0x22, 0x33, 0x44, 0, 0, 0xffff0ff1, 0x00000400};
  state.pdpte = {0x1001, 0x2001, 0x3001, 0x4001};
  state.ldtr = {0x7000, 0xff, 0x82, 0x28};
  state.tr = {0x7100, 0x67, 0x8b, 0x30};
  state.segment[kFs] = {0x12345, 0x678, 0x40f3, 0x73};
  state.segment[kGs] = {};
  state.tsc_offset = 0x123456789abcdef0;
  state.nmi_blocked = true;
  state.msr.sysenter_cs = 0x08;
  state.msr.sysenter_eip = 0x99;
  state.msr.efer = efer::kNxe;
  state.msr.pat = 0x0007010600070106;
  state.msr.mtrr_fixed[5] = 0x0606060606060606;
  state.fpu.control = 0x027f;
  state.fpu.status = 0x3800;
  state.fpu.abridged_tag = 0x81;
  state.fpu.opcode = 0x1d8;
  state.fpu.ip = 0x1234;
  state.fpu.dp = 0x5678;
  state.fpu.mxcsr = 0x9fc0;
  for (uint8_t i = 0; i < 8; ++i) {
    state.fpu.st[i] = {i, 1, 2, 3, 4, 5, 6, 0x87, 0xff, 0x3f};
    state.fpu.xmm[i].fill(static_cast<uint8_t>(0x10 + i));
  }
  for (Segment* segment : {&state.ldtr, &state.tr, &state.segment[kFs], &state.segment[kGs]})
    segment->derive();
  machine->set_state(state);
  EXPECT_EQ(std::memcmp(&machine->state(), &state, sizeof state), 0);

  EXPECT_EQ(machine->run().kind, Kind::kHalt);  // And translated code has left it alone.
  state.eip += 2;
  state.halted = true;
  EXPECT_EQ(std::memcmp(&machine->state(), &state, sizeof state), 0);
}

TEST_F(MachineTest, RunsWithSegmentCachesThatNoDescriptorHas) {
  make({0x64, 0xa1, 0x10, 0x00, 0x00, 0x00, 0xf4});  // mov eax, fs:[0x10]; hlt
  put(0x8010, {0x78, 0x56, 0x34, 0x12});
  change([](CpuState& state) { state.segment[kFs] = {0x8000, 0x13, 0x40f3, 0x1233}; });
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 0x12345678u);
  change([](CpuState& state) {
    state.eip = kCode;
    state.segment[kFs].limit = 0x12;
  });
  machine->run();
  EXPECT_EQ(gpr(kEsi), 1u);  // #GP
}

TEST_F(MachineTest, GuestsSeeTheRegistersThatWereSet) {
  // mov eax, dr0; mov ebx, dr3; mov ecx, 0x175; rdmsr (into edx:eax after mov esi, eax); hlt
  make({0x0f, 0x21, 0xc0, 0x89, 0xc6, 0x0f, 0x21, 0xdb, 0xb9, 0x75, 0x01, 0x00, 0x00, 0x0f, 0x32,
        0xf4});
  change([](CpuState& state) {
    state.dr[0] = 0xd0d0;
    state.dr[3] = 0xd3d3;
    state.msr.sysenter_esp = 0x5e5e;
  });
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEsi), 0xd0d0u);
  EXPECT_EQ(gpr(kEbx), 0xd3d3u);
  EXPECT_EQ(gpr(kEax), 0x5e5eu);
}

// --- exits ---------------------------------------------------------------------------------------

TEST_F(MachineTest, PortsAreExitsWithTheirSizeAndValue) {
  // mov dx, 0x1234; mov eax, 0xaabbccdd; out dx, al; out dx, ax; out dx, eax; in al, dx; hlt
  make({0x66, 0xba, 0x34, 0x12, 0xb8, 0xdd, 0xcc, 0xbb, 0xaa, 0xee, 0x66, 0xef, 0xef, 0xec, 0xf4});
  for (const auto& [size, value] :
       {std::pair{1, 0xddu}, std::pair{2, 0xccddu}, std::pair{4, 0xaabbccddu}}) {
    const Exit exit = machine->run();
    EXPECT_EQ(exit.kind, Kind::kPortWrite);
    EXPECT_EQ(exit.port, 0x1234);
    EXPECT_EQ(exit.size, size);
    EXPECT_EQ(exit.value, value);
  }
  const Exit exit = machine->run();
  EXPECT_EQ(exit.kind, Kind::kPortRead);
  EXPECT_EQ(exit.size, 1);
  machine->complete_port_read(0x142);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 0xaabbcc42u);
}

TEST_F(MachineTest, APortThatWasNotAnsweredIsAskedForAgain) {
  make({0xe4, 0x10, 0xf4});        // in al, 0x10; hlt
  machine->complete_port_read(7);  // Nobody asked.
  EXPECT_EQ(machine->run().kind, Kind::kPortRead);
  EXPECT_EQ(machine->run().kind, Kind::kPortRead);
  machine->complete_port_read(8);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 8u);
  machine->complete_port_read(9);  // Too late.
  change([](CpuState& state) { state.eip = kCode; });
  EXPECT_EQ(machine->run().kind, Kind::kPortRead);
}

TEST_F(MachineTest, AnInterruptComesBehindTheReadThatWasAnswered) {
  // in al, 0x10; hlt -- and a handler that reads another port
  make({0xe4, 0x10, 0xf4}, {0x50, 0xe4, 0x20, 0x88, 0xc3, 0x58, 0xcf});
  change([](CpuState& state) { state.eflags |= eflags::kIf; });
  EXPECT_EQ(machine->run().port, 0x10);
  machine->inject_interrupt(kVector);
  machine->complete_port_read(0x11);
  const Exit exit = machine->run();
  EXPECT_EQ(exit.kind, Kind::kPortRead);
  EXPECT_EQ(exit.port, 0x20);
  machine->complete_port_read(0x22);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 0x11u);
  EXPECT_EQ(gpr(kEbx), 0x22u);
}

TEST_F(MachineTest, AReadAtABreakpointIsAskedForOnce) {
  make({0xe4, 0x10, 0xf4});
  machine->add_breakpoint({kCode});
  EXPECT_EQ(machine->run().kind, Kind::kBreakpoint);
  EXPECT_EQ(machine->run().kind, Kind::kPortRead);
  machine->complete_port_read(5);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 5u);
}

TEST_F(MachineTest, AReadAtTheGuestsOwnBreakpointIsAskedForOnce) {
  make({0x90, 0xe4, 0x10, 0xf4});
  // The handler of #DB: inc edi; or dword [esp + 8], 0x10000 (RF); iret
  put(kHandler + 0x200, {0x47, 0x81, 0x4c, 0x24, 0x08, 0x00, 0x00, 0x01, 0x00, 0xcf});
  gate(1, kHandler + 0x200);
  change([](CpuState& state) {
    state.dr[0] = kCode + 1;
    state.dr[7] = 0x402;
  });
  EXPECT_EQ(machine->run().kind, Kind::kPortRead);
  machine->complete_port_read(5);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEdi), 1u);
}

TEST_F(MachineTest, RepeatedReadsAskForEachElement) {
  make({0xf3, 0x6c, 0xf4});  // rep insb; hlt
  change([](CpuState& state) {
    state.gpr[kEcx] = 3;
    state.gpr[kEdi] = 0x9000;
    state.gpr[kEdx] = 0x77;
  });
  for (uint32_t i = 1; i <= 3; ++i) {
    const Exit exit = machine->run();
    ASSERT_EQ(exit.kind, Kind::kPortRead);
    EXPECT_EQ(exit.port, 0x77);
    machine->complete_port_read(i);
  }
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(dword(0x9000), 0x00030201u);
}

TEST_F(MachineTest, ExceptionsCanBeExits) {
  options.exit_on_exceptions = 1u << 6 | 1u << 14;
  make({0x0f, 0x0b});
  const Exit exit = machine->run();
  EXPECT_EQ(exit.kind, Kind::kException);
  EXPECT_EQ(exit.fault, Fault::invalid_opcode());
  EXPECT_EQ(machine->state().eip, kCode);
}

TEST_F(MachineTest, ATripleFaultLeavesTheStateThatItWasFoundIn) {
  make({0x90, 0x0f, 0x0b});
  change([](CpuState& state) { state.idtr = {0, 0}; });
  EXPECT_EQ(machine->run().kind, Kind::kTripleFault);
  EXPECT_EQ(machine->state().eip, kCode + 1);
}

TEST_F(MachineTest, APortMustNotRunItsMachine) {
  options.ports = &ports;
  make({0xe6, 0x10, 0x41, 0xf4});  // out 0x10, al; inc ecx; hlt
  Exit inner;
  ports.written = [&](uint32_t) { inner = machine->run(); };
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(inner.kind, Kind::kError);
  EXPECT_FALSE(inner.message.empty());
  EXPECT_EQ(gpr(kEcx), 1u);
}

TEST_F(MachineTest, StopsCountOnceWhereverTheyComeFrom) {
  make({0xeb, 0xfe});
  machine->request_stop();
  EXPECT_EQ(machine->run().kind, Kind::kStopped);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    machine->request_stop();
  });
  EXPECT_EQ(machine->run().kind, Kind::kStopped);
  other.join();
  EXPECT_EQ(machine->run({.time = std::chrono::milliseconds(1)}).kind, Kind::kDeadline);
}

// --- limits --------------------------------------------------------------------------------------

TEST_F(MachineTest, ABudgetIsSpentToTheInstruction) {
  // again: add eax, ecx; push eax; pop edx; dec ecx; jnz again; hlt
  const Code code = {0x01, 0xc8, 0x50, 0x5a, 0x49, 0x75, 0xf9, 0xf4};
  make(code);
  const CpuState start = machine->state();
  std::vector<CpuState> steps;
  change([](CpuState& state) { state.gpr[kEcx] = 10; });
  while (machine->run({.instructions = 1}).kind == Kind::kInstructions)
    steps.push_back(machine->state());
  ASSERT_EQ(steps.size(), 50u);
  for (size_t count = 1; count <= steps.size(); ++count) {
    machine->set_state(start);
    change([](CpuState& state) { state.gpr[kEcx] = 10; });
    EXPECT_EQ(machine->run({.instructions = count}).kind, Kind::kInstructions);
    EXPECT_EQ(std::memcmp(&machine->state(), &steps[count - 1], sizeof(CpuState)), 0) << count;
  }
}

TEST_F(MachineTest, ModesWithOnePrivilegeLevelHaveThatOne) {
  make({0x90});
  CpuState state = machine->state();
  state.cr0 &= ~cr0::kPe;
  state.cpl = 2;
  machine->set_state(state);
  EXPECT_EQ(machine->state().cpl, 0);
  state.cr0 |= cr0::kPe;
  machine->set_state(state);
  EXPECT_EQ(machine->state().cpl, 2);
  state.eflags |= eflags::kVm;
  machine->set_state(state);
  EXPECT_EQ(machine->state().cpl, 3);
  state.cr0 &= ~cr0::kPe;  // There is no virtual-8086 mode without protected mode.
  machine->set_state(state);
  EXPECT_EQ(machine->state().eflags & eflags::kVm, 0u);
  EXPECT_EQ(machine->state().cpl, 0);
}

TEST_F(MachineTest, NoBudgetAndNoTimeAreLimitsToo) {
  make({0xeb, 0xfe});
  EXPECT_EQ(machine->run({.instructions = 0}).kind, Kind::kInstructions);
  EXPECT_EQ(machine->run({.time = std::chrono::nanoseconds(0)}).kind, Kind::kDeadline);
  EXPECT_EQ(machine->run({.time = std::chrono::nanoseconds(-1)}).kind, Kind::kDeadline);
  EXPECT_EQ(machine->state().eip, kCode);
}

TEST_F(MachineTest, NoLoopHoldsADeadlineUp) {
  const std::vector<Code> loops = {
      {0xeb, 0xfe},                                            // jmp $
      {0xe2, 0xfe, 0xeb, 0xfc},                                // loop $
      {0xff, 0xe3},                                            // jmp ebx
      {0xe8, 0x02, 0x00, 0x00, 0x00, 0xeb, 0xf9, 0xc3},        // call and ret
      {0x89, 0x07, 0x49, 0x75, 0xfb, 0xeb, 0xf9},              // mov [edi], eax; dec ecx; jnz
      {0xb9, 0xff, 0xff, 0xff, 0xff, 0xf3, 0xab, 0xeb, 0xf7},  // rep stosd
      {0xb9, 0xff, 0xff, 0xff, 0xff, 0xf3, 0xa4, 0xeb, 0xf7},  // rep movsb
      {0xb9, 0xff, 0xff, 0xff, 0xff, 0xf2, 0xae, 0xeb, 0xf7},  // repne scasb
      {0xfb, 0x90, 0xfa, 0xeb, 0xfb},                          // sti; nop; cli
      {0xc6, 0x05, 0x08, 0x10, 0x00, 0x00, 0xf7, 0xeb, 0xf7},  // a store into itself
  };
  constexpr auto kTime = std::chrono::microseconds(300);
  for (const Code& code : loops) {
    make(code);
    change([](CpuState& state) {
      state.gpr[kEbx] = kCode;
      state.gpr[kEsi] = 0x20000;
      state.gpr[kEdi] = 0x80000;
      state.gpr[kEax] = 1;
    });
    auto best = std::chrono::nanoseconds::max();  // The host may be busy with something else.
    for (int i = 0; i < 20; ++i) {
      const auto start = std::chrono::steady_clock::now();
      ASSERT_EQ(machine->run({.time = kTime}).kind, Kind::kDeadline) << int{code[0]};
      best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
    }
    EXPECT_LT(best, kTime + std::chrono::milliseconds(1)) << int{code[0]};
  }
}

TEST_F(MachineTest, ABreakpointIsNotMissedAfterADeadline) {
  // The loop is stopped now here, now there, and never runs past the breakpoint in it.
  make({0x40, 0xeb, 0xfd});  // again: inc eax; jmp again
  machine->add_breakpoint({kCode});
  for (uint32_t passes = 0; passes < 300; ++passes) {
    ASSERT_EQ(machine->run({.time = std::chrono::microseconds(passes % 2 ? 0 : 60'000'000)}).kind,
              passes % 2 ? Kind::kDeadline : Kind::kBreakpoint);
    EXPECT_EQ(gpr(kEax), passes / 2);
  }
}

// --- interrupts ----------------------------------------------------------------------------------

TEST_F(MachineTest, InterruptsWaitForIfAndComeInOrder) {
  // nop; sti; nop; hlt -- handlers push their vectors to a list
  make({0x90, 0xfb, 0x90, 0xf4});
  for (uint8_t vector : {uint8_t{0x31}, uint8_t{0x32}}) {
    put(0x3000u + 16u * vector, {0x6b, 0xc0, 0x10, 0x83, 0xc0, static_cast<uint8_t>(vector & 0xf),
                                 0xcf});  // imul eax, eax, 16; add eax, vector & 15; iret
    gate(vector, 0x3000u + 16u * vector);
  }
  machine->inject_interrupt(0x31);
  machine->inject_interrupt(0x32);
  EXPECT_EQ(machine->run({.instructions = 1}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEax), 0u);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEax), 0x12u);
}

TEST_F(MachineTest, AnInterruptWakesAHaltedGuest) {
  make({0xf4, 0x41, 0xf4});  // hlt; inc ecx; hlt
  change([](CpuState& state) { state.eflags |= eflags::kIf; });
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_TRUE(machine->state().halted);
  machine->inject_interrupt(kVector);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEbx), 1u);
  EXPECT_EQ(gpr(kEcx), 1u);
}

TEST_F(MachineTest, AGuestThatRunsOnIsNotHalted) {
  make({0xf4, 0x41, 0x41});  // hlt; inc ecx; inc ecx
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(machine->run({.instructions = 1}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEcx), 1u);
  EXPECT_FALSE(machine->state().halted);
}

TEST_F(MachineTest, AnNmiNeedsNoIf) {
  make({0x90, 0xf4});
  machine->inject_nmi();
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEbx), 1u);
  EXPECT_FALSE(machine->state().nmi_blocked);
}

TEST_F(MachineTest, AnNmiWaitsForTheIretOfTheOneBefore) {
  // A handler of some length, and code that would go on for ever.
  make({0xeb, 0xfe}, {0x43, 0x90, 0x90, 0xcf});
  machine->inject_nmi();
  EXPECT_EQ(machine->run({.instructions = 2}).kind, Kind::kInstructions);
  EXPECT_TRUE(machine->state().nmi_blocked);
  machine->inject_nmi();
  machine->inject_nmi();  // One is remembered.
  EXPECT_EQ(machine->run({.instructions = 2}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEbx), 1u);
  EXPECT_EQ(machine->state().eip, kHandler);
  EXPECT_EQ(machine->run({.instructions = 1}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEbx), 2u);
  EXPECT_EQ(machine->run({.instructions = 100}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEbx), 2u);
}

TEST_F(MachineTest, AnNmiThatWaitsComesAfterTheIretInOneRun) {
  // The handler asks for another one through a port the first time, with interrupts off.
  options.ports = &ports;
  ports.written = [&](uint32_t) { machine->inject_nmi(); };
  // inc ebx; cmp ebx, 2; jae done; out 0x80, al; done: iret
  make({0xe6, 0x80, 0xeb, 0xfe}, {0x43, 0x83, 0xfb, 0x02, 0x73, 0x02, 0xe6, 0x80, 0xcf});
  EXPECT_EQ(machine->run({.time = std::chrono::milliseconds(20)}).kind, Kind::kDeadline);
  EXPECT_EQ(gpr(kEbx), 2u);
}

TEST_F(MachineTest, AnIretThatFaultsLetsNmisInToo) {
  // The handler's IRET finds a selector beyond the GDT.
  make({0xeb, 0xfe}, {0x43, 0xc7, 0x44, 0x24, 0x04, 0x80, 0x00, 0x00, 0x00, 0xcf});
  machine->inject_nmi();
  EXPECT_EQ(machine->run({.instructions = 1}).kind, Kind::kInstructions);
  machine->inject_nmi();
  put(kHandler + 9, {0xcf});
  EXPECT_EQ(machine->run({.instructions = 2}).kind, Kind::kInstructions);
  // The IRET was refused, and the second NMI came before #GP's handler began.
  EXPECT_EQ(gpr(kEsi), 0u);
  EXPECT_EQ(gpr(kEbx), 2u);
  EXPECT_EQ(dword(gpr(kEsp)), kHandler + 0x100);
}

TEST_F(MachineTest, NmisOfRealModeComeOneByOne) {
  make({0xeb, 0xfe}, {0x43, 0xcf});  // jmp $; and for 16 bits as well: inc bx; iret
  put64(8, kHandler);
  CpuState state = CpuState::reset();
  for (int name = 0; name < kSegmentCount; ++name)
    state.segment[static_cast<size_t>(name)] = Segment::real(0, name == kCs);
  state.eip = kCode;
  state.gpr[kEsp] = kStack;
  machine->set_state(state);
  for (uint32_t count = 1; count <= 20; ++count) {
    machine->inject_nmi();
    EXPECT_TRUE(machine->nmi_due());
    EXPECT_EQ(machine->run({.instructions = 10}).kind, Kind::kInstructions);
    EXPECT_FALSE(machine->nmi_due());
    EXPECT_EQ(gpr(kEbx), count);
    EXPECT_FALSE(machine->state().nmi_blocked);
  }
}

TEST_F(MachineTest, WhatWasInjectedCanBeForgotten) {
  make({0xeb, 0xfe});
  change([](CpuState& state) { state.eflags |= eflags::kIf; });
  machine->inject_nmi();
  machine->inject_interrupt(kVector);
  machine->forget_injected();
  EXPECT_EQ(machine->run({.instructions = 10}).kind, Kind::kInstructions);
  EXPECT_EQ(gpr(kEbx), 0u);
}

TEST_F(MachineTest, NothingComesBetweenMovSsAndTheInstructionBehindIt) {
  // mov ss, eax; inc ecx; hlt
  make({0x8e, 0xd0, 0x41, 0xf4}, {0x89, 0xca, 0xcf});  // mov edx, ecx; iret
  change([](CpuState& state) {
    state.eflags |= eflags::kIf;
    state.gpr[kEax] = 0x10;
    state.gpr[kEdx] = 77;
  });
  machine->run({.instructions = 1});
  machine->inject_interrupt(kVector);
  machine->inject_nmi();
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(gpr(kEdx), 1u);
}

// --- single steps and exits ----------------------------------------------------------------------

TEST_F(MachineTest, AStepEndsBehindAnInstructionThatWasAnExit) {
  // out 0x10, al; nop; hlt; nop -- the handler of #DB counts, and clears TF at last
  make({0xe6, 0x10, 0x90, 0xf4, 0x90, 0xf4});
  // inc edi; cmp edi, 4; jb on; and dword [esp + 8], ~TF; on: iret
  put(kHandler + 0x200,
      {0x47, 0x83, 0xff, 0x04, 0x72, 0x08, 0x81, 0x64, 0x24, 0x08, 0xff, 0xfe, 0xff, 0xff, 0xcf});
  gate(1, kHandler + 0x200);
  change([](CpuState& state) { state.eflags |= eflags::kTf; });
  EXPECT_EQ(machine->run().kind, Kind::kPortWrite);
  EXPECT_EQ(machine->run().kind, Kind::kHalt);
  EXPECT_EQ(machine->state().eip, kCode + 6);  // The first HLT ended in a trap.
  EXPECT_EQ(gpr(kEdi), 4u);
}

// --- memory from outside -------------------------------------------------------------------------

TEST_F(MachineTest, CodeThatADeviceWritesIsTheNewCode) {
  for (const bool linked : {true, false}) {
    options.switches.link_blocks = linked;
    // again: call 0x1100; out 0x10, al; jmp again
    make({0xe8, 0xfb, 0x00, 0x00, 0x00, 0xe6, 0x10, 0xeb, 0xf7});
    for (uint8_t value : {uint8_t{1}, uint8_t{2}, uint8_t{3}}) {
      put(0x1100, {0xb0, value, 0xc3});  // mov al, value; ret
      for (int i = 0; i < 3; ++i) {
        const Exit exit = machine->run();
        ASSERT_EQ(exit.kind, Kind::kPortWrite);
        EXPECT_EQ(exit.value, value);
      }
    }
  }
}

TEST_F(MachineTest, CodeThatADeviceWritesDuringAPortWriteIsTheNewCode) {
  // OUT's device overwrites the instruction right behind the OUT.
  options.ports = &ports;
  ports.written = [&](uint32_t value) { put(kCode + 4, {static_cast<uint8_t>(value)}); };
  for (const bool linked : {true, false}) {
    options.switches.link_blocks = linked;
    make({0xb0, 0x43, 0xe6, 0x10, 0x41, 0xf4});  // mov al, 0x43; out 0x10, al; inc ecx; hlt
    EXPECT_EQ(machine->run().kind, Kind::kHalt);
    EXPECT_EQ(gpr(kEcx), 0u);
    EXPECT_EQ(gpr(kEbx), 1u);  // 0x43: inc ebx
  }
}

TEST_F(MachineTest, PageTablesThatADeviceWritesAreFollowed) {
  make({0xa1, 0x00, 0x90, 0x00, 0x00, 0xe6, 0x10, 0xeb, 0xf7});  // mov eax, [0x9000]; out; jmp
  constexpr uint32_t kDirectory = 0x10000, kTable = 0x11000;
  put64(kDirectory, kTable | 3);
  for (uint32_t page = 0; page < 256; ++page) {
    const uint32_t entry = page << 12 | 3;
    machine->write_memory({kTable + 4 * page}, std::as_bytes(std::span(&entry, 1)));
  }
  put(0x9000, {1});
  put(0xa000, {2});
  change([](CpuState& state) {
    state.cr3 = kDirectory;
    state.cr0 |= cr0::kPg;
  });
  EXPECT_EQ(machine->run().value, 1u);
  const uint32_t moved = 0xa003;
  machine->write_memory({kTable + 4 * 9}, std::as_bytes(std::span(&moved, 1)));
  EXPECT_EQ(machine->run().value, 2u);
  EXPECT_EQ(machine->physical_address({0x9123})->value, 0xa123u);
}

TEST_F(MachineTest, MemoryThatIsNotThereReadsAsOnesAndTakesNothing) {
  make({0xf4});
  for (const uint64_t at :
       {uint64_t{1} << 20, uint64_t{1} << 32, uint64_t{1} << 52, ~uint64_t{63}}) {
    uint64_t value = 0x1234;
    machine->write_memory({at}, std::as_bytes(std::span(&value, 1)));
    machine->read_memory({at}, std::as_writable_bytes(std::span(&value, 1)));
    EXPECT_EQ(value, ~uint64_t{0}) << std::hex << at;
  }
}

// --- creation, and what the process looks like ---------------------------------------------------

TEST_F(MachineTest, OptionsThatMakeNoMachineAreRefusedInASentence) {
  for (const auto& [memory, cache] :
       {std::pair{0ull, 1ull << 20}, std::pair{4095ull, 1ull << 20},
        std::pair{1ull << 50, 1ull << 20}, std::pair{1ull << 20, 0ull},
        std::pair{1ull << 20, 1ull << 40}}) {
    MachineOptions bad;
    bad.memory_bytes = memory;
    bad.code_cache_bytes = cache;
    const auto made = Machine::create(bad);
    ASSERT_FALSE(made.ok()) << memory << " " << cache;
    EXPECT_FALSE(made.error().message.empty());
    EXPECT_EQ(made.error().message.find('\n'), std::string::npos);
  }
}

TEST_F(MachineTest, NoMappingCanBeWrittenAndExecuted) {
  make({0x40, 0xeb, 0xfd});
  machine->run({.time = std::chrono::milliseconds(5)});
  std::ifstream maps("/proc/self/maps");
  int executable_code = 0, writable_code = 0;
  for (std::string line; std::getline(maps, line);) {
    const std::string rights = line.substr(line.find(' ') + 1, 4);
    EXPECT_FALSE(rights[1] == 'w' && rights[2] == 'x') << line;
    if (line.find("trapline-code") == std::string::npos) continue;
    executable_code += rights[2] == 'x';
    writable_code += rights[1] == 'w';
  }
  EXPECT_EQ(executable_code, 1);
  EXPECT_EQ(writable_code, 1);
}

}  // namespace
}  // namespace trapline
