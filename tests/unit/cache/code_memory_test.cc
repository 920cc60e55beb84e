#include "cache/code_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

TEST(CodeMemory, WhatIsWrittenThroughOneMappingRunsThroughTheOther) {
  auto memory = CodeMemory::create(1 << 16);
  ASSERT_TRUE(memory.ok()) << memory.error().message;
  CodeMemory& code = *memory.value();
  constexpr unsigned char kReturn42[] = {0xb8, 42, 0, 0, 0, 0xc3};
  std::memcpy(code.writable(code.base() + 64), kReturn42, sizeof kReturn42);
  const auto function = reinterpret_cast<int (*)()>(uintptr_t{code.base()} + 64);
  EXPECT_EQ(function(), 42);
  EXPECT_TRUE(code.contains(code.base() + 64));
  EXPECT_FALSE(code.contains(code.base() + code.size()));
}

TEST(CodeMemory, KeepsWhatWasWrittenWhenItBecomesHuge) {
  constexpr uint32_t kBytes = 5 << 20;  // Two and a half.
  for (const bool huge : {false, true}) {
    auto memory = CodeMemory::create(kBytes, huge);
    ASSERT_TRUE(memory.ok()) << memory.error().message;
    CodeMemory& code = *memory.value();
    const auto executable = [&](uint32_t at) {
      return *reinterpret_cast<const unsigned char*>(uintptr_t{code.base()} + at);
    };
    for (uint32_t at = 0; at < kBytes; at += 4096) {
      *code.writable(code.base() + at) = static_cast<std::byte>(at >> 12);
      code.prepare(code.base() + at);
      code.prepare_down(code.base() + kBytes - at);
      ASSERT_EQ(executable(at), at >> 12 & 0xff);
    }
    for (uint32_t at = 0; at < kBytes; at += 4096) ASSERT_EQ(executable(at), at >> 12 & 0xff);
  }
}

TEST(CodeMemory, TakesAWholeHugePageWhereAPartIsInUse) {
  for (const bool huge : {false, true}) {
    auto memory = CodeMemory::create(8 << 20, huge);
    ASSERT_TRUE(memory.ok()) << memory.error().message;
    CodeMemory& code = *memory.value();
    const auto resident = [&](uint32_t at) {
      unsigned char page = 0;
      EXPECT_EQ(mincore(code.writable(code.base() + at), 4096, &page), 0);
      return (page & 1) != 0;
    };
    constexpr uint32_t kMiddle = 1 << 20;
    EXPECT_FALSE(resident(kMiddle));
    if (huge && !make_huge(code.writable(code.base()))) GTEST_SKIP() << "the host has none";
    constexpr uint32_t kTop = 7 << 20;
    EXPECT_FALSE(resident(kTop));
    code.prepare_down(code.base() + (8 << 20) - (512 << 10));
    EXPECT_EQ(resident(kTop), huge);
    constexpr uint32_t kSecond = 2 << 20;
    code.prepare(code.base() + kSecond + (512 << 10));
    EXPECT_EQ(resident(kSecond + kMiddle), huge);
  }
}

TEST(CodeMemory, SaysWhatToDoWhenTheHostRefuses) {
  auto memory = CodeMemory::create(size_t{1} << 50);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error().status, ExitStatus::kHost);
  EXPECT_NE(memory.error().message.find("--code-cache"), std::string::npos);
}

}  // namespace
}  // namespace trapline
