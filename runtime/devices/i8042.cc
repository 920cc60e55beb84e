#include "runtime/devices/i8042.h"

#include <algorithm>
#include <utility>

namespace trapline {
namespace {

constexpr std::string_view kTag = "i8042";
constexpr uint32_t kVersion = 1;

enum Command : uint8_t {
  kReadMemory = 0x20,
  kWriteMemory = 0x60,
  kTestPassword = 0xa4,
  kMouseOff = 0xa7,
  kMouseOn = 0xa8,
  kTestMouse = 0xa9,
  kSelfTest = 0xaa,
  kTestKeyboard = 0xab,
  kKeyboardOff = 0xad,
  kKeyboardOn = 0xae,
  kReadInputPort = 0xc0,
  kReadOutputPort = 0xd0,
  kWriteOutputPort = 0xd1,
  kWriteAsKeyboard = 0xd2,
  kWriteAsMouse = 0xd3,
  kWriteToMouse = 0xd4,
  kA20Off = 0xdd,
  kA20On = 0xdf,
  kReadTestInputs = 0xe0,
  kPulse = 0xf0,
};
constexpr uint8_t kMemoryMask = 0x1f;

namespace mode {
constexpr uint8_t kIrq1 = 1, kIrq12 = 2, kSystem = 4, kKeyboardOff = 16, kMouseOff = 32,
                  kTranslate = 64;
constexpr uint8_t kInitial = kIrq1 | kSystem | kMouseOff | kTranslate;
}  // namespace mode
namespace status_bit {
constexpr uint8_t kFull = 1, kSystem = 4, kCommand = 8, kUnlocked = 16, kMouse = 32;
}
namespace port {
constexpr uint8_t kNoReset = 1, kA20 = 2, kKeyboardFull = 16, kMouseFull = 32;
constexpr uint8_t kInitial = 0xc0 | 0x0c | kA20 | kNoReset;  // Clock and data lines are high.
}  // namespace port

constexpr uint8_t kSelfTestPassed = 0x55, kInterfacePassed = 0, kNoPassword = 0xf1;
constexpr uint8_t kInputPort = 0x80;  // The keyboard is not locked.
constexpr uint8_t kTestInputs = 0x03;
constexpr size_t kMostAnswers = 16;
constexpr uint64_t kCableTime = 250'000;

}  // namespace

I8042::State::State() : memory{mode::kInitial}, output_port(port::kInitial) {}

I8042::I8042(EventQueue& queue, Ps2Device& keyboard, Ps2Device& mouse, Wires wires)
    : keyboard_(keyboard),
      mouse_(mouse),
      wires_(std::move(wires)),
      queue_(queue),
      next_from_cable_(queue, [this] { fill_output(); }) {
  keyboard_.on_output([this] { fill_output(); });
  mouse_.on_output([this] { fill_output(); });
}

void I8042::connect(PortBus& bus) {
  bus.claim(kData, 1, data_port_);
  bus.claim(kCommand, 1, command_port_);
}

uint8_t I8042::status() const {
  return static_cast<uint8_t>(
      status_bit::kUnlocked | (state_.full ? status_bit::kFull : 0) |
      (command_byte() & mode::kSystem ? status_bit::kSystem : 0) |
      (state_.last_was_command ? status_bit::kCommand : 0) |
      (state_.full && state_.output.from == From::kMouse ? status_bit::kMouse : 0));
}

uint8_t I8042::read_data() {
  const uint8_t value = state_.output.value;
  if (std::exchange(state_.full, false) && state_.output.from != From::kController)
    next_from_cable_.arm(queue_.now() + kCableTime);
  update_lines();
  fill_output();
  return value;
}

void I8042::write_data(uint8_t value) {
  state_.last_was_command = false;
  if (const uint8_t command = std::exchange(state_.waiting_command, 0)) {
    parameter(command, value);
    return;
  }
  command_byte() &= static_cast<uint8_t>(~mode::kKeyboardOff);
  keyboard_.receive(value);
  fill_output();
}

void I8042::command(uint8_t value) {
  state_.last_was_command = true;
  state_.waiting_command = 0;
  if ((value & ~kMemoryMask) == kReadMemory) {
    answer(state_.memory[value & kMemoryMask]);
  } else if ((value & ~kMemoryMask) == kWriteMemory) {
    state_.waiting_command = value;
  } else if (value >= kPulse) {
    if (!(value & port::kNoReset)) wires_.reset();
  } else {
    simple_command(value);
  }
}

void I8042::simple_command(uint8_t value) {
  switch (value) {
    case kTestPassword:
      answer(kNoPassword);
      break;
    case kMouseOff:
      command_byte() |= mode::kMouseOff;
      break;
    case kMouseOn:
      command_byte() &= static_cast<uint8_t>(~mode::kMouseOff);
      break;
    case kTestMouse:
    case kTestKeyboard:
      answer(kInterfacePassed);
      break;
    case kSelfTest:
      command_byte() |= mode::kSystem;
      answer(kSelfTestPassed);
      break;
    case kKeyboardOff:
      command_byte() |= mode::kKeyboardOff;
      break;
    case kKeyboardOn:
      command_byte() &= static_cast<uint8_t>(~mode::kKeyboardOff);
      break;
    case kReadInputPort:
      answer(kInputPort);
      break;
    case kReadOutputPort:
      answer(read_output_port());
      break;
    case kWriteOutputPort:
    case kWriteAsKeyboard:
    case kWriteAsMouse:
    case kWriteToMouse:
      state_.waiting_command = value;
      break;
    case kA20Off:
      write_output_port(static_cast<uint8_t>(state_.output_port & ~port::kA20));
      break;
    case kA20On:
      write_output_port(state_.output_port | port::kA20);
      break;
    case kReadTestInputs:
      answer(kTestInputs);
      break;
    default:
      break;
  }
  fill_output();
}

void I8042::parameter(uint8_t command, uint8_t value) {
  switch (command) {
    case kWriteOutputPort:
      write_output_port(value);
      break;
    case kWriteAsKeyboard:
      answer(value, From::kKeyboard);
      break;
    case kWriteAsMouse:
      answer(value, From::kMouse);
      break;
    case kWriteToMouse:
      command_byte() &= static_cast<uint8_t>(~mode::kMouseOff);
      mouse_.receive(value);
      break;
    default:
      state_.memory[command & kMemoryMask] = value;
      update_lines();
  }
  fill_output();
}

void I8042::answer(uint8_t value, From from) {
  if (state_.answers.size() < kMostAnswers) state_.answers.push_back({value, from});
  fill_output();
}

void I8042::write_output_port(uint8_t value) {
  const auto changed = static_cast<uint8_t>(value ^ state_.output_port);
  state_.output_port = value;
  if (changed & port::kA20) wires_.a20(value & port::kA20);
  if (value & port::kNoReset) return;
  state_.output_port |= port::kNoReset;  // The reset that it causes ends it.
  wires_.reset();
}

uint8_t I8042::read_output_port() const {
  constexpr uint8_t kLines = port::kKeyboardFull | port::kMouseFull;
  return static_cast<uint8_t>((state_.output_port & ~kLines) |
                              (irq1_level_ ? port::kKeyboardFull : 0) |
                              (irq12_level_ ? port::kMouseFull : 0));
}

void I8042::fill_output() {
  if (state_.full) return;
  const auto byte = next_byte();
  if (!byte) return;
  state_.output = *byte;
  state_.full = true;
  update_lines();
}

std::optional<I8042::Byte> I8042::next_byte() {
  if (!state_.answers.empty()) {
    const Byte byte = state_.answers.front();
    state_.answers.erase(state_.answers.begin());
    return byte;
  }
  if (next_from_cable_.armed()) return std::nullopt;
  if (!(command_byte() & mode::kKeyboardOff))
    if (const auto key = next_key()) return key;
  if (!(command_byte() & mode::kMouseOff))
    if (const auto value = mouse_.take()) return Byte{*value, From::kMouse};
  return std::nullopt;
}

std::optional<I8042::Byte> I8042::next_key() {
  while (const auto value = keyboard_.take()) {
    if (!(command_byte() & mode::kTranslate)) return Byte{*value, From::kKeyboard};
    ScanCodeTranslator translator;
    translator.set_release(state_.release);
    const auto code = translator.translate(*value);
    state_.release = translator.release();
    if (code) return Byte{*code, From::kKeyboard};
  }
  return std::nullopt;
}

/// Each is high while its byte waits in the output buffer.
void I8042::update_lines() {
  const bool mouse = state_.output.from == From::kMouse;
  const bool irq1 = state_.full && !mouse && (command_byte() & mode::kIrq1);
  const bool irq12 = state_.full && mouse && (command_byte() & mode::kIrq12);
  if (std::exchange(irq1_level_, irq1) != irq1) wires_.irq1.set(irq1);
  if (std::exchange(irq12_level_, irq12) != irq12) wires_.irq12.set(irq12);
}

void I8042::reset() {
  const bool a20 = state_.output_port & port::kA20;
  state_ = State{};
  next_from_cable_.disarm();
  update_lines();
  if (!a20) wires_.a20(true);
}

void I8042::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.bytes(state_.memory);
  out.u8(state_.output_port);
  out.u8(state_.waiting_command);
  out.boolean(state_.last_was_command);
  out.boolean(state_.full);
  out.boolean(state_.release);
  out.u8(state_.output.value);
  out.u8(static_cast<uint8_t>(state_.output.from));
  out.u8(static_cast<uint8_t>(state_.answers.size()));
  for (const Byte& byte : state_.answers) {
    out.u8(byte.value);
    out.u8(static_cast<uint8_t>(byte.from));
  }
  out.boolean(next_from_cable_.armed());
  out.u64(next_from_cable_.armed() ? next_from_cable_.due() : 0);
  out.end();
}

