// Machines whose user code runs natively, seen from outside: what happens must be what happens to
// translated code, and it must really have run natively.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "runtime/machine.h"
#include "runtime/native/processor_limit.h"
#include "runtime/signals.h"
#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kCode = 0x10000;
constexpr uint32_t kData = 0x20000;

/// Paging is off, so that a page is its own frame.
std::unique_ptr<Machine> machine_with(const std::vector<uint8_t>& code,
                                      DirectExecution direct = DirectExecution::kAlways,
                                      bool at_once = false, MachineOptions options = {}) {
  options.memory_bytes = 1u << 20;
  options.code_cache_bytes = 1u << 20;
  options.exit_on_exceptions = ~0u;
  options.direct_execution = direct;
  options.native_at_once = at_once;
  auto machine = Machine::create(options).take();
  EXPECT_EQ(machine->native_refusal(), "");
  machine->write_memory({kCode}, std::as_bytes(std::span(code)));
  CpuState state = CpuState::flat32(3);
  state.eip = kCode;
  state.eflags |= eflags::kIf;
  state.gpr[kEsp] = kData + 0x800;
  state.gpr[kEcx] = 1'000'000;
  machine->set_state(state);
  return machine;
}

/// Processes that this thread has started.
std::vector<pid_t> children() {
  const auto thread = std::to_string(syscall(SYS_gettid));
  std::ifstream file("/proc/self/task/" + thread + "/children");
  std::vector<pid_t> found;
  for (pid_t pid = 0; file >> pid;) found.push_back(pid);
  return found;
}

TEST(NativeMachine, ComputesInTheContainer) {
  const auto machine = machine_with({0x40, 0xe2, 0xfd, 0xf4});  // inc eax; loop; hlt
  const Exit exit = machine->run({.time = milliseconds(2000)});
  EXPECT_EQ(exit.kind, Exit::Kind::kException);
  EXPECT_EQ(exit.fault, Fault::general_protection());
  EXPECT_EQ(machine->state().eip, kCode + 3);
  EXPECT_EQ(machine->state().gpr[kEax], 1'000'000u);
  EXPECT_EQ(machine->state().gpr[kEcx], 0u);
  EXPECT_EQ(machine->statistics().native_pages_fine, 1u);
  EXPECT_EQ(machine->statistics().blocks_translated, 1u);  // The HLT.
}

TEST(NativeMachine, ADeadlineEndsALoop) {
  const auto machine = machine_with({0x40, 0xeb, 0xfd});
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(machine->run({.time = milliseconds(30)}).kind, Exit::Kind::kDeadline);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(30));
  const uint32_t eax = machine->state().gpr[kEax];
  for (int i = 0; i < 100 && machine->state().gpr[kEax] == eax; ++i)
    EXPECT_EQ(machine->run({.time = milliseconds(10)}).kind, Exit::Kind::kDeadline);
  EXPECT_GT(machine->state().gpr[kEax], eax);
  EXPECT_EQ(machine->statistics().blocks_translated, 0u);
}

/// A machine whose deadline a container's timer has just seen to, with other code to go on with.
std::unique_ptr<Machine> machine_after_native_code(const std::vector<uint8_t>& code, uint8_t cpl,
                                                   uint32_t flags = 0) {
  auto machine = machine_with({0xeb, 0xfe});
  for (int i = 0; i < 1000 && !deadline_is_left_to_container(); ++i)
    EXPECT_EQ(machine->run({.time = milliseconds(2), .goes_on = true}).kind, Exit::Kind::kDeadline);
  EXPECT_TRUE(deadline_is_left_to_container());
  machine->write_memory({kCode + 0x1000}, std::as_bytes(std::span(code)));
  CpuState state = CpuState::flat32(cpl);
  state.eip = kCode + 0x1000;
  state.eflags |= eflags::kIf | flags;
  machine->set_state(state);
  return machine;
}

TEST(NativeMachine, TheDeadlineIsTakenBackForUserCodeThatIsTranslated) {
  const auto machine = machine_after_native_code({0xeb, 0xfe}, 3, eflags::kIopl);
  EXPECT_EQ(machine->run({.time = milliseconds(2), .goes_on = true}).kind, Exit::Kind::kDeadline);
  EXPECT_FALSE(deadline_is_left_to_container());
}

TEST(NativeMachine, TheDeadlineIsTakenBackForKernelCodeThatIsNotBrief) {
  const std::vector<uint8_t> code = {0x0f, 0x01, 0x05, 0, 0, 2, 0, 0xeb, 0xf7};  // sgdt; jmp
  const auto machine = machine_after_native_code(code, 0);
  EXPECT_EQ(machine->run({.time = milliseconds(2), .goes_on = true}).kind, Exit::Kind::kDeadline);
  EXPECT_FALSE(deadline_is_left_to_container());
}

