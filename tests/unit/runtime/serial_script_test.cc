#include "runtime/cli/serial_script.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace trapline {
namespace {

TEST(SerialScript, LinesWaitAndSend) {
  const auto steps = parse_script("# a comment\nwait login: \n\nsend root\\n\\e\\\\", "s");
  ASSERT_TRUE(steps.ok());
  ASSERT_EQ(steps.value().size(), 2u);
  EXPECT_EQ(steps.value()[0].kind, ScriptStep::Kind::kWait);
  EXPECT_EQ(steps.value()[0].text, "login: ");
  EXPECT_EQ(steps.value()[1].kind, ScriptStep::Kind::kSend);
  EXPECT_EQ(steps.value()[1].text, "root\n\033\\");
}

TEST(SerialScript, WhatIsNoStepIsRefusedWithItsLine) {
  for (const char* wrong : {"wait", "send ", "type x", "wait x\\", "send \\q", "waitx y"}) {
    const auto steps = parse_script(std::string("wait a\n") + wrong + "\nsend b\n", "s");
    ASSERT_FALSE(steps.ok()) << wrong;
    EXPECT_EQ(steps.error().status, ExitStatus::kBadInput);
    EXPECT_NE(steps.error().message.find("line 2 of 's'"), std::string::npos);
  }
}

class ScriptEnd : public ::testing::Test {
 protected:
  void open(const std::string& script) {
    const std::string path = ::testing::TempDir() + "serial_script";
    std::ofstream(path) << script;
    auto end = open_serial("script:" + path, {output_, [this] { ++wakes_; }, {}});
    ASSERT_TRUE(end.ok()) << end.error().message;
    end_ = end.take();
    std::remove(path.c_str());
  }
  void print(std::string_view text) {
    for (const char c : text) end_->write(static_cast<uint8_t>(c));
  }
  std::string typed() {
    std::string all;
    while (const auto byte = end_->read()) all += static_cast<char>(*byte);
    return all;
  }

  HostOutput output_{::open("/dev/null", O_WRONLY | O_CLOEXEC), "nowhere", {}};
  int wakes_ = 0;
  std::unique_ptr<SerialEnd> end_;
};

TEST_F(ScriptEnd, TypesWhenWhatItWaitsForHasCome) {
  open("wait aab\nsend 1\nsend 2\nwait b\nsend 3\nwait never\nsend 4\n");
  EXPECT_EQ(typed(), "");
  print("aaa");
  EXPECT_EQ(typed(), "");
  EXPECT_EQ(wakes_, 0);
  print("b");
  EXPECT_EQ(wakes_, 1);
  EXPECT_EQ(typed(), "12");
  print(std::string(1000, 'x'));
  EXPECT_EQ(typed(), "");
  print("b");
  EXPECT_EQ(typed(), "3");
  EXPECT_EQ(wakes_, 2);
}

TEST_F(ScriptEnd, WhatNeedsNoWaitingIsThereAtOnce) {
  open("send now\nwait x\n");
  EXPECT_EQ(typed(), "now");
}

}  // namespace
}  // namespace trapline
