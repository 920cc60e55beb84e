#include "runtime/cli/serial_backends.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include "tests/unit/runtime/pseudo_terminal.h"

namespace trapline {
namespace {

using Clock = std::chrono::steady_clock;

class Serial : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    ASSERT_EQ(pipe(output_), 0);
    fcntl(output_[0], F_SETFL, O_NONBLOCK);
    standard_output_ = std::make_unique<HostOutput>(output_[1], "the pipe", give_up_);
    path_ = ::testing::TempDir() + "serial." + std::to_string(getpid());
  }
  void TearDown() override {
    standard_output_.reset();
    close(output_[0]);
    close(output_[1]);
    unlink(path_.c_str());
  }

  SerialHost host() {
    return {
        .standard_output = *standard_output_, .wake = [this] { ++wakes_; }, .give_up = give_up_};
  }
  std::unique_ptr<SerialEnd> open(const std::string& where) {
    auto end = open_serial(where, host());
    EXPECT_TRUE(end.ok()) << end.error().message;
    return end.ok() ? end.take() : nullptr;
  }
  void expect_refused(const std::string& where, const std::string& word) {
    const auto end = open_serial(where, host());
    ASSERT_FALSE(end.ok());
    EXPECT_NE(end.error().message.find(word), std::string::npos) << end.error().message;
  }
  std::string printed() const {
    char text[256];
    const ssize_t got = read(output_[0], text, sizeof text);
    return got > 0 ? std::string(text, static_cast<size_t>(got)) : "";
  }

  int connect_client() const {
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path_.c_str());
    EXPECT_EQ(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return client;
  }

  std::function<bool()> give_up_ = [] { return false; };
  std::unique_ptr<HostOutput> standard_output_;
  int output_[2] = {-1, -1};
  std::atomic<int> wakes_{0};
  std::string path_;
};

/// What the guest gets until there are so many bytes.
std::string take(SerialEnd& end, size_t bytes) {
  std::string text;
  const auto until = Clock::now() + std::chrono::seconds(10);
  while (text.size() < bytes && Clock::now() < until) {
    if (const auto byte = end.read())
      text += static_cast<char>(*byte);
    else
      usleep(100);
  }
  return text;
}

void put(SerialEnd& end, std::string_view text) {
  for (const char c : text) end.write(static_cast<uint8_t>(c));
}

