#include "runtime/cli/options.h"

#include <gtest/gtest.h>

#include "runtime/cli/values.h"

namespace trapline {
namespace {

Result<Command> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "trapline");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

RunOptions parse_run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"run", "--multiboot", "kernel"});
  auto command = parse(std::move(arguments));
  EXPECT_TRUE(command.ok()) << command.error().message;
  if (!command.ok()) return {};
  return std::get<RunOptions>(command.value());
}

void expect_usage_error(std::vector<const char*> arguments, const std::string& word) {
  const auto command = parse(std::move(arguments));
  ASSERT_FALSE(command.ok()) << word;
  EXPECT_EQ(command.error().status, ExitStatus::kUsage);
  EXPECT_NE(command.error().message.find(word), std::string::npos) << command.error().message;
  EXPECT_EQ(command.error().message.find('\n'), std::string::npos) << command.error().message;
}

TEST(Options, HaveSensibleDefaults) {
  const RunOptions options = parse_run({});
  EXPECT_EQ(options.kernel, "kernel");
  EXPECT_TRUE(options.modules.empty());
  EXPECT_EQ(options.memory_bytes, 64ull << 20);
  EXPECT_EQ(options.cpu, &CpuModel::max());
  EXPECT_FALSE(options.timeout.has_value());
  EXPECT_FALSE(options.statistics);
  EXPECT_EQ(options.serial, "stdio");
  EXPECT_EQ(options.code_cache_bytes, 64ull << 20);
  EXPECT_EQ(options.clock, TimeSource::kHost);
}

