// Crash bundles: written when an invariant breaks, read again, and run again.
#include "runtime/crash_bundle.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "runtime/cli/replay.h"

namespace trapline {
namespace {

constexpr uint32_t kCode = 0x5000;
constexpr uint32_t kTables = 0x10000;

class CrashBundles : public ::testing::Test {
 protected:
  CrashBundles() {
    std::string pattern = ::testing::TempDir() + "/bundlesXXXXXX";
    folder_ = mkdtemp(pattern.data());
    options_.memory_bytes = 1u << 20;
    options_.code_cache_bytes = 1u << 20;
    options_.cpu = CpuModel::find("pentium3");
    options_.switches.stack_window = false;
    options_.crash_directory = folder_;
  }
  ~CrashBundles() override { std::filesystem::remove_all(folder_); }

  /// With paging, so that the bundle needs the tables.
  void run(const std::vector<uint8_t>& code) {
    const auto machine = Machine::create(options_).take();
    machine->write_memory({kCode}, std::as_bytes(std::span(code)));
    const std::array<uint32_t, 1> directory{(kTables + 0x1000) | 7};
    machine->write_memory({kTables}, std::as_bytes(std::span(directory)));
    std::array<uint32_t, 1024> table;
    for (uint32_t i = 0; i < table.size(); ++i) table[i] = (i % 256) << 12 | 7;
    machine->write_memory({kTables + 0x1000}, std::as_bytes(std::span(table)));
    CpuState state = CpuState::flat32(0);
    state.cr0 |= cr0::kPg;
    state.cr3 = kTables;
    state.eip = 0x100000 + kCode;  // Not its physical address.
    state.gpr[kEsp] = 0x8000;
    state.gpr[kEbx] = 0x12345678;
    machine->set_state(state);
    machine->run({uint64_t{10}, {}});
  }

  CrashBundle only_bundle() {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      found.push_back(entry.path());
    EXPECT_EQ(found.size(), 1u);
    path_ = found.empty() ? "" : found.front();
    auto read = read_bundle(path_);
    EXPECT_TRUE(read.ok()) << read.error().message;
    return read.ok() ? read.take() : CrashBundle{};
  }

  std::string folder_;
  std::string path_;
  MachineOptions options_;
};
using CrashBundlesDeathTest = CrashBundles;

TEST_F(CrashBundlesDeathTest, AreWrittenForABrokenInvariantAndRunAgain) {
  options_.mutation = Mutation::kBrokenInvariant;
  EXPECT_DEATH(run({0x43, 0x50, 0xf4}), "does not hold.*\n.*trapline replay .*runs it again");
  CrashBundle bundle = only_bundle();
  EXPECT_NE(bundle.reason.find("kBrokenInvariant"), std::string::npos) << bundle.reason;
  EXPECT_EQ(bundle.options.cpu, CpuModel::find("pentium3"));
  EXPECT_FALSE(bundle.options.switches.stack_window);
  EXPECT_EQ(bundle.options.memory_bytes, 1u << 20);
  EXPECT_EQ(bundle.state.eip, 0x100000 + kCode + 2);
  EXPECT_EQ(bundle.state.gpr[kEbx], 0x12345679u);
  EXPECT_EQ(bundle.state.gpr[kEsp], 0x7ffcu);
  EXPECT_EQ(bundle.code()[0], std::byte{0xf4});
  EXPECT_DEATH(static_cast<void>(replay_bundle({path_})), "does not hold");
  // Without the mistake the same goes on.
  bundle.options.mutation = Mutation::kNone;
  const auto machine = machine_of(bundle).take();
  EXPECT_EQ(machine->run({uint64_t{10}, {}}).kind, Exit::Kind::kHalt);
}

TEST_F(CrashBundlesDeathTest, AreWrittenForAFaultOfTranslatedCode) {
  options_.mutation = Mutation::kWildAccess;
  EXPECT_DEATH(run({0x43, 0x50, 0x90, 0xf4}), "translated code made the host fault");
  const CrashBundle bundle = only_bundle();
  EXPECT_EQ(bundle.state.eip, 0x100000 + kCode + 2);
  EXPECT_EQ(bundle.state.gpr[kEbx], 0x12345679u);
  EXPECT_EQ(bundle.state.gpr[kEsp], 0x7ffcu);
}

TEST_F(CrashBundlesDeathTest, AreNotWrittenUnasked) {
  options_.mutation = Mutation::kBrokenInvariant;
  options_.crash_directory.clear();
  EXPECT_DEATH(run({0xf4}), "does not hold");
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(CrashBundles, SayWhatCanBeSeenInThem) {
  CrashBundle bundle;
  bundle.reason = "the moon is full";
  bundle.options = options_;
  bundle.state = CpuState::flat32(0);
  bundle.state.eip = kCode;
  bundle.code_page = kCode;
  bundle.pages.push_back({kCode, {}});
  bundle.pages[0].bytes[0] = std::byte{0x41};
  bundle.pages[0].bytes[1] = std::byte{0xf4};
  const auto path = write_bundle(bundle, folder_);
  ASSERT_TRUE(path.ok());
  ::testing::internal::CaptureStdout();
  const auto replayed = replay_bundle({path.value()});
  const std::string shown = ::testing::internal::GetCapturedStdout();
  ASSERT_TRUE(replayed.ok()) << replayed.error().message;
  EXPECT_NE(shown.find("the moon is full"), std::string::npos) << shown;
  EXPECT_NE(shown.find("00005000  inc ecx"), std::string::npos) << shown;
  EXPECT_NE(shown.find("it halted after 2 instructions"), std::string::npos) << shown;
}

TEST_F(CrashBundles, ThatAreBrokenAreRefused) {
  EXPECT_FALSE(read_bundle(folder_ + "/none").ok());
  EXPECT_FALSE(parse_bundle("").ok());
  EXPECT_FALSE(parse_bundle("trapline crash bundle 1\nweather 5\n").ok());
  EXPECT_FALSE(parse_bundle("trapline crash bundle 1\nstate 00ff\n").ok());
  EXPECT_FALSE(parse_bundle("trapline crash bundle 1\ncpu z80\n").ok());
  EXPECT_FALSE(parse_bundle("trapline crash bundle 1\npage 1000 zz\n").ok());
  EXPECT_TRUE(parse_bundle("trapline crash bundle 1\nmemory 65536\n").ok());
}

}  // namespace
}  // namespace trapline
