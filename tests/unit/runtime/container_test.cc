#include "runtime/native/container.h"
#include "runtime/native/held_processor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/unit/runtime/container_fixture.h"
#include "vcpu/state.h"

namespace trapline {
namespace {

constexpr uint64_t kCode = 0x08048000;
constexpr uint64_t kData = 0x08050000;
constexpr uint32_t kStackTop = kData + 0x1000;
constexpr uint64_t kCodeOffset = 0x3000;
constexpr uint64_t kDataOffset = 0x5000;
constexpr uint32_t kReadExecute = native_access::kRead | native_access::kExecute;
constexpr uint32_t kReadWrite = native_access::kRead | native_access::kWrite;

class ContainerTest : public ContainerFixture {
 protected:
  void SetUp() override {
    ContainerFixture::SetUp();
    ASSERT_TRUE(container_);
    container_->map(kCode, 0x1000, kReadExecute, kCodeOffset);
    container_->map(kData, 0x1000, kReadWrite, kDataOffset);
    registers_.eip = kCode;
    registers_.eflags = 0x202;
    registers_.gpr[kEsp] = kStackTop;
    registers_.cs = TRAPLINE_FLAT_CS;
    registers_.ss = registers_.ds = registers_.es = TRAPLINE_FLAT_DATA;
    FpuImage fpu;
    std::memcpy(registers_.fpu, &fpu, sizeof fpu);
  }

  void put_code(const std::vector<uint8_t>& bytes, uint64_t at = 0) {
    ASSERT_EQ(pwrite(ram_, bytes.data(), bytes.size(), static_cast<off_t>(kCodeOffset + at)),
              static_cast<ssize_t>(bytes.size()));
  }
  uint32_t data(uint64_t at) {
    uint32_t value = 0;
    EXPECT_EQ(pread(ram_, &value, 4, static_cast<off_t>(kDataOffset + at)), 4);
    return value;
  }
  NativeEvent run() { return container_->run(registers_, attention_); }
  NativeEvent run_until(uint64_t deadline) {
    return container_->run(registers_, attention_, deadline);
  }
  NativeEvent run(const std::vector<uint8_t>& code) {
    put_code(code);
    registers_.eip = kCode;
    return run();
  }

  NativeRegisters registers_{};
  volatile uint8_t attention_ = 0;
};

uint64_t in(std::chrono::milliseconds time) {
  const auto then = std::chrono::steady_clock::now() + time;
  return static_cast<uint64_t>(std::chrono::nanoseconds(then.time_since_epoch()).count());
}

TEST_F(ContainerTest, StopsByItselfAtTheDeadline) {
  put_code({0xeb, 0xfe});
  for (const int round : {1, 2, 3}) {
    const uint64_t deadline = in(std::chrono::milliseconds(10 * round));
    NativeEvent event = container_->run(registers_, attention_, deadline);
    while (in(std::chrono::milliseconds(0)) < deadline)  // A late signal of the last round.
      event = container_->run(registers_, attention_, deadline);
    ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
    EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
  }
}

TEST_F(ContainerTest, ADeadlineThatHasPassedStopsAtOnce) {
  put_code({0xeb, 0xfe});
  const NativeEvent event = container_->run(registers_, attention_, 1);
  EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
}

TEST_F(ContainerTest, WithoutADeadlineTheLastOneIsForgotten) {
  put_code({0xeb, 0xfe});
  put_code({0xcc}, 0x40);
  registers_.eip = kCode + 0x40;
  const uint64_t deadline = in(std::chrono::milliseconds(300));
  ASSERT_EQ(container_->run(registers_, attention_, deadline).signal, unsigned{SIGTRAP});
  registers_.eip = kCode;
  std::thread kicker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    attention_ = 1;
  });
  const NativeEvent event = run();
  kicker.join();
  EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
  EXPECT_GE(in(std::chrono::milliseconds(0)), deadline + 100'000'000);
}