std::string receive(int descriptor, size_t bytes) {
  std::string text(bytes, '\0');
  size_t done = 0;
  pollfd question{descriptor, POLLIN, 0};
  while (done < bytes && poll(&question, 1, 5000) > 0) {
    const ssize_t got = read(descriptor, text.data() + done, bytes - done);
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

void send_text(int descriptor, std::string_view text) {
  EXPECT_EQ(write(descriptor, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

TEST_F(Serial, APipeBringsBytesAsTheyAre) {
  int input[2];
  ASSERT_EQ(pipe(input), 0);
  auto end = make_standard_end(input[0], host());
  EXPECT_FALSE(end->terminal_is_raw());
  EXPECT_EQ(end->read(), std::nullopt);
  const std::string text("\1x\0\r\n\x03", 6);
  send_text(input[1], text);
  EXPECT_EQ(take(*end, text.size()), text);
  EXPECT_GE(wakes_, 1);
  EXPECT_FALSE(end->quit_requested());
  close(input[1]);  // The end of the input is the end of nothing else.
  usleep(20'000);
  EXPECT_EQ(end->read(), std::nullopt);
  put(*end, "a\nb");
  EXPECT_EQ(printed(), "a\n");
  end->flush();
  EXPECT_EQ(printed(), "b");
  EXPECT_FALSE(end->failure().has_value());
  end.reset();
  close(input[0]);
}

TEST_F(Serial, APipeIsReadOnlyAsFastAsTheGuestTakes) {
  int input[2];
  ASSERT_EQ(pipe(input), 0);
  auto end = make_standard_end(input[0], host());
  fcntl(input[1], F_SETFL, O_NONBLOCK);
  std::string sent;
  std::string chunk(1000, '\0');
  for (int idle = 0; idle < 20;) {
    for (char& c : chunk) c = static_cast<char>(sent.size() % 251 + (&c - chunk.data()) % 3);
    const ssize_t written = write(input[1], chunk.data(), chunk.size());
    if (written > 0) sent.append(chunk, 0, static_cast<size_t>(written));
    idle = written > 0 ? 0 : idle + 1;
    if (written <= 0) usleep(5000);
  }
  EXPECT_GT(sent.size(), 64u << 10);
  EXPECT_LT(sent.size(), 256u << 10);  // The queue and the pipe are full.
  close(input[1]);
  EXPECT_EQ(take(*end, sent.size()), sent);
  end.reset();
  close(input[0]);
}

TEST_F(Serial, ATerminalIsRawAndHasEscapeKeys) {
  PseudoTerminal pty;
  {
    const auto end = make_standard_end(pty.program(), host());
    EXPECT_TRUE(pty.raw());
    EXPECT_NE(pty.see("\r\n").find("Ctrl-A x quits"), std::string::npos);
    pty.type("a\x03\x1a\x11\r\1\1\1b!");
    EXPECT_EQ(take(*end, 6), "a\x03\x1a\x11\r\1");
    EXPECT_EQ(end->read(), std::nullopt);
    EXPECT_TRUE(end->take_break());
    EXPECT_EQ(take(*end, 1), "!");
    pty.type("\1h");
    EXPECT_NE(pty.see("Ctrl-C too").find("sends a break"), std::string::npos);
    EXPECT_FALSE(end->quit_requested());
    const int before = wakes_;
    pty.type("\1x");
    for (int i = 0; i < 5000 && wakes_ == before; ++i) usleep(1000);
    EXPECT_TRUE(end->quit_requested());
    EXPECT_GT(wakes_, before);
  }
  EXPECT_TRUE(pty.as_before());
}

TEST_F(Serial, EscapeKeysWorkThoughTheGuestTakesNothing) {
  PseudoTerminal pty;
  const auto end = make_standard_end(pty.program(), host());
  for (int i = 0; i < 200; ++i) pty.type(std::string(1000, 'x'));
  pty.type("\1x");
  for (int i = 0; i < 5000 && !end->quit_requested(); ++i) usleep(1000);
  EXPECT_TRUE(end->quit_requested());
  EXPECT_EQ(take(*end, 200'000).size(), 200'000u);
}

TEST_F(Serial, ASocketShowsWhatWasWrittenBeforeAndTakesInput) {
  const auto end = open("unix:" + path_);
  ASSERT_NE(end, nullptr);
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  put(*end, "early");
  const int client = connect_client();
  EXPECT_EQ(receive(client, 5), "early");
  send_text(client, "in\1x");
  EXPECT_EQ(take(*end, 4), "in\1x");
  EXPECT_GE(wakes_, 1);
  EXPECT_FALSE(end->quit_requested());
  put(*end, "no line end needed");
  EXPECT_EQ(receive(client, 18), "no line end needed");
  close(client);
}

TEST_F(Serial, ASocketServesOneClientAfterTheOther) {
  const auto end = open("unix:" + path_);
  const int first = connect_client();
  put(*end, "1");
  EXPECT_EQ(receive(first, 1), "1");
  const int second = connect_client();
  send_text(second, "second");
  send_text(first, "first");
  close(first);
  EXPECT_EQ(take(*end, 11), "firstsecond");
  put(*end, "2");
  EXPECT_EQ(receive(second, 1), "2");
  shutdown(second, SHUT_WR);  // One who has nothing more to say may go on to listen.
  usleep(20'000);
  put(*end, "3");
  EXPECT_EQ(receive(second, 1), "3");
  close(second);
  for (int round = 0; round < 20; ++round) {
    const int client = connect_client();
    send_text(client, "x");
    close(client);
  }
  EXPECT_EQ(take(*end, 20), std::string(20, 'x'));
}

TEST_F(Serial, ASocketsInputIsNotLostWhenItsClientGoesBeforeTheGuestTakesIt) {
  const auto end = open("unix:" + path_);
  const int client = connect_client();
  fcntl(client, F_SETFL, O_NONBLOCK);
  size_t sent = 0;
  const std::string chunk(1000, 'y');
  for (int idle = 0; idle < 20;) {
    const ssize_t written = write(client, chunk.data(), chunk.size());
    if (written > 0) sent += static_cast<size_t>(written);
    idle = written > 0 ? 0 : idle + 1;
    if (written <= 0) usleep(5000);
  }
  EXPECT_GT(sent, 64u << 10);
  close(client);
  usleep(20'000);
  EXPECT_EQ(take(*end, sent).size(), sent);
  const int next = connect_client();
  send_text(next, "z");
  EXPECT_EQ(take(*end, 1), "z");
  close(next);
}

TEST_F(Serial, ASocketLosesNothingOnItsWayToAClientWhoReads) {
  const auto end = open("unix:" + path_);
  const int client = connect_client();
  std::string text;
  for (int i = 0; i < 4 << 20; ++i) text += static_cast<char>(i % 253);
  std::string received;
  std::thread reader([&] { received = receive(client, text.size()); });
  put(*end, text);
  reader.join();
  EXPECT_TRUE(received == text) << received.size();
  close(client);
}

TEST_F(Serial, ASocketNeverWaitsForAClientWhoDoesNotRead) {
  const auto end = open("unix:" + path_);
  put(*end, std::string(1 << 20, 'a'));  // Nobody is there: takes no time.
  int client = connect_client();
  std::string text = receive(client, 64 << 10);
  EXPECT_EQ(text, std::string(64 << 10, 'a'));
  close(client);
  client = connect_client();
  const auto start = Clock::now();
  put(*end, std::string(1 << 20, 'b'));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  close(client);
}

TEST_F(Serial, ASocketDeliversTheLastWords) {
  auto end = open("unix:" + path_);
  const int client = connect_client();
  put(*end, "power down");
  end.reset();
  EXPECT_EQ(receive(client, 100), "power down");
  close(client);
  struct stat status {};
  EXPECT_NE(stat(path_.c_str(), &status), 0);
}

TEST_F(Serial, ASocketsPathMustBeFree) {
  std::ofstream(path_) << "precious";
  expect_refused("unix:" + path_, "a file is there");
  unlink(path_.c_str());
  {
    const auto end = open("unix:" + path_);
    expect_refused("unix:" + path_, "a program listens there");
  }
  // One that a killed program left behind is replaced.
  const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path_.c_str());
  ASSERT_EQ(bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  close(stale);
  EXPECT_NE(open("unix:" + path_), nullptr);
  expect_refused("unix:" + std::string(200, 'x'), "too long");
  expect_refused("unix:" + ::testing::TempDir() + "none/such", "No such file");
}

TEST_F(Serial, APtyIsALineForOtherPrograms) {
  testing::internal::CaptureStderr();
  auto end = open("pty");
  const std::string told = testing::internal::GetCapturedStderr();
  ASSERT_NE(end, nullptr);
  const size_t at = told.find("/dev/");
  ASSERT_NE(at, std::string::npos) << told;
  const std::string name = told.substr(at, told.find('\n') - at);
  put(*end, "early\r\n");
  for (int round = 0; round < 3; ++round) {
    const int client = ::open(name.c_str(), O_RDWR | O_NOCTTY);
    ASSERT_GE(client, 0) << name;
    if (round == 0) {
      EXPECT_EQ(receive(client, 7), "early\r\n");
    }
    send_text(client, "in\r\x03");
    EXPECT_EQ(take(*end, 4), "in\r\x03");
    put(*end, "out");
    EXPECT_EQ(receive(client, 3), "out");
    close(client);
  }
  EXPECT_EQ(end->read(), std::nullopt);  // No echo.
  const auto start = Clock::now();
  put(*end, std::string(1 << 20, 'b'));  // Nobody reads.
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
}

TEST_F(Serial, NoneSwallowsAndAFileIsWritten) {
  auto none = open("none");
  put(*none, "lost");
  EXPECT_EQ(none->read(), std::nullopt);
  auto file = open(path_);
  put(*file, "kept");
  file->flush();
  std::string text;
  std::getline(std::ifstream(path_), text);
  EXPECT_EQ(text, "kept");
  expect_refused(::testing::TempDir() + "none/such", "cannot be written");
}

}  // namespace
}  // namespace trapline
