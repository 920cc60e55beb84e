// A terminal for tests: what a user would type is written to one side, what a program sees is on
// the other.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace trapline {

class PseudoTerminal {
 public:
  PseudoTerminal() {
    EXPECT_EQ(openpty(&user_, &program_, nullptr, nullptr, nullptr), 0);
    before_ = modes();
  }
  ~PseudoTerminal() {
    close(user_);
    close(program_);
  }
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  int program() const { return program_; }
  termios modes() const {
    termios now{};
    EXPECT_EQ(tcgetattr(program_, &now), 0);
    return now;
  }
  bool raw() const {
    const termios now = modes();
    return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_iflag & (ICRNL | IXON)) &&
           !(now.c_oflag & OPOST);
  }
  bool as_before() const {
    const termios now = modes();
    return now.c_lflag == before_.c_lflag && now.c_iflag == before_.c_iflag &&
           now.c_oflag == before_.c_oflag && now.c_cflag == before_.c_cflag &&
           std::memcmp(now.c_cc, before_.c_cc, sizeof now.c_cc) == 0;
  }

  void type(std::string_view keys) const {
    EXPECT_EQ(write(user_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  /// What the user sees until `last` has come, or nothing more comes for a while.
  std::string see(std::string_view last) const {
    std::string text;
    pollfd question{user_, POLLIN, 0};
    while (text.find(last) == std::string::npos && poll(&question, 1, 5000) > 0) {
      char buffer[256];
      const ssize_t got = read(user_, buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }

 private:
  int user_ = -1;
  int program_ = -1;
  termios before_{};
};

}  // namespace trapline