TEST_F(ContainerTest, ASegmentAboveAPageKeepsDataFromItAndNotCode) {
  constexpr uint32_t kAbove = 70;
  constexpr uint32_t kUnreadable = 71;
  container_->describe_above(kAbove, kCode >> 12);
  container_->describe_unreadable_code(kUnreadable);
  registers_.cs = Container::selector(kUnreadable);
  registers_.ss = registers_.ds = registers_.es = Container::selector(kAbove);
  constexpr uint8_t kDataByte = kData >> 16 & 0xff;
  // mov [kData + 4], esp; push eax; mov eax, PREFIX [ADDRESS]; int3
  const auto load = [&](uint8_t prefix, uint32_t address) {
    std::vector<uint8_t> code = {0x89, 0x25, 4, 0, kDataByte, kData >> 24, 0x50, prefix, 0xa1};
    for (int i = 0; i < 4; ++i) code.push_back(static_cast<uint8_t>(address >> 8 * i));
    code.push_back(0xcc);
    return run(code);
  };
  for (const uint8_t prefix : {0x3e, 0x26, 0x36}) {
    SCOPED_TRACE(int{prefix});
    EXPECT_EQ(load(prefix, kData).signal, unsigned{SIGTRAP});
    EXPECT_EQ(load(prefix, kCode + 0x1000).trap, 14u);
    const NativeEvent below = load(prefix, kCode + 0xfff);
    EXPECT_EQ(below.signal, static_cast<uint32_t>(prefix == 0x36 ? SIGBUS : SIGSEGV));
    EXPECT_EQ(below.trap, prefix == 0x36 ? 12u : 13u);
    EXPECT_EQ(below.error, 0u);
    EXPECT_EQ(below.registers.eip, kCode + 7);
    EXPECT_EQ(below.registers.cs, registers_.cs);
    EXPECT_EQ(below.registers.ss, registers_.ss);
    EXPECT_EQ(below.registers.ds, registers_.ds);
    EXPECT_EQ(load(prefix, 0x1000).trap, below.trap);
  }
  EXPECT_EQ(load(0x2e, kCode).trap, 13u);
  EXPECT_EQ(load(0x2e, kData).trap, 13u);
  // The floor rises while the selectors are in use.
  container_->describe_above(kAbove, kData >> 12);
  registers_.gpr[kEsp] = 0xffff'fff0;
  EXPECT_EQ(load(0x3e, kData).registers.eip, kCode);
}

struct Expected {
  std::vector<uint8_t> code;
  uint32_t signal;
  uint32_t trap;
  uint32_t offset;  ///< Of EIP.
  const char* name;
};

TEST_F(ContainerTest, EventsComeBackWithWhatHappened) {
  const std::vector<Expected> all = {
      {{0x40, 0xcd, 0x80}, SIGSYS, 0, 3, "int 0x80"},
      {{0x40, 0xcd, 0x40}, SIGSEGV, 13, 1, "int 0x40"},
      {{0x40, 0xfa}, SIGSEGV, 13, 1, "cli"},
      {{0x40, 0xf4}, SIGSEGV, 13, 1, "hlt"},
      {{0x40, 0xe4, 0x60}, SIGSEGV, 13, 1, "in"},
      {{0x40, 0x0f, 0x20, 0xc0}, SIGSEGV, 13, 1, "mov eax, cr0"},
      {{0x40, 0x0f, 0x0b}, SIGILL, 6, 1, "ud2"},
      {{0x40, 0x31, 0xd2, 0xf7, 0xf2}, SIGFPE, 0, 3, "div edx"},
      {{0x40, 0xcc}, SIGTRAP, 3, 2, "int3"},
      {{0x40, 0xa1, 0, 0x10, 0, 0}, SIGSEGV, 14, 1, "load from nowhere"},
  };
  for (const Expected& expected : all) {
    SCOPED_TRACE(expected.name);
    registers_.gpr[kEax] = 6;
    registers_.gpr[kEbx] = 0x87654321;
    const NativeEvent event = run(expected.code);
    ASSERT_EQ(event.kind, NativeEvent::Kind::kEvent);
    EXPECT_EQ(event.signal, expected.signal);
    if (expected.signal != SIGSYS) {
      EXPECT_EQ(event.trap, expected.trap);
    }
    EXPECT_EQ(event.registers.eip, kCode + expected.offset);
    EXPECT_EQ(event.registers.gpr[kEax], 7u);
    EXPECT_EQ(event.registers.gpr[kEbx], 0x87654321u);
    EXPECT_EQ(event.registers.gpr[kEsp], kStackTop);
    EXPECT_EQ(event.registers.cs, TRAPLINE_FLAT_CS);
    EXPECT_EQ(event.registers.ds, TRAPLINE_FLAT_DATA);
  }
}

