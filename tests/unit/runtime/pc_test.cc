// The PC from outside: how runs end, what wakes it, and where its time goes.
#include "runtime/pc/pc.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstring>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/devices/fake_backend.h"

namespace trapline {
namespace {

using namespace std::chrono_literals;
using Code = std::vector<uint8_t>;

constexpr uint32_t kCode = 0x1000, kStack = 0x8000, kIdt = 0x9000, kGdt = 0x9800;
constexpr auto kLong = 60s;  ///< Longer than any test waits when all is well.

const Code kSpin = {0xeb, 0xfe};
const Code kSleepForGood = {0xfa, 0xf4};       // cli; hlt
const Code kSleep = {0xfb, 0xf4, 0xeb, 0xfd};  // sti; next: hlt; jmp next

const Code kSleepAndLook = {0xfb, 0xf4, 0xe4, 0x61, 0xeb, 0xfb};  // The same with in al, 0x61.

/// Writes of bytes to ports, and what comes after them.
Code writes(std::initializer_list<std::pair<uint16_t, uint8_t>> ports, const Code& then) {
  Code code;
  for (const auto& [port, value] : ports) {
    const Code one = {
        0x66,  0xba, static_cast<uint8_t>(port), static_cast<uint8_t>(port >> 8), 0xb0,
        value, 0xee};  // mov dx, port; mov al, value; out dx, al
    code.insert(code.end(), one.begin(), one.end());
  }
  code.insert(code.end(), then.begin(), then.end());
  return code;
}

/// The 8259s with IRQ 0 alone, and the 8254 at 1 kHz. Vector 0x20 counts in EBX.
Code with_ticks(const Code& then) {
  return writes({{0x20, 0x11},
                 {0x21, 0x20},
                 {0x21, 0x04},
                 {0x21, 0x01},
                 {0x21, 0xfe},
                 {0xa1, 0xff},
                 {0x43, 0x34},
                 {0x40, 0xa9},
                 {0x40, 0x04}},
                then);
}

template <typename T>
BootPiece piece(uint32_t address, const T& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {{address}, {bytes.begin(), bytes.end()}};
}

class PcRun : public ::testing::Test {
 protected:
  void SetUp() override { make_pc({.throttle_polling = false}); }

  struct Choices {
    bool throttle_polling;
    bool gather_ticks = true;
    TimeSource clock = TimeSource::kHost;
    Switches switches{};
  };
  void make_pc(Choices choices) {
    MachineOptions machine;
    machine.clock = choices.clock;
    machine.switches = choices.switches;
    machine.memory_bytes = 16u << 20;
    machine.code_cache_bytes = 1u << 20;
    auto made = Pc::create({.machine = machine,
                            .serial = serial_,
                            .debug_console = console_,
                            .throttle_polling = choices.throttle_polling,
                            .gather_ticks = choices.gather_ticks,
                            .flush = [this] { ++flushes_; }});
    ASSERT_TRUE(made.ok()) << made.error().message;
    pc_ = made.take();
  }

  void boot(const Code& code) {
    const Code handler = {0x43, 0x50, 0xb0, 0x20,   // inc ebx; push eax; mov al, 0x20
                          0xe6, 0x20, 0x58, 0xcf};  // out 0x20, al; pop eax; iret
    constexpr uint32_t kHandler = 0x7000;
    std::array<uint32_t, 0x21 * 2> idt{};
    idt[0x20 * 2] = 0x08u << 16 | kHandler;
    idt[0x20 * 2 + 1] = 0x8e00;
    const std::array<uint64_t, 3> gdt = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    BootImage image;
    image.pieces = {piece(kCode, code), piece(kHandler, handler), piece(kIdt, idt),
                    piece(kGdt, gdt)};
    image.state = CpuState::flat32(0);
    image.state.eip = kCode;
    image.state.gpr[kEsp] = kStack;
    image.state.idtr.base = kIdt;
    image.state.idtr.limit = sizeof idt - 1;
    image.state.gdtr.base = kGdt;
    image.state.gdtr.limit = sizeof gdt - 1;
    ASSERT_TRUE(pc_->boot(std::move(image)).ok());
  }
  PcExit::Kind run(std::chrono::nanoseconds time = kLong) {
    const PcExit exit = pc_->run(time);
    EXPECT_EQ(exit.message, "");
    return exit.kind;
  }
  uint32_t ticks() const { return pc_->machine().state().gpr[kEbx]; }

