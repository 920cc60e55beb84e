#include "shadowmmu/physical_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

namespace trapline {
namespace {

constexpr uint64_t kMebi = 1u << 20;
constexpr uint64_t kGibi = 1u << 30;

std::unique_ptr<PhysicalMemory> memory_of(uint64_t bytes) {
  auto memory = PhysicalMemory::create(bytes);
  EXPECT_TRUE(memory.ok()) << memory.error().message;
  return memory.take();
}

class SilentDevice final : public MmioHandler {
 public:
  uint64_t mmio_read(Physical, uint32_t) override { return 0; }
  void mmio_write(Physical, uint32_t, uint64_t) override {}
};

long resident_pages() {
  std::ifstream statm("/proc/self/statm");
  long size = 0, resident = 0;
  statm >> size >> resident;
  return resident;
}

TEST(PhysicalMemory, RamIsZeroAndReadsBackAcrossFrames) {
  const auto memory = memory_of(4 * kMebi);
  EXPECT_EQ(memory->ram_bytes(), 4 * kMebi);
  EXPECT_EQ(memory->ram_end(), Physical{4 * kMebi});
  std::array<std::byte, 6000> in{}, out{};
  memory->read({0x1ff0}, out);
  EXPECT_EQ(out, in);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::byte>(i * 7);
  memory->write({0x1ff0}, in);
  memory->read({0x1ff0}, out);
  EXPECT_EQ(out, in);
  EXPECT_EQ(memory->frame(3).host[0x10], in[0x1020]);
}

TEST(PhysicalMemory, WhatIsNotThereReadsAsOnesAndTakesNothing) {
  const auto memory = memory_of(kMebi);
  std::array<std::byte, 8> out{};
  memory->write({kMebi - 4}, std::array<std::byte, 8>{});
  memory->read({kMebi - 4}, out);
  EXPECT_EQ(out[3], std::byte{0});
  EXPECT_EQ(out[4], std::byte{0xff});
  EXPECT_EQ(memory->frame(kMebi >> kPageShift).kind, FrameKind::kAbsent);
  EXPECT_EQ(memory->frame(~uint64_t{0}).kind, FrameKind::kAbsent);
  EXPECT_TRUE(memory->is_ram({0}, kMebi));
  EXPECT_FALSE(memory->is_ram({1}, kMebi));
  EXPECT_FALSE(memory->is_ram({~uint64_t{0}}, 2));
}

TEST(PhysicalMemory, RamAboveThreeGibibytesMovesAboveFourAndCostsNothingUntouched) {
  const long before = resident_pages();
  const auto memory = memory_of(64 * kGibi);
  EXPECT_EQ(memory->ram_end(), Physical{65 * kGibi});
  EXPECT_TRUE(memory->is_ram({3 * kGibi - 4096}, 4096));
  EXPECT_EQ(memory->frame(3 * kGibi >> kPageShift).kind, FrameKind::kAbsent);
  EXPECT_EQ(memory->frame(4 * kGibi >> kPageShift).kind, FrameKind::kRam);
  EXPECT_EQ(memory->frame((65 * kGibi >> kPageShift) - 1).kind, FrameKind::kRam);
  EXPECT_EQ(memory->frame(65 * kGibi >> kPageShift).kind, FrameKind::kAbsent);
  const std::array<std::byte, 2> in{std::byte{1}, std::byte{2}};
  memory->write({5 * kGibi}, in);
  std::array<std::byte, 2> out{};
  memory->read({5 * kGibi}, out);
  EXPECT_EQ(in, out);
  EXPECT_LT(resident_pages() - before, 1000);
}

TEST(PhysicalMemory, NonsensicalSizesAreRefusedInOneSentence) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4097}, 64 * kGibi + 4096, uint64_t{1} << 60}) {
    const auto memory = PhysicalMemory::create(bytes);
    ASSERT_FALSE(memory.ok()) << bytes;
    EXPECT_EQ(memory.error().status, ExitStatus::kUsage);
    EXPECT_NE(memory.error().message.find("--memory"), std::string::npos);
  }
}

