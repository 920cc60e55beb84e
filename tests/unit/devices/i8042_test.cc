#include "runtime/devices/i8042.h"

#include <gtest/gtest.h>

#include "runtime/devices/ps2_keyboard.h"
#include "runtime/devices/ps2_mouse.h"
#include "tests/unit/devices/device_checks.h"
#include "tests/unit/devices/fake_backend.h"
#include "tests/unit/devices/fake_clock.h"

namespace trapline {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint8_t kFull = 1, kMouseByte = 0x20;

class KeyboardController : public ::testing::Test {
 protected:
  KeyboardController() { controller.connect(bus); }

  uint8_t status() { return static_cast<uint8_t>(bus.in(0x64, 1)); }
  uint8_t data() { return static_cast<uint8_t>(bus.in(0x60, 1)); }
  void command(int value) { bus.out(0x64, 1, static_cast<uint32_t>(value)); }
  void write(int value) { bus.out(0x60, 1, static_cast<uint32_t>(value)); }
  void command(int value, int parameter) {
    command(value);
    write(parameter);
  }
  void wait() { advance_to(clock, queue, clock.time + kMillisecond); }
  /// Everything that comes, as a guest reads it that polls.
  Bytes read_all() {
    Bytes read;
    for (wait(); status() & kFull; wait()) read.push_back(data());
    return read;
  }
  Bytes answer_of(int value) {
    command(value);
    return read_all();
  }
  Bytes keyboard_says(int value) {
    write(value);
    return read_all();
  }
  Bytes mouse_says(int value) {
    command(0xd4, value);
    return read_all();
  }
  bool press(const Bytes& set2) { return keyboard.key(set2); }