TEST(NativeMachine, ADeadlineThatIsMissedInKernelCodeIsTakenBackTheNextTime) {
  const auto machine = machine_after_native_code({0xeb, 0xfe}, 0);
  EXPECT_EQ(machine->run({.time = milliseconds(2), .goes_on = true}).kind, Exit::Kind::kDeadline);
  EXPECT_TRUE(deadline_is_left_to_container());
  EXPECT_EQ(machine->run({.time = milliseconds(2), .goes_on = true}).kind, Exit::Kind::kDeadline);
  EXPECT_FALSE(deadline_is_left_to_container());
}

TEST(NativeMachine, TheThreadIsSetFreeUnlessItGoesOn) {
  cpu_set_t before, now;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const auto machine = machine_with({0xeb, 0xfe});
  const auto as_before = [&] {
    return sched_getaffinity(0, sizeof now, &now) == 0 && CPU_EQUAL(&now, &before);
  };
  // In the first stay the kernel may choose, and so it may every 200 ms.
  const auto held = [&] {
    for (int i = 0; i < 20; ++i) {
      machine->run({.time = milliseconds(5), .goes_on = true});
      if (CPU_COUNT(&before) == 1 || !as_before()) return true;
    }
    return false;
  };
  EXPECT_TRUE(held());
  machine->rest();
  EXPECT_TRUE(as_before());
  EXPECT_TRUE(held());
  machine->run({.time = milliseconds(5)});
  EXPECT_TRUE(as_before());
}

TEST(NativeMachine, NativeCodeHasAProcessorOfItsOwnWhereThatPays) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  if (CPU_COUNT(&set) < 2 || processors_granted() < 2) GTEST_SKIP() << "one processor";
  for (const bool may : {true, false}) {
    MachineOptions options;
    options.switches.two_processors = may;
    const auto machine = machine_with({0x40, 0xeb, 0xfd}, DirectExecution::kAlways, false, options);
    for (int i = 0; i < 100; ++i)
      ASSERT_EQ(machine->run({.time = milliseconds(1), .goes_on = true}).kind,
                Exit::Kind::kDeadline);
    if (may)
      EXPECT_GT(machine->statistics().native_stays_apart, 0u);
    else
      EXPECT_EQ(machine->statistics().native_stays_apart, 0u);
    machine->rest();
  }
}