TEST_F(ContainerTest, EveryRegisterGoesInAndComesOut) {
  for (uint32_t i = 0; i < 8; ++i) registers_.gpr[i] = 0x11111111 * (i + 1);
  registers_.eflags = 0x202 | eflags::kCf | eflags::kDf | eflags::kOf | eflags::kId;
  const NativeEvent event = run({0xf4});
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(event.registers.gpr[i], 0x11111111 * (i + 1)) << i;
  EXPECT_EQ(event.registers.eflags & ~eflags::kRf, registers_.eflags);
  registers_.eflags = 0x202;
  EXPECT_EQ(run({0xf4}).registers.eflags & ~eflags::kRf, 0x202u);
}

TEST_F(ContainerTest, PageFaultsTellTheAddressAndTheKind) {
  const NativeEvent write = run({0xc7, 0x05, 0x34, 0x12, 0xad, 0xde, 1, 0, 0, 0});
  EXPECT_EQ(write.trap, 14u);
  EXPECT_EQ(write.address, 0xdead1234u);
  EXPECT_EQ(write.error & 2, 2u);
  const NativeEvent denied = run({0xc7, 0x05, 0, 0x80, 0x04, 0x08, 1, 0, 0, 0});
  EXPECT_EQ(denied.address, kCode);
  EXPECT_EQ(denied.error & 2, 2u);
  registers_.eip = kData;
  const NativeEvent fetch = run();
  EXPECT_EQ(fetch.address, kData);
  EXPECT_EQ(fetch.registers.eip, kData);
  registers_.eip = 0xfffff000;
  EXPECT_EQ(run().address, 0xfffff000u);
}

TEST_F(ContainerTest, TheFloatingPointStateTravels) {
  FpuImage fpu;
  fpu.xmm[7][3] = 0x5a;
  fpu.mxcsr = 0x1fa0;
  std::memcpy(registers_.fpu, &fpu, sizeof fpu);
  // movaps xmm1, xmm7; fld1; hlt
  const NativeEvent event = run({0x0f, 0x28, 0xcf, 0xd9, 0xe8, 0xf4});
  std::memcpy(&fpu, event.registers.fpu, sizeof fpu);
  EXPECT_EQ(fpu.xmm[1][3], 0x5a);
  EXPECT_EQ(fpu.xmm[7][3], 0x5a);
  EXPECT_EQ(fpu.mxcsr, 0x1fa0u);
  EXPECT_EQ(fpu.abridged_tag, 0x80);
  EXPECT_EQ(fpu.st[0][7], 0x80);
  EXPECT_EQ(fpu.st[0][9], 0x3f);
}

TEST_F(ContainerTest, FloatingPointErrorsComeBack) {
  FpuImage fpu;
  fpu.control = 0x0340;
  std::memcpy(registers_.fpu, &fpu, sizeof fpu);
  const NativeEvent x87 = run({0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b});  // 1 / 0; wait
  EXPECT_EQ(x87.signal, static_cast<uint32_t>(SIGFPE));
  EXPECT_EQ(x87.trap, 16u);
  EXPECT_EQ(x87.registers.eip, kCode + 6);
  fpu.control = 0x037f;
  fpu.mxcsr = 0;
  fpu.xmm[0][3] = 0x3f;
  std::memcpy(registers_.fpu, &fpu, sizeof fpu);
  const NativeEvent sse = run({0x0f, 0x5e, 0xc1});  // divps xmm0, xmm1
  EXPECT_EQ(sse.signal, static_cast<uint32_t>(SIGFPE));
  EXPECT_EQ(sse.trap, 19u);
  EXPECT_EQ(sse.registers.eip, kCode);
}

TEST_F(ContainerTest, GsHasBaseAndLimit) {
  container_->describe(5, kData, 0xff);
  registers_.gs = Container::selector(5);
  // mov dword [gs:0x10], 77; mov al, [gs:0x100]
  const NativeEvent event = run({0x65, 0xc7, 0x05, 0x10, 0, 0, 0, 77, 0, 0, 0,  //
                                 0x65, 0xa0, 0x00, 0x01, 0, 0});
  EXPECT_EQ(event.trap, 13u);
  EXPECT_EQ(event.registers.eip, kCode + 11);
  EXPECT_EQ(event.registers.gs, registers_.gs);
  EXPECT_EQ(data(0x10), 77u);
  container_->describe(5, kData + 0x100, 0xffffffff);
  const NativeEvent again = run({0x65, 0xc7, 0x05, 0x10, 0, 0, 0, 78, 0, 0, 0, 0xf4});
  EXPECT_EQ(again.registers.eip, kCode + 11);
  EXPECT_EQ(data(0x110), 78u);
}