  FakeBackend serial_;
  FakeBackend console_;
  int flushes_ = 0;
  std::unique_ptr<Pc> pc_;
};

using Kind = PcExit::Kind;

TEST_F(PcRun, EndsWhenHaltedForGood) {
  boot(kSleepForGood);
  EXPECT_EQ(run(), Kind::kHalted);
  EXPECT_EQ(run(), Kind::kHalted);
  EXPECT_EQ(pc_->times().idle, 0ns);
}

TEST_F(PcRun, TicksDoNotWakeWithInterruptsOff) {
  boot(with_ticks(kSleepForGood));
  EXPECT_EQ(run(), Kind::kHalted);
  EXPECT_EQ(ticks(), 0u);
}

TEST_F(PcRun, SaysWhenNothingIsGoingToInterrupt) {
  boot(kSleep);
  EXPECT_EQ(run(), Kind::kAsleep);
}

TEST_F(PcRun, WaitsForTheSerialLineInstead) {
  // IRQ 4 for received bytes.
  boot(writes({{0x3f9, 0x01}, {0x3fc, 0x08}}, kSleep));
  EXPECT_EQ(run(30ms), Kind::kGoesOn);
  EXPECT_GT(flushes_, 0);
}

TEST_F(PcRun, HonoursItsTime) {
  boot(kSpin);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(run(30ms), Kind::kGoesOn);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 30ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kLong);
  EXPECT_GT(pc_->times().kernel, 0ns);
  EXPECT_EQ(pc_->times().user, 0ns);
  EXPECT_EQ(pc_->times().idle, 0ns);
  EXPECT_EQ(run(0ns), Kind::kGoesOn);
}

TEST_F(PcRun, HaltedGuestsGetTheirTicksAndAreIdleInBetween) {
  boot(with_ticks(kSleep));
  EXPECT_EQ(run(100ms), Kind::kGoesOn);
  EXPECT_GT(ticks(), 0u);
  EXPECT_LE(ticks(), 110u);
  EXPECT_GT(flushes_, 0);
  EXPECT_GT(pc_->times().idle, 0ns);
  const auto& times = pc_->times();
  EXPECT_GE(times.idle + times.kernel, 50ms);
}

TEST_F(PcRun, TicksGatherWhenTheGuestDoesNothingElse) {
  boot(with_ticks(kSleep));
  EXPECT_EQ(run(500ms), Kind::kGoesOn);
  const auto& times = pc_->times();
  EXPECT_GT(times.gathering_waits, 0u);
  EXPECT_LT(times.gathering_waits, 100u);
  // None is lost, but where the host keeps the machine from running for long.
  EXPECT_GE(ticks(), 2 * times.gathering_waits);
  EXPECT_LE(ticks(), 1000u);
}

TEST_F(PcRun, TicksDoNotGatherWhenTheyDoSomething) {
  boot(with_ticks(kSleepAndLook));
  EXPECT_EQ(run(200ms), Kind::kGoesOn);
  EXPECT_EQ(pc_->times().gathering_waits, 0u);
}

TEST_F(PcRun, TicksDoNotGatherWhereThatIsNotWanted) {
  make_pc({.throttle_polling = false, .gather_ticks = false});
  boot(with_ticks(kSleep));
  EXPECT_EQ(run(200ms), Kind::kGoesOn);
  EXPECT_EQ(pc_->times().gathering_waits, 0u);
}

TEST_F(PcRun, BusyGuestsGetTheirTicksToo) {
  Code code = {0xfb};
  code.insert(code.end(), kSpin.begin(), kSpin.end());
  boot(with_ticks(code));
  EXPECT_EQ(run(50ms), Kind::kGoesOn);
  EXPECT_GT(ticks(), 0u);
  EXPECT_EQ(pc_->times().idle, 0ns);
  EXPECT_GT(flushes_, 0);
}

TEST_F(PcRun, WakeEndsARunFromAnotherThread) {
  for (const Code& code : {kSpin, writes({{0x3f9, 0x01}, {0x3fc, 0x08}}, kSleep)}) {
    boot(code);
    std::thread other([&] {
      std::this_thread::sleep_for(20ms);
      pc_->wake();
    });
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(run(), Kind::kGoesOn);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kLong / 2);
    other.join();
  }
}