TEST(Options, AreAllTaken) {
  const RunOptions options = parse_run({"--module",
                                        "one a b",
                                        "--module",
                                        "two",
                                        "--append",
                                        "x=1 y",
                                        "--memory",
                                        "16M",
                                        "--timeout",
                                        "1.5",
                                        "--serial",
                                        "none",
                                        "--display",
                                        "none",
                                        "--code-cache",
                                        "1M",
                                        "--switch",
                                        "link-blocks=off",
                                        "--switch=exact-flags=on",
                                        "--clock=instructions"});
  EXPECT_EQ(options.modules, (std::vector<std::string>{"one a b", "two"}));
  EXPECT_EQ(options.append, "x=1 y");
  EXPECT_EQ(options.memory_bytes, 16ull << 20);
  EXPECT_EQ(options.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(options.serial, "none");
  EXPECT_EQ(options.code_cache_bytes, 1ull << 20);
  EXPECT_EQ(options.clock, TimeSource::kInstructions);
  EXPECT_FALSE(options.switches.link_blocks);
  EXPECT_TRUE(options.switches.exact_flags);
  EXPECT_TRUE(options.switches.lazy_flags);
}

TEST(Options, ChooseBetweenTwoBootProtocols) {
  using Protocol = RunOptions::BootProtocol;
  EXPECT_EQ(parse_run({}).protocol, Protocol::kMultiboot);
  auto command = parse({"run", "--kernel", "bzImage", "--initrd", "disk", "--append", "quiet"});
  ASSERT_TRUE(command.ok()) << command.error().message;
  const auto& options = std::get<RunOptions>(command.value());
  EXPECT_EQ(options.protocol, Protocol::kLinux);
  EXPECT_EQ(options.kernel, "bzImage");
  EXPECT_EQ(options.initrd, "disk");
  EXPECT_EQ(options.append, "quiet");
  EXPECT_TRUE(options.reboot);
  EXPECT_FALSE(parse_run({"--no-reboot"}).reboot);
  expect_usage_error({"run", "--kernel", "a", "--multiboot", "b"}, "give one of the two");
  expect_usage_error({"run", "--kernel", "a", "--module", "b"}, "--module is for --multiboot");
  expect_usage_error({"run", "--multiboot", "a", "--initrd", "b"}, "--initrd is for --kernel");
  expect_usage_error({"run", "--initrd", "b"}, "nothing to boot");
}

TEST(Options, StatisticsMayHaveAFileButNeverTakeTheNextWord) {
  const RunOptions table = parse_run({"--stats", "--memory", "1M"});
  EXPECT_TRUE(table.statistics);
  EXPECT_EQ(table.statistics_file, "");
  const RunOptions file = parse_run({"--stats=out.json"});
  EXPECT_TRUE(file.statistics);
  EXPECT_EQ(file.statistics_file, "out.json");
  expect_usage_error({"run", "--multiboot", "kernel", "--stats", "out.json"}, "out.json");
}

TEST(Options, TextForTheKernelMayBeginWithADash) {
  EXPECT_EQ(parse_run({"--append=-s -v"}).append, "-s -v");
}

TEST(Options, MistakesAreOneSentence) {
  expect_usage_error({}, "no command");
  expect_usage_error({"walk"}, "walk");
  expect_usage_error({"run"}, "--multiboot");
  const auto with = [](std::initializer_list<const char*> more) {
    std::vector<const char*> arguments{"run", "--multiboot", "kernel"};
    arguments.insert(arguments.end(), more);
    return arguments;
  };
  expect_usage_error(with({"--fast"}), "--fast");
  expect_usage_error(with({"extra"}), "extra");
  expect_usage_error(with({"--memory"}), "--memory");
  expect_usage_error(with({"--memory", "1M", "--memory", "2M"}), "--memory");
  expect_usage_error(with({"--memory", "0"}), "more than zero");
  expect_usage_error(with({"--memory", "5000"}), "multiple of 4K");
  expect_usage_error(with({"--memory", "lots"}), "not a size");
  expect_usage_error(with({"--memory", "64G"}), "63G");
  expect_usage_error(with({"--code-cache", "1X"}), "not a size");
  expect_usage_error(with({"--cpu", "z80"}), "pentium3");
  expect_usage_error(with({"--timeout", "soon"}), "not a time");
  expect_usage_error(with({"--clock", "wall"}), "instructions");
  expect_usage_error(with({"--display", "vga"}), "none is the only one");
  expect_usage_error(with({"--serial", ""}), "--serial");
  expect_usage_error(with({"--serial", "unix:"}), "--serial");
  expect_usage_error(with({"--switch", "link-blocks"}), "NAME=on");
  expect_usage_error(with({"--switch", "link-blocks=maybe"}), "NAME=on");
  expect_usage_error(with({"--switch", "warp=on"}), "stack-window");
}

TEST(Options, AnswersGoToStandardOutput) {
  for (const char* question : {"--help", "--version"}) {
    const auto command = parse({question});
    ASSERT_TRUE(command.ok()) << command.error().message;
    EXPECT_NE(std::get<Answer>(command.value()).text.find("trapline"), std::string::npos);
  }
  const auto help = parse({"run", "--help"});
  ASSERT_TRUE(help.ok());
  const std::string& text = std::get<Answer>(help.value()).text;
  for (const char* word :
       {"--kernel", "--multiboot", "--stats[=FILE.json]", "stack-window", "pentium3", "83"})
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
}

TEST(Values, SizesHaveSuffixes) {
  EXPECT_EQ(parse_size("--x", "4096").value(), 4096u);
  EXPECT_EQ(parse_size("--x", "8k").value(), 8192u);
  EXPECT_EQ(parse_size("--x", "3M").value(), 3ull << 20);
  EXPECT_EQ(parse_size("--x", "2G").value(), 2ull << 30);
  for (const char* wrong : {"", "M", "-4096", "+4K", "4 K", "4KB", "4.5M", "0x1000", "1T",
                            "99999999999999999999", "18446744073709551615G", "1"})
    EXPECT_FALSE(parse_size("--x", wrong).ok()) << wrong;
}

TEST(Values, TimesArePositiveSeconds) {
  EXPECT_EQ(parse_seconds("--x", "0.25").value(), std::chrono::milliseconds(250));
  EXPECT_EQ(parse_seconds("--x", "1e12").value(), std::chrono::seconds(1000000000));
  EXPECT_EQ(parse_seconds("--x", "1e-12").value(), std::chrono::nanoseconds(1));
  for (const char* wrong : {"", "0", "-1", "nan", "inf", "1s", "1e999"})
    EXPECT_FALSE(parse_seconds("--x", wrong).ok()) << wrong;
}

TEST(Values, MemoryIsBoundedByTheHost) {
  EXPECT_TRUE(parse_memory("1G", CpuModel::max(), 1ull << 30).ok());
  const auto more = parse_memory("1G", CpuModel::max(), (1ull << 30) - 1);
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().status, ExitStatus::kHost);
  EXPECT_NE(more.error().message.find("1023M"), std::string::npos) << more.error().message;
  EXPECT_GT(host_memory_bytes(), 0u);
  const CpuModel& old = *CpuModel::find("pentium");
  EXPECT_TRUE(parse_memory("3G", old, 1ull << 40).ok());
  const auto too_much = parse_memory("5G", old, 1ull << 40);
  ASSERT_FALSE(too_much.ok());
  EXPECT_EQ(too_much.error().status, ExitStatus::kUsage);
  EXPECT_NE(too_much.error().message.find("PAE"), std::string::npos);
  EXPECT_TRUE(parse_memory("5G", *CpuModel::find("pentium3"), 1ull << 40).ok());
}

}  // namespace
}  // namespace trapline
