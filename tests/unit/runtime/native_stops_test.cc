// Native code that has to be stopped at single instructions: watched, patched, or translated with
// its page. The same must come of it as translated.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "runtime/machine.h"
#include "runtime/native/container.h"
#include "tests/unit/runtime/native_code.h"

namespace trapline {
namespace {

using std::chrono::milliseconds;

TEST(NativeMachine, CpuidTellsOfTheModel) {
  const std::vector<uint8_t> code = {0x31, 0xc0, 0x0f, 0xa2, 0xf4};  // xor eax, eax; cpuid; hlt
  const auto native = machine_with(code);
  const auto translated = machine_with(code, DirectExecution::kNever);
  native->run({.time = milliseconds(2000)});
  translated->run({.time = milliseconds(2000)});
  EXPECT_EQ(native->state().gpr, translated->state().gpr);
  EXPECT_EQ(native->state().eip, kCode + 4);
}

/// Whether this host lets a container's code be watched.
bool host_watches() {
  const int ram = memfd_create("trapline-test", MFD_CLOEXEC);
  EXPECT_EQ(ftruncate(ram, 0x1000), 0);
  const auto files = ContainerFiles::create(ram).take();
  const bool watches = Container::start(*files).take()->watch(0, 0);
  close(ram);
  return watches;
}

class WatchedInstruction : public testing::TestWithParam<std::vector<uint8_t>> {};

INSTANTIATE_TEST_SUITE_P(, WatchedInstruction,
                         testing::Values(std::vector<uint8_t>{0x0f, 0xa2, 0x90},  // cpuid; nop
                                         std::vector<uint8_t>{0x66, 0x8c, 0xdb},  // mov bx, ds
                                         std::vector<uint8_t>{0x0e, 0x5b,
                                                              0x90},  // push cs; pop ebx; nop
                                         std::vector<uint8_t>{0x0f, 0xc7, 0xf3}));  // rdrand ebx

TEST_P(WatchedInstruction, LeavesTheCodeAroundItNative) {
  if (!host_watches()) GTEST_SKIP() << "the host cannot stop there";
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
  EXPECT_EQ(statistics.native_pages_fine, 1u);
  const bool faults = GetParam()[1] == 0xc7;  // No model has it.
  EXPECT_GE(statistics.native_instructions, faults ? 1u : 20u);
}

TEST(NativeMachine, WhatNoModelHasIsWhatItIsTranslated) {
  const std::vector<std::vector<uint8_t>> all = {
      {0xf3, 0x0f, 0xbd, 0xc1},            // rep bsr eax, ecx
      {0xf3, 0x0f, 0xb8, 0xc1},            // popcnt eax, ecx
      {0xdb, 0x0d, 0, 0, kData >> 16, 0},  // fisttp dword [kData]
      {0xf2, 0x0f, 0xd0, 0xc1},            // addsubps xmm0, xmm1
      {0x0f, 0x38, 0x1e, 0xc1},            // pabsd mm0, mm1
      {0x66, 0x0f, 0x3a, 0x0b, 0xc1, 0},   // roundsd xmm0, xmm1, 0
      {0xc5, 0xf8, 0x77},                  // vzeroupper
  };
  for (std::vector<uint8_t> code : all) {
    code.insert(code.end(), {0xeb, 0x00, 0xf4});  // jmp; hlt
    const auto native = machine_with(code);
    const auto translated = machine_with(code, DirectExecution::kNever);
    const Exit exit = native->run({.time = milliseconds(2000)});
    const Exit expected = translated->run({.time = milliseconds(2000)});
    EXPECT_EQ(exit.fault, expected.fault) << testing::PrintToString(code);
    EXPECT_EQ(native->state().eip, translated->state().eip) << testing::PrintToString(code);
    EXPECT_EQ(native->state().gpr, translated->state().gpr) << testing::PrintToString(code);
  }
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

}  // namespace
}  // namespace trapline