TEST_F(PcRun, AWakeBeforeTheRunIsNotLost) {
  boot(kSpin);
  pc_->wake();
  EXPECT_EQ(run(), Kind::kGoesOn);
  EXPECT_EQ(run(1ms), Kind::kGoesOn);
}

TEST_F(PcRun, PowerOff) {
  // PM1a control: soft-off, and the bit that begins it.
  boot(writes({{0x604, 0x00}, {0x605, 0x20}}, kSpin));
  EXPECT_EQ(run(), Kind::kPowerOff);
}

TEST_F(PcRun, DebugExit) {
  EXPECT_EQ(pc_->debug_exit_status(), std::nullopt);
  boot(writes({{0xe9, '!'}, {0xf4, 3}}, kSpin));
  EXPECT_EQ(run(), Kind::kDebugExit);
  EXPECT_EQ(pc_->debug_exit_status(), 7);
  EXPECT_EQ(console_.output, "!");
}

TEST_F(PcRun, TripleFault) {
  boot({0xcd, 0x21, 0xeb, 0xfe});  // int 0x21: the IDT has neither it nor #GP
  EXPECT_EQ(run(), Kind::kTripleFault);
}

TEST_F(PcRun, EveryWayToResetDoes) {
  for (const auto& way : {writes({{0x64, 0xfe}}, kSpin), writes({{0xcf9, 0x06}}, kSpin),
                          writes({{0x92, 0x01}}, kSpin)}) {
    boot(writes({{0xe9, 'x'}}, way));
    console_.output.clear();
    EXPECT_EQ(run(), Kind::kReset);
    EXPECT_EQ(console_.output, "x");
    pc_->reset();
    EXPECT_EQ(pc_->machine().state().eip, kCode);
    EXPECT_EQ(run(), Kind::kReset);
    EXPECT_EQ(console_.output, "xx");
    pc_->reset();
  }
}

TEST_F(PcRun, ResetSilencesTheDevices) {
  boot(with_ticks(kSleep));
  EXPECT_EQ(run(20ms), Kind::kGoesOn);
  boot(kSleep);
  pc_->reset();
  EXPECT_EQ(ticks(), 0u);
  EXPECT_EQ(run(), Kind::kAsleep);
  EXPECT_EQ(ticks(), 0u);
}

TEST_F(PcRun, ResetWakesAHaltedGuest) {
  boot(kSleepForGood);
  EXPECT_EQ(run(), Kind::kHalted);
  boot(writes({{0xe9, 'y'}}, kSleepForGood));
  pc_->reset();
  EXPECT_EQ(run(), Kind::kHalted);
  EXPECT_EQ(console_.output, "y");
}

/// Code that reads a port until a bit is set.
Code polls_port(uint16_t port, uint8_t bit, const Code& then) {
  Code code = {
      0x66, 0xba, static_cast<uint8_t>(port), static_cast<uint8_t>(port >> 8), 0xec, 0xa8, bit,
      0x74, 0xfb};  // mov dx, port; next: in al, dx; test al, bit; jz next
  for (const uint8_t byte : then) code.push_back(byte);
  return code;
}

