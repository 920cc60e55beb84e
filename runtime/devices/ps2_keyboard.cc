#include "runtime/devices/ps2_keyboard.h"

#include <utility>
#include <vector>

#include "runtime/devices/scan_codes.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "ps2-keyboard";
constexpr uint32_t kVersion = 1;

enum Command : uint8_t {
  kSetLeds = 0xed,
  kEcho = 0xee,
  kScanCodeSet = 0xf0,
  kIdentify = 0xf2,
  kTypematic = 0xf3,
  kEnable = 0xf4,
  kDisable = 0xf5,
  kDefaults = 0xf6,
  kFirstOfSet3 = 0xf7,
  kFirstWithKey = 0xfb,
  kLastOfSet3 = 0xfd,
  kResend = 0xfe,
  kReset = 0xff,
};

constexpr uint8_t kAcknowledge = 0xfa, kTryAgain = 0xfe, kTestPassed = 0xaa;
constexpr uint8_t kId1 = 0xab, kId2 = 0x83;

bool takes_parameter(uint8_t command) {
  return command == kSetLeds || command == kScanCodeSet || command == kTypematic ||
         (command >= kFirstWithKey && command <= kLastOfSet3);
}

}  // namespace

bool Ps2Keyboard::key(std::span<const uint8_t> set2) {
  if (!state_.scanning) return false;
  if (state_.set == 2) return send(set2);
  std::vector<uint8_t> set1;
  ScanCodeTranslator translator;
  for (const uint8_t byte : set2)
    if (const auto code = translator.translate(byte)) set1.push_back(*code);
  return send(set1);
}

void Ps2Keyboard::receive(uint8_t byte) {
  const uint8_t command = std::exchange(state_.command, 0);
  // A command instead of a parameter takes the first one back.
  if (command != 0 && byte < kSetLeds) {
    parameter(command, byte);
    return;
  }
  if (takes_parameter(byte)) {
    state_.command = byte;
    answer({kAcknowledge});
    return;
  }
  switch (byte) {
    case kEcho:
      answer({kEcho});
      break;
    case kIdentify:
      answer({kAcknowledge, kId1, kId2});
      break;
    case kEnable:
      state_.scanning = true;
      answer({kAcknowledge});
      break;
    case kDisable:
      set_defaults(false);
      answer({kAcknowledge});
      break;
    case kDefaults:
      set_defaults(true);
      answer({kAcknowledge});
      break;
    case kResend:
      send({last_taken()});
      break;
    case kReset:
      set_defaults(true);
      state_.leds = 0;
      answer({kAcknowledge, kTestPassed});
      break;
    default:
      if (byte >= kFirstOfSet3 && byte < kFirstWithKey)
        answer({kAcknowledge});  // How keys of set 3 repeat.
      else
        answer({kTryAgain});
  }
}

void Ps2Keyboard::parameter(uint8_t command, uint8_t value) {
  if (command == kSetLeds) {
    state_.leds = value & 7;
  } else if (command == kTypematic) {
    state_.typematic = value;
  } else if (command == kScanCodeSet && value == 0) {
    answer({kAcknowledge, state_.set});
    return;
  } else if (command == kScanCodeSet) {
    if (value > 2) {
      answer({kTryAgain});
      return;
    }
    state_.set = value;
  }
  answer({kAcknowledge});
}

void Ps2Keyboard::set_defaults(bool scanning) {
  const uint8_t leds = state_.leds;
  state_ = State{};
  state_.leds = leds;
  state_.scanning = scanning;
}

void Ps2Keyboard::reset() {
  state_ = State{};
  clear();
}

void Ps2Keyboard::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.boolean(state_.scanning);
  out.u8(state_.command);
  out.u8(state_.set);
  out.u8(state_.leds);
  out.u8(state_.typematic);
  save_output(out);
  out.end();
}

Result<void> Ps2Keyboard::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.scanning = in.boolean();
  loaded.command = in.u8();
  loaded.set = in.u8();
  loaded.leds = in.u8() & 7;
  loaded.typematic = in.u8();
  const Output output = load_output(in);
  if ((loaded.command != 0 && !takes_parameter(loaded.command)) || loaded.set < 1 || loaded.set > 2)
    in.reject("a keyboard is in a state that does not exist");
  if (auto read = in.end(); !read.ok()) return read;
  state_ = loaded;
  restore(output);
  return {};
}

}  // namespace trapline