TEST_F(ContainerTest, MappingsComeAndGo) {
  const std::vector<uint8_t> store = {0xc7, 0x05, 0, 0, 5, 8, 9, 0, 0, 0, 0xf4};
  EXPECT_EQ(run(store).trap, 13u);
  container_->protect(kData, 0x1000, native_access::kRead);
  EXPECT_EQ(run(store).trap, 14u);
  container_->unmap(kData, 0x1000);
  EXPECT_EQ(run(store).error & 1, 0u);
  for (uint64_t i = 0; i < 500; ++i)  // More than fit into one batch.
    container_->map(0x40000000 + i * 0x2000, 0x1000, kReadWrite, kDataOffset);
  EXPECT_EQ(run({0xc7, 0x05, 0, 0x60, 0x3e, 0x40, 9, 0, 0, 0, 0xf4}).trap, 13u);
  EXPECT_EQ(data(0), 9u);
}

/// The thread stays on a processor.
class ContainerInPlaceTest : public ContainerTest {
 protected:
  void SetUp() override {
    ContainerTest::SetUp();
    if (HasFatalFailure()) return;
    here_ = processor_.hold(0);
    ASSERT_GE(here_, 0);
  }
  void TearDown() override {
    processor_.release();
    ContainerTest::TearDown();
  }

  void expect_changes_before_the_guest_goes_on() {
    for (uint32_t i = 0; i < 100; ++i) {
      const uint32_t address = 0x40000000 + i % 7 * 0x1000;
      container_->map(address, 0x1000, kReadWrite, kDataOffset);
      std::vector<uint8_t> store = {0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xf4};
      std::memcpy(&store[2], &address, 4);
      std::memcpy(&store[6], &i, 4);
      ASSERT_EQ(run(store).trap, 13u) << i;
      ASSERT_EQ(data(0), i);
      container_->unmap(address, 0x1000);
      const NativeEvent event = run(store);
      ASSERT_EQ(event.trap, 14u) << i;
      ASSERT_EQ(event.address, address);
    }
  }

  HeldProcessor processor_;
  int here_ = -1;
};

/// The container is there, too, and the mapper starts the guest.
class ContainerInTurnsTest : public ContainerInPlaceTest {
 protected:
  void SetUp() override {
    ContainerInPlaceTest::SetUp();
    if (!HasFatalFailure()) container_->move_to(here_);
  }
};

TEST_F(ContainerInTurnsTest, ChangesAreMadeBeforeTheGuestGoesOn) {
  expect_changes_before_the_guest_goes_on();
}

/// The container has another one.
class ContainerApartTest : public ContainerInPlaceTest {
 protected:
  void SetUp() override {
    ContainerInPlaceTest::SetUp();
    if (HasFatalFailure()) return;
    others_ = processor_.others();
    if (CPU_COUNT(&others_) == 0) GTEST_SKIP() << "one processor";
    container_->move_apart(here_, others_);
  }
  static cpu_set_t affinity(pid_t pid) {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(sched_getaffinity(pid, sizeof set, &set), 0);
    return set;
  }

  cpu_set_t others_{};
};

TEST_F(ContainerApartTest, GuestCodeRunsElsewhereUntilItIsMovedBack) {
  cpu_set_t guest = affinity(container_->pid());
  EXPECT_TRUE(CPU_EQUAL(&guest, &others_));
  const cpu_set_t mapper = affinity(container_->mapper_pid());
  EXPECT_EQ(CPU_COUNT(&mapper), 1);
  EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(here_), &mapper));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(run({0xf4}).trap, 13u);
    if (i % 2)
      container_->move_apart(here_, others_);
    else
      container_->move_to(here_);
  }
  container_->move_to(here_);
  guest = affinity(container_->pid());
  EXPECT_EQ(CPU_COUNT(&guest), 1);
  EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(here_), &guest));
  EXPECT_EQ(run({0xf4}).trap, 13u);
}

TEST_F(ContainerApartTest, ChangesAreMadeBeforeTheGuestGoesOn) {
  expect_changes_before_the_guest_goes_on();
}