/// sti; next: pause; cmp [0x8800], ebx; jae next; inc dword [0x8800]; jmp next
const Code kCountTicksByPolling = {0xfb, 0xf3, 0x90, 0x39, 0x1d, 0x00, 0x88, 0x00, 0x00, 0x73,
                                   0xf6, 0xff, 0x05, 0x00, 0x88, 0x00, 0x00, 0xeb, 0xee};

class Polling : public PcRun {
 protected:
  void SetUp() override { make_pc({.throttle_polling = true}); }

  /// What a run takes of this thread's processor, as a part of its time. It begins when the loop
  /// has been found out.
  double share(std::chrono::nanoseconds time) {
    EXPECT_EQ(run(40ms), Kind::kGoesOn);
    const auto before = used();
    EXPECT_EQ(run(time), Kind::kGoesOn);
    return std::chrono::duration<double>(used() - before) / std::chrono::duration<double>(time);
  }
  static std::chrono::nanoseconds used() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
  uint32_t word(uint32_t address) {
    std::array<std::byte, 4> bytes{};
    pc_->machine().read_memory({address}, bytes);
    uint32_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
};

TEST_F(Polling, LoopsThatWaitTakeNextToNothing) {
  const Code with_interrupts = {0xfb, 0xeb, 0xfe};
  const std::vector<Code> loops = {kSpin, with_interrupts, polls_port(0x3fd, 1, kSpin),
                                   polls_port(0x64, 1, kSpin), polls_port(0x1234, 0, kSpin)};
  for (size_t i = 0; i < loops.size(); ++i) {
    boot(loops[i]);
    pc_->reset();
    EXPECT_LT(share(200ms), 0.05) << i;
    EXPECT_GT(pc_->times().idle, 0ns) << i;
  }
  EXPECT_GT(flushes_, 0);
}

TEST_F(Polling, TicksAreSeenWhileAWordIsPolled) {
  boot(with_ticks(kCountTicksByPolling));
  EXPECT_LT(share(300ms), 0.8);  // A thousand wakes a second; unthrottled it is all of it.
  EXPECT_GT(ticks(), 100u);
  EXPECT_LE(ticks() - word(0x8800), 66u);  // Ticks that the host was late for come at once.
}

TEST_F(Polling, InputEndsIt) {
  boot(polls_port(0x3fd, 1, writes({{0xf4, 3}}, kSpin)));
  EXPECT_EQ(run(40ms), Kind::kGoesOn);
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    pc_->wake();
  });
  EXPECT_EQ(run(), Kind::kGoesOn);
  other.join();
  serial_.type("x");
  EXPECT_EQ(run(), Kind::kDebugExit);
}

TEST_F(Polling, LoopsThatReadAClockOrCountAreNotHeldUp) {
  const std::vector<Code> loops = {
      {0x0f, 0x31, 0xeb, 0xfc},                    // rdtsc; jmp
      {0x40, 0xeb, 0xfd},                          // inc eax; jmp
      {0xff, 0x05, 0, 0x88, 0, 0, 0xeb, 0xf8},     // inc dword [0x8800]; jmp
      {0xe4, 0x40, 0xeb, 0xfc},                    // in al, 0x40: the 8254's counter
      {0x66, 0xba, 0x08, 0x06, 0xec, 0xeb, 0xfd},  // in al, dx: the power management timer
      {0xa0, 0x90, 0x03, 0xe0, 0xfe, 0xeb, 0xf9},  // mov al, [0xfee00390]: the APIC timer's counter
      {0xb0, 0x10, 0xe6, 0x80, 0xeb, 0xfa},        // out 0x80, al
      {0x0f, 0xa2, 0x31, 0xc0, 0xeb, 0xfa},        // cpuid; xor eax, eax
  };
  for (size_t i = 0; i < loops.size(); ++i) {
    boot(loops[i]);
    pc_->reset();
    const auto idle = pc_->times().idle;
    EXPECT_EQ(run(60ms), Kind::kGoesOn);
    EXPECT_EQ(pc_->times().idle, idle) << i;
  }
}