// In a child, because a limit on address space cannot be taken back where sanitizers run.
TEST(PhysicalMemory, MoreThanTheHostGivesIsAnErrorNotACrash) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer needs the address space that this test takes away";
#endif
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit{2 * kGibi, 2 * kGibi};
    setrlimit(RLIMIT_AS, &limit);
    const auto memory = PhysicalMemory::create(8 * kGibi);
    const bool right = !memory.ok() && memory.error().status == ExitStatus::kHost &&
                       memory.error().message.find("8192 MiB") != std::string::npos;
    _exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(PhysicalMemory, RomHidesRamAndUnmapShowsItAgain) {
  const auto memory = memory_of(kMebi);
  const std::array<std::byte, 1> ram{std::byte{0x11}};
  memory->write({0xf0000}, ram);
  std::vector<std::byte> rom(2 * kPageSize, std::byte{0x22});
  ASSERT_TRUE(memory->map_rom({0xf0000}, rom).ok());
  EXPECT_EQ(memory->frame(0xf0).kind, FrameKind::kRom);
  EXPECT_EQ(memory->frame(0xf1).kind, FrameKind::kRom);
  EXPECT_EQ(memory->frame(0xf2).kind, FrameKind::kRam);
  rom.assign(rom.size(), std::byte{0x33});  // It was copied.
  std::array<std::byte, 1> out{};
  memory->write({0xf0000}, ram);  // And ignores writes.
  memory->read({0xf0000}, out);
  EXPECT_EQ(out[0], std::byte{0x22});

  SilentDevice device;
  ASSERT_TRUE(memory->map_mmio({0xf0000}, kPageSize, device).ok());
  EXPECT_EQ(memory->frame(0xf0).mmio, &device);
  memory->read({0xf0000}, out);
  EXPECT_EQ(out[0], std::byte{0xff});
  memory->unmap({0xf0000}, 2 * kPageSize);
  EXPECT_EQ(memory->frame(0xf0).kind, FrameKind::kRom);
  EXPECT_EQ(memory->frame(0xf1).kind, FrameKind::kRam);
  memory->unmap({0xf0000}, 2 * kPageSize);
  EXPECT_EQ(memory->frame(0xf0).kind, FrameKind::kRam);
  memory->read({0xf0000}, out);
  EXPECT_EQ(out[0], std::byte{0x11});
}

TEST(PhysicalMemory, DevicesMayLieFarAboveRamAndOnlyInWholeFrames) {
  const auto memory = memory_of(kMebi);
  SilentDevice device;
  ASSERT_TRUE(memory->map_mmio({0xfee00000}, kPageSize, device).ok());
  EXPECT_EQ(memory->frame(0xfee00).kind, FrameKind::kMmio);
  EXPECT_EQ(memory->frame(0xfee01).kind, FrameKind::kAbsent);
  EXPECT_FALSE(memory->map_mmio({0xfee00800}, kPageSize, device).ok());
  EXPECT_FALSE(memory->map_mmio({0xfee00000}, 100, device).ok());
  EXPECT_FALSE(memory->map_mmio({uint64_t{1} << kPhysicalBits}, kPageSize, device).ok());
  EXPECT_FALSE(memory->map_rom({0xf0000}, std::vector<std::byte>(100)).ok());
}

TEST(PhysicalMemory, DenialsStayWithTheFrameNumber) {
  const auto memory = memory_of(kMebi);
  memory->set_denial(5, denial::kCode);
  memory->set_denial(5, denial::kWatch);
  memory->set_denial(kMebi, denial::kCode);
  EXPECT_EQ(memory->frame(5).denials, denial::kCode | denial::kWatch);
  EXPECT_EQ(memory->frame(kMebi).denials, 0);
  memory->clear_denial(5, denial::kCode);
  EXPECT_EQ(memory->frame(5).denials, denial::kWatch);
}

}  // namespace
}  // namespace trapline