TEST_F(ContainerApartTest, TheTimerOfWhenTheyWereTogetherIsForgotten) {
  container_->move_to(here_);
  const uint64_t early = in(std::chrono::milliseconds(200));
  put_code({0xcc});
  ASSERT_EQ(run_until(early).signal, unsigned{SIGTRAP});
  container_->move_apart(here_, others_);
  put_code({0xeb, 0xfe});
  registers_.eip = kCode;
  const uint64_t deadline = early + 300'000'000;
  EXPECT_EQ(run_until(deadline).signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
  EXPECT_GE(in(std::chrono::milliseconds(0)), deadline);
}

TEST_F(ContainerApartTest, WhileGuestCodeRunsForLongTheThreadDoesSomethingElseOnce) {
  put_code({0xeb, 0xfe});
  int times = 0;
  const auto count = [&times] { ++times; };
  container_->run(registers_, attention_, in(std::chrono::milliseconds(20)), count);
  EXPECT_EQ(times, 1);
  container_->move_to(here_);
  container_->run(registers_, attention_, in(std::chrono::milliseconds(20)), count);
  EXPECT_EQ(times, 1);
}

TEST_F(ContainerApartTest, ADeadlineStopsALoopAndSoDoesAKick) {
  put_code({0xeb, 0xfe});  // jmp itself
  for (const int milliseconds : {0, 1, 12}) {
    const auto due = std::chrono::steady_clock::now().time_since_epoch() +
                     std::chrono::milliseconds(milliseconds);
    do {  // A late signal of the last round may end it at once.
      const NativeEvent event =
          run_until(static_cast<uint64_t>(std::chrono::nanoseconds(due).count()));
      ASSERT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
    } while (std::chrono::steady_clock::now().time_since_epoch() < due);
  }
  std::thread kicker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    attention_ = 1;
    container_->kick();
  });
  EXPECT_EQ(run().signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
  kicker.join();
}

TEST_F(ContainerApartTest, OneThatIsKilledIsLost) {
  put_code({0xff, 0x05, 0, 0, 5, 8, 0xeb, 0xf8});  // again: inc dword [kData]; jmp again
  std::thread killer([&] {
    while (data(0) < 1000) std::this_thread::yield();
    kill(container_->pid(), SIGKILL);
  });
  EXPECT_EQ(run_until(0).kind, NativeEvent::Kind::kLost);
  killer.join();
  EXPECT_TRUE(container_->lost());
}

TEST_F(ContainerInTurnsTest, AChangeThatFailsStartsNothing) {
  put_code({0xc7, 0x05, 0, 0, 5, 8, 9, 0, 0, 0, 0xf4});
  container_->protect(0x70000000, 0x1000, native_access::kRead);  // Nothing is mapped there.
  EXPECT_EQ(run().kind, NativeEvent::Kind::kNotStarted);
  EXPECT_TRUE(container_->lost());
  EXPECT_EQ(data(0), 0u);
}

TEST_F(ContainerInTurnsTest, AMapperThatIsGoneStartsNothing) {
  kill(container_->mapper_pid(), SIGKILL);
  container_->unmap(kData, 0x1000);
  EXPECT_EQ(run({0xf4}).kind, NativeEvent::Kind::kNotStarted);
  EXPECT_TRUE(container_->lost());
}

TEST_F(ContainerTest, WatchedCodeIsNotExecuted) {
  if (!container_->watch(2, kCode + 1)) GTEST_SKIP() << "the host refuses";
  NativeEvent event = run({0x40, 0x43, 0x0f, 0x0b});  // inc eax; inc ebx; ud2
  EXPECT_EQ(event.signal, static_cast<uint32_t>(SIGTRAP));
  EXPECT_EQ(event.trap, static_cast<uint32_t>(TRAPLINE_WATCHED));
  EXPECT_EQ(event.registers.eip, kCode + 1);
  EXPECT_EQ(event.registers.gpr[kEax], 1u);
  EXPECT_EQ(event.registers.gpr[kEbx], 0u);
  EXPECT_TRUE(container_->watch(2, kCode + 3));  // The middle of an instruction.
  event = run();
  EXPECT_EQ(event.signal, static_cast<uint32_t>(SIGILL));
  EXPECT_EQ(event.registers.gpr[kEbx], 1u);
  EXPECT_TRUE(container_->watch(2, kCode));
  EXPECT_EQ(run().signal, static_cast<uint32_t>(SIGTRAP));
  container_->unwatch(2);
  EXPECT_EQ(run().signal, static_cast<uint32_t>(SIGILL));
}

TEST_F(ContainerTest, AKickStopsALoop) {
  put_code({0xff, 0x05, 0, 0, 5, 8, 0xeb, 0xf8});  // again: inc dword [kData]; jmp again
  std::thread kicker([&] {
    while (data(0) < 1000) std::this_thread::yield();
    attention_ = 1;
    container_->kick();
  });
  const NativeEvent event = run();
  kicker.join();
  EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
}