TEST_F(Polling, BrokenGuestsEndAsEver) {
  // The loop runs until the tick, whose handler's stack is nowhere.
  boot(with_ticks({0xbc, 0x04, 0x00, 0x00, 0xd0, 0xfb, 0xeb, 0xfe}));
  EXPECT_EQ(run(), Kind::kTripleFault);
}

/// With ticks at 1 kHz: sums up time stamps and the 8254's counter, halts now and then, and ends
/// after 50 ticks.
const Code kSumsUpTime = {0xfb,                                // sti
                          0x0f, 0x31,                          // next: rdtsc
                          0x01, 0x05, 0x00, 0x88, 0x00, 0x00,  // add [0x8800], eax
                          0x11, 0x15, 0x04, 0x88, 0x00, 0x00,  // adc [0x8804], edx
                          0xe4, 0x40,                          // in al, 0x40
                          0x0f, 0xb6, 0xc0,                    // movzx eax, al
                          0x69, 0x0d, 0x08, 0x88, 0x00, 0x00,
                          0x05, 0x00, 0x00, 0x00,              // imul ecx, [0x8808], 5
                          0x01, 0xc1,                          // add ecx, eax
                          0x89, 0x0d, 0x08, 0x88, 0x00, 0x00,  // mov [0x8808], ecx
                          0xf6, 0xc1, 0x3f,                    // test cl, 0x3f
                          0x75, 0x01,                          // jnz no_halt
                          0xf4,                                // hlt
                          0x83, 0xfb, 0x32,                    // no_halt: cmp ebx, 50
                          0x72, 0xd1,                          // jb next
                          0xb0, 0x03, 0xe6, 0xf4};             // mov al, 3; out 0xf4, al

class Repeatable : public PcRun {
 protected:
  void SetUp() override {}

  struct Result {
    uint64_t time = 0, hash = 0, instructions = 0;
    bool operator==(const Result&) const = default;
  };
  /// Runs in slices, and is woken at random by another thread.
  Result run_sliced(const Switches& switches, std::chrono::nanoseconds slice, bool disturbed) {
    make_pc({.throttle_polling = true, .clock = TimeSource::kInstructions, .switches = switches});
    boot(with_ticks(kSumsUpTime));
    std::atomic<bool> done{false};
    std::thread other([&] {
      while (disturbed && !done) {
        pc_->wake();
        std::this_thread::sleep_for(50us);
      }
    });
    Kind kind = Kind::kGoesOn;
    while (kind == Kind::kGoesOn) kind = run(slice);
    done = true;
    other.join();
    EXPECT_EQ(kind, Kind::kDebugExit);
    return {pc_->machine().time_stamp(), pc_->machine().state_hash(),
            pc_->machine().statistics().instructions};
  }
};

TEST_F(Repeatable, TwoRunsAreTheSameWhateverTheHostDoes) {
  const Result first = run_sliced({}, kLong, false);
  EXPECT_EQ(ticks(), 50u);
  // 50 ticks, of which the program's instructions are a part only: the rest it was halted.
  EXPECT_GT(first.time, 48'000'000u);
  EXPECT_LT(first.time, 55'000'000u);
  EXPECT_LT(first.instructions, first.time);
  EXPECT_EQ(run_sliced({}, kLong, false), first);
  EXPECT_EQ(run_sliced({}, 7us, false), first);
  EXPECT_EQ(run_sliced({}, 1ms, true), first);
}

TEST_F(Repeatable, SwitchesMakeNoDifference) {
  const Result first = run_sliced({}, kLong, false);
  for (const SwitchName& known : switch_names()) {
    Switches switches;
    switches.*(known.member) = !(switches.*(known.member));
    EXPECT_EQ(run_sliced(switches, kLong, false), first) << known.name;
  }
}

TEST_F(Repeatable, HaltedTimeCostsNoTime) {
  make_pc({.throttle_polling = true, .clock = TimeSource::kInstructions});
  boot(with_ticks(kSleep));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(run(20s), Kind::kGoesOn);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
  EXPECT_NEAR(ticks(), 20'000, 20);
}

}  // namespace
}  // namespace trapline
