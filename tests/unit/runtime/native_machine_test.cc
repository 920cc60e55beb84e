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
#include "runtime/native/protocol.h"
#include "runtime/signals.h"
#include "tests/unit/runtime/native_code.h"
#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

using std::chrono::milliseconds;

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

TEST(NativeMachine, CallsOfCodeThatEntersTheKernelAreCountedAsSystemCalls) {
  // sysenter; in the page before: jmp there
  std::vector<uint8_t> code(0x1002);
  code[0] = 0xe9;
  const uint32_t forth = 0x1000 - 5;
  std::memcpy(&code[1], &forth, 4);
  code[0x1000] = 0x0f;
  code[0x1001] = 0x34;
  const auto machine = machine_with(code);
  const auto call = [&] {
    CpuState state = machine->state();
    state.eip = kCode;
    machine->set_state(state);
    EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
  };
  const auto calls = [&] {
    const auto events = machine->statistics().native_events;
    return std::ranges::find(events, "system_call", &NativeEventCount::name)->count;
  };
  // The second page is soon turned away without a look.
  for (uint64_t i = 1; i <= 200; ++i) {
    call();
    ASSERT_EQ(machine->state().eip, kCode + 0x1000);
    ASSERT_EQ(calls(), i);
  }
  // But not for ever.
  const std::array<uint8_t, 2> fine = {0x40, 0xf4};  // inc eax; hlt
  machine->write_memory({kCode + 0x1000}, std::as_bytes(std::span(fine)));
  const uint64_t before = machine->statistics().native_pages_fine;
  for (uint32_t i = 1; i <= 500; ++i) {
    call();
    ASSERT_EQ(machine->state().eip, kCode + 0x1001);
    ASSERT_EQ(machine->state().gpr[kEax], i);
  }
  EXPECT_GT(machine->statistics().native_pages_fine, before);
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

TEST(NativeMachine, CodeSeesTheFlagsThatTheKernelHasLeft) {
  for (const uint32_t flag : {eflags::kVif, eflags::kVip}) {
    const auto machine = machine_with({0x9c, 0x58, 0xf4});  // pushfd; pop eax; hlt
    CpuState state = machine->state();
    state.eflags |= flag;
    machine->set_state(state);
    machine->run({.time = milliseconds(2000)});
    EXPECT_EQ(machine->state().eip, kCode + 2);
    EXPECT_EQ(machine->state().gpr[kEax] & (eflags::kVif | eflags::kVip), flag);
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

/// What a page's last byte begins is another instruction once the next page has changed.
TEST(NativeMachine, WhatGoesOnInAPageThatIsWrittenIsLookedAtAgain) {
  constexpr uint32_t kNext = kCode + 0x1000;
  // 1: nop [ebx], which goes over to the next page. There: dec ecx; jz 2f; cmp ecx, 50; jne 1b; mov
  // dword [kNext], 0x9049c302, which makes it lar eax, ebx; jmp 1b; 2: hlt.
  std::vector<uint8_t> code(0x1000, 0x90);
  code[0xfff] = 0x0f;
  const std::vector<uint8_t> next = {0x1f, 0x03, 0x49, 0x90, 0x74, 0x14, 0x83, 0xf9, 0x32,
                                     0x75, 0xf4, 0xc7, 0x05, 0x00, 0x10, 0x01, 0x00, 0x02,
                                     0xc3, 0x49, 0x90, 0xe9, 0xe5, 0xff, 0xff, 0xff, 0xf4};
  code.insert(code.end(), next.begin(), next.end());
  for (const auto direct : {DirectExecution::kAlways, DirectExecution::kNever}) {
    const auto machine = machine_with(code, direct);
    CpuState state = machine->state();
    state.eip = kCode + 0xff0;
    state.gpr[kEcx] = 100;
    state.gpr[kEbx] = TRAPLINE_FLAT_DATA;
    machine->set_state(state);
    EXPECT_EQ(machine->run({.time = milliseconds(2000)}).kind, Exit::Kind::kException);
    EXPECT_EQ(machine->state().eip, kNext + 0x1a);
    EXPECT_EQ(machine->state().gpr[kEax], 0u);  // The guest has no such segment.
    EXPECT_EQ(machine->state().gpr[kEcx], 0u);
    if (direct == DirectExecution::kAlways) {
      EXPECT_GE(machine->statistics().native_pages_fine, 2u);
    }
  }
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

TEST(NativeMachine, WhatAProcessDidIsForgottenWithItsLastPage) {
  // inc eax; jmp there. One address space, of one page.
  constexpr uint32_t kDirectory = 0xf0000;
  constexpr uint32_t kTable = 0xf1000;
  constexpr uint32_t kEntry = kTable + 4 * (kCode >> kPageShift);
  const auto machine = machine_with({0x40, 0xeb, 0xfd}, DirectExecution::kAdaptive);
  const auto put = [&](uint32_t at, uint32_t value) {
    machine->write_memory({at}, std::as_bytes(std::span(&value, 1)));
  };
  put(kDirectory, kTable | 0x27);
  put(kEntry, kCode | 0x67);
  CpuState state = machine->state();
  state.cr3 = kDirectory;
  state.cr0 |= cr0::kPg;
  machine->set_state(state);
  const auto promotions = [&] { return machine->statistics().native_promotions; };
  const auto run = [&] {
    EXPECT_EQ(machine->run({.time = milliseconds(2)}).kind, Exit::Kind::kDeadline);
  };
  for (int i = 0; i < 1000 && promotions() == 0; ++i) run();
  ASSERT_EQ(promotions(), 1u);
  uint64_t stays = machine->statistics().native_stays;
  run();
  EXPECT_GT(machine->statistics().native_stays, stays);
  put(kEntry, 0);
  put(kEntry, kCode | 0x67);
  stays = machine->statistics().native_stays;
  run();
  EXPECT_EQ(machine->statistics().native_stays, stays);
  for (int i = 0; i < 1000 && promotions() == 1; ++i) run();
  EXPECT_EQ(promotions(), 2u);
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
