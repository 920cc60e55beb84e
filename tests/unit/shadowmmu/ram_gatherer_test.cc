#include "shadowmmu/ram_gatherer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr size_t kPieces = 6;
constexpr size_t kBytes = kPieces * kHugePage;
constexpr size_t kPages = kHugePage / 4096;

class RamGathererTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = memfd_create("trapline-test", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(file_, kBytes), 0);
    ram_ = static_cast<std::byte*>(map_aligned(file_, kBytes, PROT_READ | PROT_WRITE));
    ASSERT_NE(ram_, nullptr);
    touch(kPieces - 1, 1);
    if (!make_huge(ram_ + (kPieces - 1) * kHugePage)) GTEST_SKIP() << "the host has none";
    gatherer_ = {ram_, kBytes, file_};
  }
  void TearDown() override {
    if (ram_) munmap(ram_, kBytes);
    close(file_);
  }
  /// The first pages of a piece.
  void touch(size_t piece, size_t pages) {
    for (size_t i = 0; i < pages; ++i)
      ram_[piece * kHugePage + i * 4096] = static_cast<std::byte>(i + 1);
  }
  uint64_t resident() const {
    struct stat status {};
    fstat(file_, &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  void pass_time(int rounds) {
    for (int i = 0; i < rounds; ++i) gatherer_.go_on(now_ += kSecond);
  }

  int file_ = -1;
  std::byte* ram_ = nullptr;
  RamGatherer gatherer_;
  uint64_t now_ = 0;
};

TEST_F(RamGathererTest, GathersWhatIsInUse) {
  const uint64_t before = resident();
  touch(1, kPages / 2);
  touch(2, kPages / 2 - 1);
  touch(3, kPages);
  pass_time(20);
  EXPECT_EQ(gatherer_.gathered(), 3u);  // With the one that SetUp() has made.
  EXPECT_EQ(resident() - before, 2 * kHugePage + (kPages / 2 - 1) * 4096);
  for (size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(ram_[kHugePage + i * 4096],
              i < kPages / 2 ? static_cast<std::byte>(i + 1) : std::byte{0});
    EXPECT_EQ(ram_[3 * kHugePage + i * 4096], static_cast<std::byte>(i + 1));
  }
}

TEST_F(RamGathererTest, TakesItsTime) {
  for (size_t piece = 0; piece + 1 < kPieces; ++piece) touch(piece, kPages);
  gatherer_.go_on(now_);
  EXPECT_EQ(gatherer_.gathered(), 1u);
  gatherer_.go_on(now_ + 1'000'000);
  EXPECT_EQ(gatherer_.gathered(), 1u);
  pass_time(20);
  EXPECT_EQ(gatherer_.gathered(), kPieces);
}

TEST_F(RamGathererTest, SeesWhatComesLaterAndStartsOver) {
  touch(0, kPages);
  pass_time(20);
  EXPECT_EQ(gatherer_.gathered(), 2u);
  touch(4, kPages);
  pass_time(20);
  EXPECT_EQ(gatherer_.gathered(), 3u);
  ASSERT_EQ(fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBytes), 0);
  gatherer_.start_over();
  pass_time(20);
  EXPECT_EQ(resident(), 0u);
  touch(4, kPages);
  pass_time(20);
  EXPECT_EQ(gatherer_.gathered(), 4u);
}

}  // namespace
}  // namespace trapline
