#include "runtime/native/processor_limit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace trapline {
namespace {

using std::filesystem::path;

class ProcessorLimit : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "limit.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void file(const path& name, const std::string& text) {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }

  path root_;
};

TEST_F(ProcessorLimit, ThereIsNoneWhereTheHostTellsNothing) {
  EXPECT_TRUE(std::isinf(processors_granted(root_)));
  file("proc/self/cgroup", "nonsense\n12:cpu\n0::/gone\n");
  EXPECT_TRUE(std::isinf(processors_granted(root_)));
}

TEST_F(ProcessorLimit, IsThatOfTheGroup) {
  file("proc/self/cgroup", "0::/a/b\n");
  file("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(processors_granted(root_), 1.5);
  file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_TRUE(std::isinf(processors_granted(root_)));
}

TEST_F(ProcessorLimit, IsTheLeastOfThoseThatTheGroupIsPartOf) {
  file("proc/self/cgroup", "0::/a/b\n");
  file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  file("sys/fs/cgroup/a/cpu.max", "300000 100000\n");
  EXPECT_DOUBLE_EQ(processors_granted(root_), 3);
  file("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(processors_granted(root_), 0.5);
}

TEST_F(ProcessorLimit, IsFoundInTheFirstVersionOfControlGroups) {
  file("proc/self/cgroup", "5:cpuset:/x\n3:cpu,cpuacct:/x/y\n1:name=systemd:/\n");
  file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  EXPECT_TRUE(std::isinf(processors_granted(root_)));
  file("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "20000\n");
  file("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_period_us", "10000\n");
  EXPECT_DOUBLE_EQ(processors_granted(root_), 2);
  file("sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "1000\n");
  file("sys/fs/cgroup/cpuset/x/cpu.cfs_period_us", "10000\n");
  EXPECT_DOUBLE_EQ(processors_granted(root_), 2);  // Not a hierarchy of processor time.
}

}  // namespace
}  // namespace trapline
