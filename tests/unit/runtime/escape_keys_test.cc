#include "runtime/cli/escape_keys.h"

#include <gtest/gtest.h>

#include <string>

namespace trapline {
namespace {

/// What reaches the guest, with the actions between '<' and '>'.
std::string decode(std::string_view typed) {
  EscapeKeys keys;
  std::string result;
  for (const char key : typed) {
    const auto decoded = keys.decode(static_cast<uint8_t>(key));
    for (const uint8_t byte : decoded.for_guest()) result += static_cast<char>(byte);
    switch (decoded.action) {
      case EscapeKeys::Action::kNone:
        break;
      case EscapeKeys::Action::kQuit:
        result += "<quit>";
        break;
      case EscapeKeys::Action::kHelp:
        result += "<help>";
        break;
      case EscapeKeys::Action::kBreak:
        result += "<break>";
        break;
    }
  }
  return result;
}

TEST(EscapeKeys, LetAllElsePass) {
  std::string all;
  for (int key = 0; key < 256; ++key)
    if (key != 1) all += static_cast<char>(key);
  EXPECT_EQ(decode(all), all);
}

TEST(EscapeKeys, FollowCtrlA) {
  EXPECT_EQ(decode("a\1xb"), "a<quit>b");
  EXPECT_EQ(decode("\1h\1?\1b"), "<help><help><break>");
  EXPECT_EQ(decode("\1a\1\1x"), "\1\1x");
}

TEST(EscapeKeys, NothingIsLostAfterACtrlAThatWasMeantForTheGuest) {
  EXPECT_EQ(decode("\1ls\r"), "\1ls\r");
  EXPECT_EQ(decode("\1\x03"), "\1\x03");
}

TEST(EscapeKeys, HelpNamesThem) {
  for (const char* key : {"Ctrl-A x", "Ctrl-A h", "Ctrl-A a", "Ctrl-A b"})
    EXPECT_NE(EscapeKeys::kHelp.find(key), std::string_view::npos) << key;
}

}  // namespace
}  // namespace trapline
