// The keys with which a user speaks to Trapline instead of the guest: Ctrl-A and one more.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace trapline {

class EscapeKeys {
 public:
  enum class Action : uint8_t { kNone, kQuit, kHelp, kBreak };

  struct Decoded {
    Action action = Action::kNone;
    std::array<uint8_t, 2> keys{};
    uint8_t count = 0;
    /// What of it is for the guest.
    std::span<const uint8_t> for_guest() const { return std::span(keys).first(count); }
  };

  static constexpr std::string_view kHint = "trapline: Ctrl-A x quits, Ctrl-A h lists the keys\r\n";
  static constexpr std::string_view kHelp =
      "\r\n"
      "Ctrl-A x       quits Trapline\r\n"
      "Ctrl-A b       sends a break\r\n"
      "Ctrl-A a       sends a Ctrl-A, as Ctrl-A Ctrl-A does\r\n"
      "Ctrl-A h       lists these keys\r\n"
      "All else goes to the guest, Ctrl-C too.\r\n";

  /// A Ctrl-A that nothing above follows goes to the guest together with what follows it.
  Decoded decode(uint8_t key);

 private:
  bool after_escape_ = false;
};

}  // namespace trapline
