// A character backend and an interrupt line that remember what devices do to them.
#pragma once

#include <deque>
#include <string>

#include "runtime/devices/device.h"

namespace trapline {

class FakeBackend : public CharacterBackend {
 public:
  void write(uint8_t byte) override { output += static_cast<char>(byte); }
  std::optional<uint8_t> read() override {
    if (input.empty() || input.front() == kBreak) return std::nullopt;
    const auto byte = static_cast<uint8_t>(input.front());
    input.pop_front();
    return byte;
  }
  bool take_break() override {
    if (input.empty() || input.front() != kBreak) return false;
    input.pop_front();
    return true;
  }
  void type(std::string_view text) { input.insert(input.end(), text.begin(), text.end()); }
  void type_break() { input.push_back(kBreak); }

  static constexpr int kBreak = -1;
  std::string output;
  std::deque<int> input;
};

class FakeLine : public InterruptLine {
 public:
  void set(bool asserted) override {
    edges += asserted && !level;
    level = asserted;
  }

  bool level = false;
  int edges = 0;
};

}  // namespace trapline