  FakeClock clock;
  EventQueue queue{clock};
  FakeLine irq1, irq12;
  bool a20 = true;
  int resets = 0;
  Ps2Keyboard keyboard;
  Ps2Mouse mouse;
  I8042 controller{
      queue, keyboard, mouse, {irq1, irq12, [this](bool on) { a20 = on; }, [this] { ++resets; }}};
  PortBus bus;
};

TEST_F(KeyboardController, TestsItself) {
  EXPECT_EQ(status() & kFull, 0);
  EXPECT_EQ(answer_of(0xaa), Bytes{0x55});
  EXPECT_EQ(status() & 0x0c, 0x0c);  // System flag, and a command came last.
  EXPECT_EQ(answer_of(0xab), Bytes{0x00});
  EXPECT_EQ(answer_of(0xa9), Bytes{0x00});
  EXPECT_EQ(answer_of(0xa4), Bytes{0xf1});
  EXPECT_EQ(answer_of(0xc0), Bytes{0x80});
}

TEST_F(KeyboardController, KeepsItsCommandByteAndMemory) {
  EXPECT_EQ(answer_of(0x20), Bytes{0x65});
  command(0x60, 0x47);
  EXPECT_EQ(status() & 0x08, 0);
  EXPECT_EQ(answer_of(0x20), Bytes{0x47});
  command(0xad);
  command(0xa7);
  EXPECT_EQ(answer_of(0x20), Bytes{0x77});
  command(0xae);
  command(0xa8);
  EXPECT_EQ(answer_of(0x20), Bytes{0x47});
  command(0x7f, 0x5a);
  EXPECT_EQ(answer_of(0x3f), Bytes{0x5a});
}

TEST_F(KeyboardController, InterruptsForEveryByte) {
  press({0x1c});
  EXPECT_TRUE(irq1.level);
  EXPECT_EQ(status() & (kFull | kMouseByte), kFull);
  EXPECT_EQ(data(), 0x1e);
  EXPECT_FALSE(irq1.level);
  EXPECT_EQ(data(), 0x1e);  // The buffer still shows it.
  press({0xf0, 0x1c});
  EXPECT_FALSE(irq1.level);  // A cable takes its time.
  wait();
  EXPECT_EQ(irq1.edges, 2);
  EXPECT_EQ(data(), 0x9e);
  wait();
  press({0xe0, 0x75});
  EXPECT_EQ(read_all(), (Bytes{0xe0, 0x48}));
  EXPECT_EQ(irq1.edges, 4);
  EXPECT_EQ(irq12.edges, 0);
}

TEST_F(KeyboardController, InterruptsCanBeTurnedOff) {
  command(0x60, 0x44);
  press({0x1c});
  EXPECT_EQ(irq1.edges, 0);
  command(0x60, 0x45);
  EXPECT_TRUE(irq1.level);
  EXPECT_EQ(read_all(), Bytes{0x1e});
}

TEST_F(KeyboardController, TranslatesOrNot) {
  command(0x60, 0x05);
  press({0xe0, 0xf0, 0x75});
  EXPECT_EQ(read_all(), (Bytes{0xe0, 0xf0, 0x75}));
  EXPECT_EQ(keyboard_says(0xf2), (Bytes{0xfa, 0xab, 0x83}));
  command(0x60, 0x45);
  press({0xe0, 0xf0, 0x75});
  EXPECT_EQ(read_all(), (Bytes{0xe0, 0xc8}));
  EXPECT_EQ(keyboard_says(0xf2), (Bytes{0xfa, 0xab, 0x41}));
}

TEST_F(KeyboardController, HoldsKeysWhileTheInterfaceIsOff) {
  command(0xad);
  EXPECT_TRUE(press({0x1c}));
  EXPECT_EQ(read_all(), Bytes{});
  command(0xae);
  EXPECT_EQ(read_all(), Bytes{0x1e});
  command(0xad);
  EXPECT_EQ(keyboard_says(0xee), Bytes{0xee});  // A byte for the keyboard turns it on.
  EXPECT_EQ(answer_of(0x20), Bytes{0x65});
}

TEST_F(KeyboardController, LoopsBytesBack) {
  command(0x60, 0x47);
  command(0xd2, 0x1c);
  EXPECT_EQ(status() & (kFull | kMouseByte), kFull);
  EXPECT_EQ(irq1.edges, 1);
  EXPECT_EQ(data(), 0x1c);
  command(0xd3, 0x5a);
  EXPECT_EQ(status() & (kFull | kMouseByte), kFull | kMouseByte);
  EXPECT_EQ(irq12.edges, 1);
  EXPECT_EQ(irq1.edges, 1);
  EXPECT_EQ(data(), 0x5a);
  EXPECT_FALSE(irq12.level);
}

TEST_F(KeyboardController, ControlsA20) {
  EXPECT_EQ(answer_of(0xd0)[0] & 0x03, 0x03);
  command(0xd1, 0xdd);
  EXPECT_FALSE(a20);
  EXPECT_EQ(answer_of(0xd0)[0] & 0x03, 0x01);
  command(0xd1, 0xdf);
  EXPECT_TRUE(a20);
  command(0xdd);
  EXPECT_FALSE(a20);
  command(0xdf);
  EXPECT_TRUE(a20);
  command(0xdd);
  controller.reset();
  EXPECT_TRUE(a20);
  EXPECT_EQ(resets, 0);
}

TEST_F(KeyboardController, Resets) {
  command(0xff);
  command(0xf1);
  EXPECT_EQ(resets, 0);
  command(0xfe);
  EXPECT_EQ(resets, 1);
  command(0xf0);
  EXPECT_EQ(resets, 2);
  command(0xd1, 0xde);
  EXPECT_EQ(resets, 3);
  command(0xd1, 0xdf);
  EXPECT_EQ(resets, 3);
}

TEST_F(KeyboardController, TheKeyboardAnswersItsCommands) {
  EXPECT_EQ(keyboard_says(0xee), Bytes{0xee});
  EXPECT_EQ(keyboard_says(0xed), Bytes{0xfa});
  EXPECT_EQ(keyboard_says(0x05), Bytes{0xfa});
  EXPECT_EQ(keyboard.leds(), 5);
  EXPECT_EQ(keyboard_says(0xf3), Bytes{0xfa});
  EXPECT_EQ(keyboard_says(0x20), Bytes{0xfa});
  EXPECT_EQ(keyboard_says(0xf5), Bytes{0xfa});
  EXPECT_FALSE(press({0x1c}));
  EXPECT_EQ(keyboard_says(0xf4), Bytes{0xfa});
  EXPECT_TRUE(press({0x1c}));
  EXPECT_EQ(read_all(), Bytes{0x1e});
  EXPECT_EQ(keyboard_says(0xf6), Bytes{0xfa});
  EXPECT_EQ(keyboard_says(0xfe), Bytes{0xfa});  // Again.
  EXPECT_EQ(keyboard_says(0xff), (Bytes{0xfa, 0xaa}));
  EXPECT_EQ(keyboard_says(0xe0), Bytes{0xfe});
  EXPECT_EQ(keyboard_says(0xed), Bytes{0xfa});
  EXPECT_EQ(keyboard_says(0xee), Bytes{0xee});  // A command where a parameter should be.
}

TEST_F(KeyboardController, TheKeyboardKnowsTwoScanCodeSets) {
  command(0x60, 0x05);
  const auto choose = [&](int set) {
    EXPECT_EQ(keyboard_says(0xf0), Bytes{0xfa});
    return keyboard_says(set);
  };
  EXPECT_EQ(choose(0), (Bytes{0xfa, 0x02}));
  EXPECT_EQ(choose(1), Bytes{0xfa});
  EXPECT_EQ(choose(0), (Bytes{0xfa, 0x01}));
  press({0xe0, 0xf0, 0x75});
  EXPECT_EQ(read_all(), (Bytes{0xe0, 0xc8}));
  EXPECT_EQ(choose(3), Bytes{0xfe});
}

TEST_F(KeyboardController, KeysThatDoNotFitAreLostWhole) {
  int taken = 0;
  while (press({0xe0, 0x75})) ++taken;
  EXPECT_EQ(taken, 16);
  EXPECT_EQ(read_all().size(), 2u * 16);
  EXPECT_TRUE(press({0x1c}));
}

TEST_F(KeyboardController, TheMouseAnswersItsCommands) {
  command(0x60, 0x47);
  command(0xd4, 0xff);
  EXPECT_TRUE(irq12.level);
  EXPECT_EQ(status() & kMouseByte, kMouseByte);
  EXPECT_EQ(read_all(), (Bytes{0xfa, 0xaa, 0x00}));
  EXPECT_EQ(mouse_says(0xf2), (Bytes{0xfa, 0x00}));
  EXPECT_EQ(mouse_says(0xe8), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0x03), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xf3), Bytes{0xfa});
  EXPECT_EQ(mouse_says(80), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xf4), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xe7), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xe9), (Bytes{0xfa, 0x30, 0x03, 80}));
  EXPECT_EQ(mouse_says(0xf0), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xe9), (Bytes{0xfa, 0x70, 0x03, 80}));
  EXPECT_EQ(mouse_says(0xeb), (Bytes{0xfa, 0x08, 0x00, 0x00}));
  EXPECT_EQ(mouse_says(0xee), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xf2), Bytes{0xf2});
  EXPECT_EQ(mouse_says(0xec), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xf6), Bytes{0xfa});
  EXPECT_EQ(mouse_says(0xe9), (Bytes{0xfa, 0x00, 0x02, 100}));
  EXPECT_EQ(mouse_says(0xe1), Bytes{0xfe});
  EXPECT_EQ(irq1.edges, 0);
}

