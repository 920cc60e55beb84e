#include "runtime/cli/host_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace trapline {
namespace {

class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  ~Pipe() {
    close_reader();
    close(ends_[1]);
  }
  int writer() const { return ends_[1]; }
  void close_reader() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }
  /// What is in it now.
  std::string read_all() {
    fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = read(ends_[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<size_t>(got));
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

void write_text(HostOutput& output, std::string_view text) {
  for (const char c : text) output.write(static_cast<uint8_t>(c));
}

TEST(HostOutput, WritesLinesAtOnceAndTheRestWhenAsked) {
  Pipe pipe;
  HostOutput output(pipe.writer(), "the pipe", {});
  write_text(output, "one\ntw");
  EXPECT_EQ(pipe.read_all(), "one\n");
  output.flush();
  EXPECT_EQ(pipe.read_all(), "tw");
  write_text(output, std::string(4096, 'x'));
  EXPECT_EQ(pipe.read_all(), std::string(4096, 'x'));
}

TEST(HostOutput, AClosedReaderIsAFailureThatHasASentence) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  HostOutput output(pipe.writer(), "the pipe", {});
  pipe.close_reader();
  EXPECT_FALSE(output.failure().has_value());
  write_text(output, "lost\n");
  ASSERT_TRUE(output.failure().has_value());
  EXPECT_EQ(output.failure()->status, ExitStatus::kHost);
  EXPECT_EQ(output.failure()->message, "the pipe cannot be written: Broken pipe");
  write_text(output, "also lost\n");
}

TEST(HostOutput, AReaderThatNeverReadsIsGivenUp) {
  Pipe pipe;
  int asked = 0;
  HostOutput output(pipe.writer(), "the pipe", [&] { return ++asked > 1; });
  while (asked < 2) write_text(output, std::string(4096, 'x'));
  EXPECT_FALSE(output.failure().has_value());
  EXPECT_FALSE(pipe.read_all().empty());
}

TEST(HostBackend, HelpsOnARawTerminalUntilTheGuestShowsThatItNeedsNoHelp) {
  Pipe pipe;
  HostOutput output(pipe.writer(), "the pipe", {});
  const auto print = [&](LineEnds ends, std::string_view text) {
    HostBackend backend(output, ends);
    for (const char c : text) backend.write(static_cast<uint8_t>(c));
    backend.flush();
    return pipe.read_all();
  };
  EXPECT_EQ(print(LineEnds::kAsTheyAre, "a\nb\n"), "a\nb\n");
  EXPECT_EQ(print(LineEnds::kForRawTerminal, "a\nb\n\n"), "a\r\nb\r\n\r\n");
  EXPECT_EQ(print(LineEnds::kForRawTerminal, "a\nb\r\nc\n"), "a\r\nb\r\nc\n");
}

TEST(HostOutput, FilesAreCreatedOrRefused) {
  const std::string path = ::testing::TempDir() + "output." + std::to_string(getpid());
  {
    auto file = HostOutput::create_file(path, {});
    ASSERT_TRUE(file.ok()) << file.error().message;
    write_text(*file.value(), "kept");
  }
  std::FILE* written = std::fopen(path.c_str(), "r");
  ASSERT_NE(written, nullptr);
  char text[8] = {};
  EXPECT_EQ(std::fread(text, 1, sizeof text, written), 4u);
  EXPECT_STREQ(text, "kept");
  std::fclose(written);
  std::remove(path.c_str());
  const auto refused = HostOutput::create_file(::testing::TempDir() + "none/such", {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().status, ExitStatus::kBadInput);
}

}  // namespace
}  // namespace trapline
