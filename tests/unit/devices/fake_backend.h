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
    if (input.empty()) return std::nullopt;
    const uint8_t byte = input.front();
    input.pop_front();
    return byte;
  }
  void type(std::string_view text) { input.insert(input.end(), text.begin(), text.end()); }

  std::string output;
  std::deque<uint8_t> input;
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