TEST_F(KeyboardController, ResetForgetsWhatWaits) {
  press({0x1c});
  keyboard.reset();
  mouse.reset();
  controller.reset();
  EXPECT_FALSE(irq1.level);
  EXPECT_EQ(read_all(), Bytes{});
  EXPECT_EQ(answer_of(0x20), Bytes{0x65});
}

TEST_F(KeyboardController, SavedStateLosesNoKey) {
  press({0xe0, 0x75});
  press({0x1c});
  data();
  command(0xdd);
  FakeLine line1, line12;
  bool other_a20 = true;
  Ps2Keyboard other_keyboard;
  Ps2Mouse other_mouse;
  I8042 other(queue, other_keyboard, other_mouse,
              {line1, line12, [&](bool on) { other_a20 = on; }, [] {}});
  expect_round_trip(keyboard, other_keyboard);
  expect_round_trip(controller, other);
  expect_round_trip(mouse, other_mouse);
  EXPECT_FALSE(other_a20);
  EXPECT_EQ(saved(other), saved(controller));
  Bytes read;
  for (int i = 0; i < 2; ++i) {
    wait();
    EXPECT_TRUE(line1.level);
    read.push_back(other.data_port().port_read(0));
  }
  EXPECT_EQ(read, (Bytes{0x48, 0x1e}));
}

TEST_F(KeyboardController, SurvivesAnything) {
  constexpr std::array<uint16_t, 2> kAll = {0x60, 0x64};
  std::mt19937 random(4);
  FakeLine line1, line12;
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 30; ++i) {
      poke(bus, kAll, random, 4);
      if (random() % 2) command(0xd4, 0xe0 + static_cast<int>(random() % 32));
      if (random() % 4 == 0) press({0xe0, 0xf0, static_cast<uint8_t>(random())});
      clock.time += random() % kMillisecond;
      queue.run_due();
    }
    Ps2Keyboard other_keyboard;
    Ps2Mouse other_mouse;
    I8042 other(queue, other_keyboard, other_mouse, {line1, line12, [](bool) {}, [] {}});
    expect_round_trip(controller, other);
    expect_round_trip(keyboard, other_keyboard);
    expect_round_trip(mouse, other_mouse);
    EXPECT_EQ(line1.level, irq1.level);
    EXPECT_EQ(line12.level, irq12.level);
  }
  press({0x1c});
  Ps2Keyboard other_keyboard;
  Ps2Mouse other_mouse;
  I8042 other(queue, other_keyboard, other_mouse, {line1, line12, [](bool) {}, [] {}});
  const auto use = [&] {
    for (int i = 0; i < 4; ++i) {
      other.command_port().port_write(0, 0x20);
      other.data_port().port_read(0);
      other.data_port().port_write(0, 0xf0);
      clock.time += kMillisecond;
      queue.run_due();
    }
  };
  damage_every_byte(controller, other, use);
  damage_every_byte(keyboard, other_keyboard, use);
  damage_every_byte(mouse, other_mouse, use);
}

}  // namespace
}  // namespace trapline
