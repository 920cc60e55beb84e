#include "runtime/cli/escape_keys.h"

namespace trapline {
namespace {

constexpr uint8_t kEscape = 1;  // Ctrl-A.

}  // namespace

EscapeKeys::Decoded EscapeKeys::decode(uint8_t key) {
  if (!after_escape_) {
    after_escape_ = key == kEscape;
    if (after_escape_) return {};
    return {Action::kNone, {key}, 1};
  }
  after_escape_ = false;
  switch (key) {
    case 'x':
    case 'X':
      return {.action = Action::kQuit};
    case 'h':
    case 'H':
    case '?':
      return {.action = Action::kHelp};
    case 'b':
    case 'B':
      return {.action = Action::kBreak};
    case 'a':
    case 'A':
    case kEscape:
      return {Action::kNone, {kEscape}, 1};
    default:
      return {Action::kNone, {kEscape, key}, 2};
  }
}

}  // namespace trapline
