#include "cache/code_memory.h"

#include <gtest/gtest.h>

#include <cstring>

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

TEST(CodeMemory, SaysWhatToDoWhenTheHostRefuses) {
  auto memory = CodeMemory::create(size_t{1} << 50);
  ASSERT_FALSE(memory.ok());
  EXPECT_EQ(memory.error().status, ExitStatus::kHost);
  EXPECT_NE(memory.error().message.find("--code-cache"), std::string::npos);
}

}  // namespace
}  // namespace trapline