Result<void> I8042::load(SnapshotReader& in) {
  const auto load_byte = [&] {
    Byte byte;
    byte.value = in.u8();
    const uint8_t from = in.u8();
    if (from > static_cast<uint8_t>(From::kMouse)) in.reject("a byte came from nowhere");
    byte.from = static_cast<From>(from);
    return byte;
  };
  State loaded;
  in.begin(kTag, kVersion);
  const auto memory = in.bytes(loaded.memory.size());
  loaded.output_port = in.u8() | port::kNoReset;
  loaded.waiting_command = in.u8();
  loaded.last_was_command = in.boolean();
  loaded.full = in.boolean();
  loaded.release = in.boolean();
  loaded.output = load_byte();
  const uint8_t answers = in.u8();
  if (memory.size() != loaded.memory.size() || answers > kMostAnswers)
    in.reject("the keyboard controller has another size");
  for (size_t i = 0; i < answers && i < kMostAnswers; ++i) loaded.answers.push_back(load_byte());
  const bool armed = in.boolean();
  const uint64_t due = in.u64();
  if (auto read = in.end(); !read.ok()) return read;
  std::ranges::copy(memory, loaded.memory.begin());
  state_ = std::move(loaded);
  if (armed)
    next_from_cable_.arm(std::min(due, queue_.now() + kCableTime));
  else
    next_from_cable_.disarm();
  const bool mouse = state_.output.from == From::kMouse;
  irq1_level_ = state_.full && !mouse && (command_byte() & mode::kIrq1);
  irq12_level_ = state_.full && mouse && (command_byte() & mode::kIrq12);
  wires_.irq1.set(irq1_level_);
  wires_.irq12.set(irq12_level_);
  wires_.a20(state_.output_port & port::kA20);
  return {};
}

}  // namespace trapline
