#include "runtime/devices/ps2_mouse.h"

#include <utility>

namespace trapline {
namespace {

constexpr std::string_view kTag = "ps2-mouse";
constexpr uint32_t kVersion = 1;

enum Command : uint8_t {
  kScale = 0xe6,
  kDoubledScale = 0xe7,
  kResolution = 0xe8,
  kStatus = 0xe9,
  kStream = 0xea,
  kReport = 0xeb,
  kEndWrap = 0xec,
  kWrap = 0xee,
  kRemote = 0xf0,
  kIdentify = 0xf2,
  kRate = 0xf3,
  kEnable = 0xf4,
  kDisable = 0xf5,
  kDefaults = 0xf6,
  kResend = 0xfe,
  kReset = 0xff,
};

constexpr uint8_t kAcknowledge = 0xfa, kTryAgain = 0xfe, kTestPassed = 0xaa, kId = 0;
constexpr uint8_t kStatusRemote = 0x40, kStatusEnabled = 0x20, kStatusDoubled = 0x10;
constexpr uint8_t kNoMotion = 0x08;  // The first byte of a report: that bit is always 1.

}  // namespace

void Ps2Mouse::receive(uint8_t byte) {
  if (state_.wrap && byte != kEndWrap && byte != kReset) {
    send({byte});
    return;
  }
  switch (std::exchange(state_.command, 0)) {
    case kResolution:
      state_.resolution = byte & 3;
      answer({kAcknowledge});
      break;
    case kRate:
      state_.rate = byte;
      answer({kAcknowledge});
      break;
    default:
      execute(byte);
  }
}

void Ps2Mouse::execute(uint8_t command) {
  switch (command) {
    case kScale:
    case kDoubledScale:
      state_.doubled = command == kDoubledScale;
      break;
    case kResolution:
    case kRate:
      state_.command = command;
      break;
    case kStatus:
      answer({kAcknowledge,
              static_cast<uint8_t>((state_.remote ? kStatusRemote : 0) |
                                   (state_.enabled ? kStatusEnabled : 0) |
                                   (state_.doubled ? kStatusDoubled : 0)),
              state_.resolution, state_.rate});
      return;
    case kStream:
    case kRemote:
      state_.remote = command == kRemote;
      break;
    case kReport:
      answer({kAcknowledge, kNoMotion, 0, 0});
      return;
    case kWrap:
    case kEndWrap:
      state_.wrap = command == kWrap;
      break;
    case kIdentify:
      answer({kAcknowledge, kId});
      return;
    case kEnable:
    case kDisable:
      state_.enabled = command == kEnable;
      break;
    case kDefaults:
      state_ = State{};
      break;
    case kResend:
      send({last_taken()});
      return;
    case kReset:
      state_ = State{};
      answer({kAcknowledge, kTestPassed, kId});
      return;
    default:
      answer({kTryAgain});
      return;
  }
  answer({kAcknowledge});
}

void Ps2Mouse::reset() {
  state_ = State{};
  clear();
}

void Ps2Mouse::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.boolean(state_.enabled);
  out.boolean(state_.remote);
  out.boolean(state_.wrap);
  out.boolean(state_.doubled);
  out.u8(state_.resolution);
  out.u8(state_.rate);
  out.u8(state_.command);
  save_output(out);
  out.end();
}

Result<void> Ps2Mouse::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.enabled = in.boolean();
  loaded.remote = in.boolean();
  loaded.wrap = in.boolean();
  loaded.doubled = in.boolean();
  loaded.resolution = in.u8() & 3;
  loaded.rate = in.u8();
  loaded.command = in.u8();
  const Output output = load_output(in);
  if (loaded.command != 0 && loaded.command != kResolution && loaded.command != kRate)
    in.reject("a mouse waits for a parameter that does not exist");
  if (auto read = in.end(); !read.ok()) return read;
  state_ = loaded;
  restore(output);
  return {};
}

}  // namespace trapline