/// It wants to be awake shortly before a deadline.
TEST(NativeMachine, TheThreadSleepsNoLongerThanItAsksFor) {
  std::thread thread([] {
    prctl(PR_SET_TIMERSLACK, 50'000);  // Threads have that of the one that makes them.
    const auto machine = machine_with({0x40, 0xeb, 0xfd});
    ASSERT_EQ(machine->run({.time = milliseconds(1)}).kind, Exit::Kind::kDeadline);
    EXPECT_LE(prctl(PR_GET_TIMERSLACK), 1'000);
  });
  thread.join();
}

TEST(NativeMachine, CountedRunsAreTranslated) {
  const auto machine = machine_with({0x40, 0xeb, 0xfd});
  EXPECT_EQ(machine->run({.instructions = 1001}).kind, Exit::Kind::kInstructions);
  EXPECT_EQ(machine->state().gpr[kEax], 501u);
  EXPECT_EQ(machine->statistics().native_stays, 0u);
}

TEST(NativeMachine, CpuidTellsOfTheModel) {
  const std::vector<uint8_t> code = {0x31, 0xc0, 0x0f, 0xa2, 0xf4};  // xor eax, eax; cpuid; hlt
  const auto native = machine_with(code);
  const auto translated = machine_with(code, DirectExecution::kNever);
  native->run({.time = milliseconds(2000)});
  translated->run({.time = milliseconds(2000)});
  EXPECT_EQ(native->state().gpr, translated->state().gpr);
  EXPECT_EQ(native->state().eip, kCode + 4);
}

class WatchedInstruction : public testing::TestWithParam<std::vector<uint8_t>> {};

INSTANTIATE_TEST_SUITE_P(, WatchedInstruction,
                         testing::Values(std::vector<uint8_t>{0x0f, 0xa2, 0x90},  // cpuid; nop
                                         std::vector<uint8_t>{0x66, 0x8c, 0xdb},  // mov bx, ds
                                         std::vector<uint8_t>{0x0e, 0x5b,
                                                              0x90},  // push cs; pop ebx; nop
                                         std::vector<uint8_t>{0x0f, 0xc7, 0xf3}));  // rdrand ebx

TEST_P(WatchedInstruction, LeavesTheCodeAroundItNative) {
  // 1: xor eax, eax; it; add esi, ebx; mov ecx, 100000; 2: inc edi; loop 2b; dec ebp; jnz 1b; hlt
  std::vector<uint8_t> code = {0x31, 0xc0, 0,    0,    0,    0x01, 0xde, 0xb9, 0xa0, 0x86,
                               0x01, 0,    0x47, 0xe2, 0xfd, 0x4d, 0x75, 0xee, 0xf4};
  std::ranges::copy(GetParam(), code.begin() + 2);
  const auto native = machine_with(code);
  const auto translated = machine_with(code, DirectExecution::kNever);
  for (Machine* machine : {native.get(), translated.get()}) {
    CpuState state = machine->state();
    state.gpr[kEbp] = 20;
    machine->set_state(state);
    EXPECT_EQ(machine->run({.time = milliseconds(5000)}).kind, Exit::Kind::kException);
  }
  EXPECT_EQ(native->state().gpr, translated->state().gpr);
  EXPECT_EQ(native->state().eip, translated->state().eip);
  const Statistics statistics = native->statistics();
  if (statistics.native_pages_sensitive == 1) GTEST_SKIP() << "the host cannot stop there";
  EXPECT_EQ(statistics.native_pages_fine, 1u);
  const bool faults = GetParam()[1] == 0xc7;  // No model has it.
  EXPECT_GE(statistics.native_instructions, faults ? 1u : 20u);
}

void append(std::vector<uint8_t>& code, std::initializer_list<uint8_t> bytes) {
  code.insert(code.end(), bytes);
}

void append(std::vector<uint8_t>& code, std::initializer_list<uint8_t> bytes, uint32_t value) {
  code.insert(code.end(), bytes);
  for (int i = 0; i < 4; ++i) code.push_back(static_cast<uint8_t>(value >> 8 * i));
}

/// 13 times: mov eax, i; cpuid; add esi, ebx; xor edi, edx.
std::vector<uint8_t> many_cpuids() {
  std::vector<uint8_t> code;
  for (uint32_t i = 0; i < 13; ++i) {
    append(code, {0xb8}, i % 3);
    append(code, {0x0f, 0xa2, 0x01, 0xde, 0x31, 0xd7});
  }
  return code;
}

/// Runs it natively and translated until it halts: the same must come of it.
Statistics compare_with_translated(const std::vector<uint8_t>& code, bool at_once = true) {
  const auto native = machine_with(code, DirectExecution::kAlways, at_once);
  const auto translated = machine_with(code, DirectExecution::kNever);
  for (Machine* machine : {native.get(), translated.get()}) {
    const Exit exit = machine->run({.time = milliseconds(20'000)});
    EXPECT_EQ(exit.kind, Exit::Kind::kException);
    EXPECT_EQ(exit.fault, Fault::general_protection());
  }
  EXPECT_EQ(native->state().gpr, translated->state().gpr);
  EXPECT_EQ(native->state().eip, translated->state().eip);
  std::vector<std::byte> there(0x20000), expected(0x20000);
  native->read_memory({kCode}, there);
  translated->read_memory({kCode}, expected);
  EXPECT_EQ(there, expected);
  return native->statistics();
}

TEST(NativeMachine, ManyCpuidsLeaveTheirPageNative) {
  std::vector<uint8_t> code = many_cpuids();
  // mov ecx, 100000; 1: inc ebp; loop 1b; hlt
  append(code, {0xb9}, 100'000);
  append(code, {0x45, 0xe2, 0xfd, 0xf4});
  const Statistics statistics = compare_with_translated(code);
  EXPECT_EQ(statistics.native_pages_fine, 1u);
  EXPECT_EQ(statistics.native_pages_patched, 1u);
  EXPECT_EQ(statistics.native_patch_stops, 13u);
  EXPECT_LE(statistics.native_hidden_accesses, 1u);  // The HLT looks like one.
}

TEST(NativeMachine, CodeThatIsSeldomEnteredIsNotPatched) {
  // mov ebp, ROUNDS; 1: call kCode + 0x1000; dec ebp; jnz 1b; hlt -- there: the CPUIDs; ret
  const auto with_rounds = [](uint32_t rounds) {
    std::vector<uint8_t> code;
    append(code, {0xbd}, rounds);
    append(code, {0xe8}, 0x1000 - 10);
    append(code, {0x4d, 0x75, 0xf8, 0xf4});
    code.resize(0x1000);
    const std::vector<uint8_t> cpuids = many_cpuids();
    code.insert(code.end(), cpuids.begin(), cpuids.end());
    append(code, {0xc3});
    return compare_with_translated(code, false);
  };
  EXPECT_EQ(with_rounds(2).native_pages_patched, 0u);
  EXPECT_EQ(with_rounds(200).native_pages_patched, 1u);
}

TEST(NativeMachine, WhatIsPatchedReadsAsItWasWritten) {
  // mov eax, SEGMENT:[kCode + 5], the first CPUID, for DS, ES, SS and CS; push eax
  std::vector<uint8_t> code = many_cpuids();
  for (const uint8_t prefix : {0x3e, 0x26, 0x36, 0x2e}) {
    append(code, {prefix, 0xa1}, kCode + 5);
    append(code, {0x50});
  }
  // mov esi, kCode; mov edi, kData + 0x1000; mov ecx, 100; rep movsb; hlt
  append(code, {0xbe}, kCode);
  append(code, {0xbf}, kData + 0x1000);
  append(code, {0xb9}, 100);
  append(code, {0xf3, 0xa4, 0xf4});
  const Statistics statistics = compare_with_translated(code);
  EXPECT_EQ(statistics.native_patch_stops, 13u);
  EXPECT_GE(statistics.native_hidden_accesses, 5u);
}

TEST(NativeMachine, CodeThatWritesWhatIsPatchedRunsAsWritten) {
  // mov word [kCode + 5], 0x9090, over the first CPUID; cmp ebp, 1; inc ebp; jb kCode; hlt
  std::vector<uint8_t> code = many_cpuids();
  append(code, {0x66, 0xc7, 0x05}, kCode + 5);
  append(code, {0x90, 0x90, 0x83, 0xfd, 0x01, 0x8d, 0x6d, 0x01, 0x0f, 0x82},
         0u - static_cast<uint32_t>(code.size() + 14));
  append(code, {0xf4});
  const Statistics statistics = compare_with_translated(code);
  EXPECT_GE(statistics.native_pages_rewritten, 1u);
  EXPECT_GE(statistics.native_patch_stops, 13u);
}

TEST(NativeMachine, DataBelowPatchedCodeIsReadAndWritten) {
  // jmp kCode + 0x1000; there: the CPUIDs; mov ecx, ROUNDS; 1: inc dword [kCode + 0x100];
  // add eax, [kCode + 0x104]; loop 1b; hlt
  const auto with_rounds = [](uint32_t rounds) {
    std::vector<uint8_t> code;
    append(code, {0xe9}, 0x1000 - 5);
    code.resize(0x104);
    append(code, {1, 2, 3, 4});
    code.resize(0x1000);
    const std::vector<uint8_t> cpuids = many_cpuids();
    code.insert(code.end(), cpuids.begin(), cpuids.end());
    append(code, {0xb9}, rounds);
    append(code, {0xff, 0x05}, kCode + 0x100);
    append(code, {0x03, 0x05}, kCode + 0x104);
    append(code, {0xe2, 0xf2, 0xf4});
    return compare_with_translated(code);
  };
  const Statistics few = with_rounds(3);
  EXPECT_EQ(few.native_patch_stops, 13u);
  EXPECT_EQ(few.native_hidden_accesses, 7u);  // With the HLT, which looks like one.
  // Too many of them: the page stays translated.
  const Statistics many = with_rounds(10'000);
  EXPECT_GE(many.native_hidden_accesses, 20u);
  EXPECT_LE(many.native_hidden_accesses, 200u);
}

TEST(NativeMachine, SegmentsThatCodeLoadsInPatchedPagesAreTheGuests) {
  // mov ax, ds; mov bx, cs; push ss; pop ecx; push ecx; pop es; mov dx, es; hlt
  const std::vector<uint8_t> code = {0x66, 0x8c, 0xd8, 0x66, 0x8c, 0xcb, 0x16,
                                     0x59, 0x51, 0x07, 0x66, 0x8c, 0xc2, 0xf4};
  std::vector<uint8_t> all = many_cpuids();
  all.insert(all.end(), code.begin(), code.end());
  for (const auto direct : {DirectExecution::kAlways, DirectExecution::kNever}) {
    const auto machine = machine_with(all, direct, true);
    const uint64_t flat = 0x00cff3000000ffff;
    machine->write_memory({kData + 0x100 + 0x78}, std::as_bytes(std::span(&flat, 1)));
    CpuState state = machine->state();
    state.segment[kCs].selector = 0x73;
    state.segment[kSs].selector = state.segment[kDs].selector = 0x7b;
    state.gdtr = {kData + 0x100, 0x7f};
    machine->set_state(state);
    machine->run({.time = milliseconds(2000)});
    EXPECT_EQ(machine->state().eip, kCode + all.size() - 1);
    EXPECT_EQ(machine->state().gpr[kEax] & 0xffff, 0x7bu);
    EXPECT_EQ(machine->state().gpr[kEbx] & 0xffff, 0x73u);
    EXPECT_EQ(machine->state().gpr[kEdx] & 0xffff, 0x7bu);
    EXPECT_EQ(machine->state().segment[kEs].selector, 0x7b);
    const bool native = direct == DirectExecution::kAlways;
    EXPECT_EQ(machine->statistics().native_patch_stops, native ? 18u : 0u);
  }
}

TEST(NativeMachine, SensitiveCodeIsTranslatedByPage) {
  // sysenter, which raises #GP
  const std::vector<uint8_t> code = {0x31, 0xc0, 0x0f, 0x34};
  const auto native = machine_with(code);
  const auto translated = machine_with(code, DirectExecution::kNever);
  native->run({.time = milliseconds(2000)});
  translated->run({.time = milliseconds(2000)});
  EXPECT_EQ(native->state().gpr, translated->state().gpr);
  EXPECT_EQ(native->statistics().native_pages_sensitive, 1u);
  ASSERT_EQ(native->statistics().native_pages_refused.size(), 1u);
  EXPECT_EQ(native->statistics().native_pages_refused[0].instruction, "sysenter");
  EXPECT_EQ(native->statistics().native_pages_refused[0].sensitive, 1u);
  EXPECT_EQ(native->statistics().native_pages_refused[0].unexplored, 0u);
  // The next page calls it.
  std::vector<uint8_t> two(0x1003);
  two[0x1000] = 0xe9;
  const uint32_t back = 0u - 0x1005;
  two.resize(0x1005);
  std::memcpy(&two[0x1001], &back, 4);
  std::copy(code.begin(), code.end(), two.begin());
  const auto both = machine_with(two);
  CpuState state = both->state();
  state.eip = kCode + 0x1000;
  both->set_state(state);
  both->run({.time = milliseconds(2000)});
  EXPECT_EQ(both->state().eip, kCode + 2);
  EXPECT_EQ(both->statistics().native_pages_fine, 1u);
  EXPECT_EQ(both->statistics().native_pages_sensitive, 1u);
}

TEST(NativeMachine, CallsOfCodeThatEntersTheKernelAreCountedAsSystemCalls) {
  // sysenter; in the page before: jmp there
  std::vector<uint8_t> code(0x1002);
  code[0] = 0xe9;
  const uint32_t forth = 0x1000 - 5;
  std::memcpy(&code[1], &forth, 4);
  code[0x1000] = 0x0f;
  code[0x1001] = 0x34;
  const auto machine = machine_with(code);
  EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
  EXPECT_EQ(machine->state().eip, kCode + 0x1000);
  for (const NativeEventCount& event : machine->statistics().native_events)
    if (event.name == "system_call") {
      EXPECT_EQ(event.count, 1u);
    }
}

TEST(NativeMachine, SegmentsThatAreLoadedUnseenAreTheGuests) {
  // An indirect jump, which hides from whoever looks at the page: push 0x7b; pop ds; mov eax,
  // [kData]; hlt
  std::vector<uint8_t> code(0x90, 0x90);
  const std::array<uint8_t, 7> jump = {0xb8, 0x80, kCode >> 8 & 0xff, kCode >> 16, 0, 0xff, 0xe0};
  const std::array<uint8_t, 9> load = {0x6a, 0x7b, 0x1f, 0xa1, 0, 0, kData >> 16, 0, 0xf4};
  std::ranges::copy(jump, code.begin());
  std::ranges::copy(load, code.begin() + 0x80);
  const uint64_t flat = 0x00cff3000000ffff;
  const uint32_t value = 0x12345678;
  for (const auto direct : {DirectExecution::kAlways, DirectExecution::kNever}) {
    const auto machine = machine_with(code, direct);
    machine->write_memory({kData + 0x100 + 0x78}, std::as_bytes(std::span(&flat, 1)));
    machine->write_memory({kData}, std::as_bytes(std::span(&value, 1)));
    CpuState state = machine->state();
    state.segment[kCs].selector = 0x73;
    state.gdtr = {kData + 0x100, 0x7f};
    machine->set_state(state);
    machine->run({.time = milliseconds(2000)});
    EXPECT_EQ(machine->state().eip, kCode + 0x88);
    EXPECT_EQ(machine->state().gpr[kEax], value);
    EXPECT_EQ(machine->state().segment[kDs].selector, 0x7b);
    EXPECT_EQ(machine->state().segment[kDs].base, 0u);
    const bool native = direct == DirectExecution::kAlways;
    EXPECT_EQ(machine->statistics().native_segment_loads, native ? 1u : 0u);
  }
}

TEST(NativeMachine, CodeThatWritesItselfRunsAsWritten) {
  // 100 times: inc dword [patch + 1], the immediate of: patch: mov eax, 0
  const auto machine = machine_with({0xb9, 100, 0, 0, 0,                                 //
                                     0xff, 0x05, kCode & 0xff, kCode >> 8 & 0xff, 1, 0,  //
                                     0xb8, 0, 0, 0, 0,                                   //
                                     0xe2, 0xf3, 0xf4});
  const uint32_t immediate = kCode + 12;
  machine->write_memory({kCode + 7}, std::as_bytes(std::span(&immediate, 1)));
  const Exit exit = machine->run({.time = milliseconds(5000)});
  EXPECT_EQ(exit.fault, Fault::general_protection());
  EXPECT_EQ(machine->state().eip, kCode + 18);
  EXPECT_EQ(machine->state().gpr[kEax], 100u);
  EXPECT_GE(machine->statistics().native_pages_rewritten, 1u);
}

TEST(NativeMachine, CodeThatIsWrittenFromOutsideRunsAsWritten) {
  const auto machine = machine_with({0xb8, 1, 0, 0, 0, 0xf4});
  for (uint8_t value = 1; value < 10; ++value) {
    machine->write_memory({kCode + 1}, std::as_bytes(std::span(&value, 1)));
    CpuState state = machine->state();
    state.eip = kCode;
    machine->set_state(state);
    machine->run({.time = milliseconds(2000)});
    EXPECT_EQ(machine->state().gpr[kEax], value);
  }
  machine->clear_memory();
  CpuState state = machine->state();
  state.eip = kCode;
  state.gpr[kEax] = kData;
  machine->set_state(state);
  EXPECT_EQ(machine->run({.time = milliseconds(5)}).kind, Exit::Kind::kDeadline);
}

TEST(NativeMachine, DataIsWhereTheGuestHasIt) {
  // mov [kData], 5; mov eax, [kData + 0x3000]; hlt
  const auto machine = machine_with({0xc7, 0x05, 0, 0, 2, 0, 5, 0, 0, 0,  //
                                     0xa1, 0, 0x30, 2, 0, 0xf4});
  const uint32_t there = 0x12345678;
  machine->write_memory({kData + 0x3000}, std::as_bytes(std::span(&there, 1)));
  machine->run({.time = milliseconds(2000)});
  EXPECT_EQ(machine->state().gpr[kEax], there);
  uint32_t written = 0;
  machine->read_memory({kData}, std::as_writable_bytes(std::span(&written, 1)));
  EXPECT_EQ(written, 5u);
  EXPECT_GE(machine->statistics().native_pages_mapped, 2u);
}

TEST(NativeMachine, LargePagesAreMappedInLargePieces) {
  // One directory entry maps all there is. 1: mov [eax], eax; add eax, 0x1000; cmp eax, 0xc0000;
  // jb 1b; hlt
  constexpr uint32_t kDirectory = 0xf0000;
  const auto machine = machine_with({0x89, 0x00, 0x05, 0, 0x10, 0, 0,  //
                                     0x3d, 0, 0, 0x0c, 0, 0x72, 0xf2, 0xf4});
  const uint32_t entry = 0xe7;  // Present, writable, user, accessed, dirty, large.
  machine->write_memory({kDirectory}, std::as_bytes(std::span(&entry, 1)));
  CpuState state = machine->state();
  state.cr3 = kDirectory;
  state.cr4 |= cr4::kPse;
  state.cr0 |= cr0::kPg;
  state.gpr[kEax] = 0x40000;
  machine->set_state(state);
  EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
  EXPECT_EQ(machine->state().gpr[kEax], 0xc0000u);
  EXPECT_GE(machine->statistics().native_pages_mapped, 0x80u);
  EXPECT_LE(machine->statistics().native_faults_hidden, 4u);
}

/// A page's last byte may begin an instruction that differs. As long as nothing can be executed
/// behind it, it does not.
TEST(NativeMachine, WhatGoesOnInAPageThatIsNotThereDoesNotKeepCodeFromRunning) {
  constexpr uint32_t kDirectory = 0xf0000;
  constexpr uint32_t kTable = 0xf4000;
  constexpr uint32_t kAcross = kCode + 0xff0;
  const auto machine = machine_with({0x40, 0xe2, 0xfd, 0xf4});  // inc eax; loop; hlt
  const auto put = [&](uint32_t at, uint32_t value) {
    machine->write_memory({at}, std::as_bytes(std::span(&value, 1)));
  };
  // mov ecx, 0x2b, a data segment of the host's; nop; lar eax, cx; hlt
  put(kAcross, 0x00002bb9);
  put(kAcross + 4, 0x90909000);
  put(kAcross + 8, 0x90909090);
  put(kAcross + 12, 0x0f909090);
  put(kCode + 0x1000, 0x00f4c102);
  put(kDirectory, kTable | 0x27);  // Present, writable, user, accessed.
  for (uint32_t page = 0; page < 0x100; ++page)
    put(kTable + 4 * page, page == kCode / 0x1000 + 1 ? 0 : page << 12 | 0x67);
  CpuState state = machine->state();
  state.cr3 = kDirectory;
  state.cr0 |= cr0::kPg;
  machine->set_state(state);
  EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
  EXPECT_EQ(machine->state().gpr[kEax], 1'000'000u);
  EXPECT_EQ(machine->statistics().native_pages_fine, 1u);
  EXPECT_EQ(machine->statistics().native_pages_unexplored, 0u);
  EXPECT_EQ(machine->statistics().blocks_translated, 1u);  // The HLT.

  put(kTable + 4 * (kCode / 0x1000 + 1), (kCode + 0x1000) | 0x67);
  state = machine->state();
  state.eip = kAcross;
  state.eflags |= eflags::kZf;
  machine->set_state(state);
  const Exit exit = machine->run({.time = milliseconds(2000)});
  EXPECT_EQ(exit.kind, Exit::Kind::kException);
  EXPECT_EQ(machine->state().eip, kCode + 0x1002);
  EXPECT_EQ(machine->state().gpr[kEax], 1'000'000u);  // The guest has no such segment.
  EXPECT_FALSE(machine->state().eflags & eflags::kZf);
}

TEST(NativeMachine, CodeThatIsKnownToBeFineIsMappedWithWhatLiesAround) {
  // Three pages: jmp to the next one, twice; hlt. Two address spaces have them; in the second one
  // the last page has not been accessed.
  constexpr uint32_t kDirectory = 0xf0000;
  constexpr uint32_t kTable = 0xf4000;
  const auto machine = machine_with({0xe9, 0xfb, 0x0f, 0, 0});
  const auto put = [&](uint32_t at, uint32_t value) {
    machine->write_memory({at}, std::as_bytes(std::span(&value, 1)));
  };
  put(kCode + 0x1000, 0x000ffbe9);
  put(kCode + 0x2000, 0xf4);
  for (const uint32_t space : {0u, 0x1000u}) {
    put(kDirectory + space, (kTable + space) | 0x27);  // Present, writable, user, accessed.
    for (uint32_t page = 0; page < 0x100; ++page)
      put(kTable + space + 4 * page, page << kPageShift | 0x67);
  }
  put(kTable + 0x1000 + 4 * ((kCode >> kPageShift) + 2), (kCode + 0x2000) | 0x47);
  const auto code_events = [&](uint32_t space) {
    CpuState state = machine->state();
    state.cr3 = kDirectory + space;
    state.cr0 |= cr0::kPg;
    state.eip = kCode;
    machine->set_state(state);
    const uint64_t before = machine->statistics().native_events[2].count;
    EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
    EXPECT_EQ(machine->state().eip, kCode + 0x2000);
    return machine->statistics().native_events[2].count - before;
  };
  ASSERT_EQ(code_events(0), 3u);
  EXPECT_EQ(code_events(0x1000), 2u);
  EXPECT_EQ(machine->statistics().native_looks, 3u);
}

TEST(NativeMachine, AContainerThatIsKilledCostsTheGuestAFaultOrNothing) {
  const auto machine = machine_with({0x40, 0xeb, 0xfd});
  ASSERT_EQ(machine->run({.time = milliseconds(5)}).kind, Exit::Kind::kDeadline);
  // Not running: the registers are known, and another one takes over.
  const auto parked = children();
  ASSERT_EQ(parked.size(), 2u);
  kill(parked[0], SIGKILL);
  std::this_thread::sleep_for(milliseconds(20));
  const uint32_t eax = machine->state().gpr[kEax];
  for (int i = 0; i < 100 && machine->state().gpr[kEax] == eax; ++i)
    EXPECT_EQ(machine->run({.time = milliseconds(10)}).kind, Exit::Kind::kDeadline);
  EXPECT_GT(machine->state().gpr[kEax], eax);
  EXPECT_EQ(machine->statistics().native_containers_lost, 1u);
  // Running: they are lost.
  const auto running = children();
  ASSERT_EQ(running.size(), 2u);
  std::thread killer([&] {
    std::this_thread::sleep_for(milliseconds(20));
    kill(running[0], SIGKILL);
  });
  const Exit exit = machine->run({.time = milliseconds(5000)});
  killer.join();
  EXPECT_EQ(exit.kind, Exit::Kind::kException);
  EXPECT_EQ(exit.fault, Fault::general_protection());
  EXPECT_EQ(machine->run({.time = milliseconds(5)}).kind, Exit::Kind::kDeadline);
}

/// On a busy host the thread may be interrupted as well, but not each time.
TEST(NativeMachine, NativeCodeStopsInTimeWithoutAKick) {
  const auto machine = machine_with({0x40, 0xeb, 0xfd});
  int without = 0;
  for (int round = 0; round < 100 && without < 3; ++round) {
    const uint64_t before = machine->statistics().kicks;
    ASSERT_EQ(machine->run({.time = milliseconds(5)}).kind, Exit::Kind::kDeadline);
    if (machine->statistics().kicks == before) ++without;
  }
  EXPECT_GE(without, 3);
}

TEST(NativeMachine, AContainerIsGivenTimeToAnswerAKick) {
  const auto machine = machine_with({0x40, 0xeb, 0xfd});
  ASSERT_EQ(machine->run({.time = milliseconds(5)}).kind, Exit::Kind::kDeadline);
  const auto running = children();
  ASSERT_EQ(running.size(), 2u);
  const uint64_t before = machine->statistics().kicks;
  kill(running[0], SIGSTOP);
  std::thread waker([&] {
    std::this_thread::sleep_for(milliseconds(200));
    kill(running[0], SIGCONT);
  });
  EXPECT_EQ(machine->run({.time = milliseconds(10)}).kind, Exit::Kind::kDeadline);
  waker.join();
  EXPECT_EQ(machine->statistics().native_containers_lost, 0u);
  const uint64_t kicks = machine->statistics().kicks - before;
  EXPECT_GE(kicks, 1u);
  EXPECT_LE(kicks, 200u);  // Each takes the processor away from it.
}

TEST(NativeMachine, ModelsThatLackInstructionsAreTranslated) {
  MachineOptions options;
  options.memory_bytes = 1u << 20;
  options.cpu = CpuModel::find("pentium");
  options.direct_execution = DirectExecution::kAlways;
  const auto machine = Machine::create(options).take();
  EXPECT_NE(machine->native_refusal().find("pentium"), std::string::npos);
}

/// Of mappings of guest RAM in this process, how much is in huge pages.
uint64_t huge_ram() {
  std::ifstream file("/proc/self/smaps");
  std::string line;
  bool ram = false;
  uint64_t kibibytes = 0;
  while (std::getline(file, line)) {
    if (line.find("memfd:trapline-ram") != std::string::npos) ram = true;
    if (ram && line.starts_with("ShmemPmdMapped:")) {
      kibibytes += std::stoull(line.substr(line.find(':') + 1));
      ram = false;
    }
  }
  return kibibytes;
}

bool host_has_huge_pages() {
  const int file = memfd_create("trapline-test", MFD_CLOEXEC);
  if (ftruncate(file, kHugePage) != 0) return false;
  auto* page = static_cast<char*>(map_aligned(file, kHugePage, PROT_READ | PROT_WRITE));
  close(file);
  if (!page) return false;
  *page = 1;
  const bool huge = make_huge(page);
  munmap(page, kHugePage);
  return huge;
}

TEST(Machine, GathersTheMemoryThatIsInUse) {
  uint64_t gathered[2];
  for (const bool wanted : {false, true}) {
    MachineOptions options;
    options.memory_bytes = 8u << 20;
    options.switches.huge_pages = wanted;
    const auto machine = Machine::create(options).take();
    const std::vector<std::byte> bytes(3u << 20, std::byte{1});
    machine->write_memory({0x100000}, bytes);
    const uint16_t loop = 0xfeeb;  // jmp $
    machine->write_memory({kCode}, std::as_bytes(std::span(&loop, 1)));
    CpuState state = CpuState::flat32(0);
    state.eip = kCode;
    machine->set_state(state);
    for (int i = 0; i < 10; ++i) machine->run({.time = milliseconds(30)});
    gathered[wanted] = huge_ram();
  }
  EXPECT_EQ(gathered[0], 0u);
  if (!host_has_huge_pages()) GTEST_SKIP() << "the host has none";
  EXPECT_EQ(gathered[1], 4096u);  // 1 to 2 MiB is half of a page, 2 to 4 MiB one.
}

}  // namespace
}  // namespace trapline