/// Also where it comes just before guest code runs, whatever the container is doing then.
TEST_F(ContainerTest, ADeadlineStopsALoopWheneverItComes) {
  put_code({0xeb, 0xfe});
  std::atomic<bool> done = false;
  std::atomic<uint64_t> since = in(std::chrono::milliseconds(0));
  std::thread watchdog([&] {
    while (!done) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (in(std::chrono::milliseconds(0)) > since + 4'000'000'000) attention_ = 1;
    }
  });
  for (uint64_t round = 0; round < 4000 && attention_ == 0; ++round) {
    since = in(std::chrono::milliseconds(0));
    const NativeEvent event = run_until(since + round * 37 % 8'000);
    EXPECT_EQ(event.signal, static_cast<uint32_t>(TRAPLINE_KICK_SIGNAL));
    EXPECT_EQ(event.registers.eip, kCode);
    if (event.kind != NativeEvent::Kind::kEvent) break;
  }
  done = true;
  watchdog.join();
  EXPECT_EQ(attention_, 0) << "It was missed.";
}

TEST_F(ContainerTest, KicksLeaveTheRegistersAlone) {
  constexpr uint32_t kRounds = 3000;
  // pcmpeqd xmm2, xmm2; fld1; fldz; int3
  registers_ = run({0x66, 0x0f, 0x76, 0xd2, 0xd9, 0xe8, 0xd9, 0xee, 0xcc}).registers;
  // again: inc eax; inc esi; paddd xmm1, xmm2; fadd st, st(1); int3; jmp again
  put_code({0x40, 0x46, 0x66, 0x0f, 0xfe, 0xca, 0xd8, 0xc1, 0xcc, 0xeb, 0xf5});
  registers_.eip = kCode;
  const uint32_t first = registers_.gpr[kEax];
  std::atomic<bool> done = false;
  std::thread kicker([&, pid = container_->pid()] {
    for (uint64_t kicks = 0; !done; ++kicks) {
      kill(pid, TRAPLINE_KICK_SIGNAL);
      for (const uint64_t next = in(std::chrono::milliseconds(0)) + 20'000 + kicks % 7'000;
           in(std::chrono::milliseconds(0)) < next;) {
      }
    }
  });
  uint32_t kicks = 0;
  for (uint32_t round = 0; round < kRounds;) {
    const NativeEvent event = run();
    if (event.kind != NativeEvent::Kind::kEvent) break;
    registers_ = event.registers;
    if (event.signal == TRAPLINE_KICK_SIGNAL)
      ++kicks;
    else
      ++round;
  }
  done = true;
  kicker.join();
  EXPECT_GT(kicks, 0u);
  EXPECT_EQ(registers_.gpr[kEax] - first, kRounds);
  uint32_t xmm1 = 0;
  std::memcpy(&xmm1, registers_.fpu + 160 + 16, sizeof xmm1);
  uint64_t significand = 0;
  std::memcpy(&significand, registers_.fpu + 32, sizeof significand);
  EXPECT_EQ(xmm1, 0u - kRounds);
  EXPECT_EQ(significand >> 52, kRounds);
}

TEST_F(ContainerTest, AKilledContainerIsLostAndSoIsOneWithoutMapper) {
  kill(container_->pid(), SIGKILL);
  EXPECT_NE(run({0xf4}).kind, NativeEvent::Kind::kEvent);
  EXPECT_TRUE(container_->lost());
  auto other = Container::start(*files_);
  ASSERT_TRUE(other.ok());
  kill(other.value()->mapper_pid(), SIGKILL);
  other.value()->map(kCode, 0x1000, kReadExecute, kCodeOffset);
  EXPECT_FALSE(other.value()->flush());
}

TEST_F(ContainerTest, OneThatIsKilledBetweenTwoStaysStartsNothing) {
  EXPECT_EQ(run({0xf4}).kind, NativeEvent::Kind::kEvent);
  kill(container_->pid(), SIGKILL);
  EXPECT_EQ(run().kind, NativeEvent::Kind::kNotStarted);
  EXPECT_TRUE(container_->lost());
}

TEST_F(ContainerTest, NothingIsLeftBehind) {
  const pid_t pid = container_->pid();
  const pid_t mapper = container_->mapper_pid();
  container_.reset();
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_EQ(kill(mapper, 0), -1);
}

}  // namespace
}  // namespace trapline
