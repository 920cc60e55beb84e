// Blocks that come, are found, are linked, and go away.
#include "cache/code_cache.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

namespace trapline {
namespace {

constexpr uint64_t kFrame = 7;
constexpr uint64_t kOtherFrame = 9;
constexpr uint32_t kJump = 4;   ///< Where test blocks have the rel32 of their exits,
constexpr uint32_t kStub = 12;  ///< and its stub.
constexpr CodeEntry kMiss{1, 2};

class CodeCacheTest : public ::testing::Test {
 protected:
  CodeCacheTest() : memory_(CodeMemory::create(1 << 20).take()), cache_(*memory_, 64, kMiss) {}

  EntryTable& table(uint64_t frame = kFrame) { return cache_.table(frame, 0x400, 0); }

  /// A block at an offset of the page, with that many exits.
  Block& insert(uint16_t offset, size_t exits = 0, uint8_t variant = 0,
                std::vector<CodeRange> ranges = {}, SecondPage second = {}) {
    if (ranges.empty()) ranges.push_back({offset, 4});
    const std::vector<NewExit> made(exits, {.target = 0, .jump = kJump, .stub = kStub});
    NewBlock in;
    in.offset = offset;
    in.variant = variant;
    in.code = code_;
    in.host_entry = 2;
    in.exits = made;
    in.records = kRecords;
    in.ranges = ranges;
    in.second = second;
    return cache_.insert(table(), in);
  }

  /// Where the block's jump goes.
  uint32_t jump_target(const Block& block) {
    uint32_t relative = 0;
    std::memcpy(&relative, memory_->writable(block.code + kJump), sizeof relative);
    return block.code + kJump + 4 + relative;
  }
  uint32_t stub_of(const Block& block) { return block.code + kStub; }

  static constexpr std::array<CodeRecord, 3> kRecords = {
      CodeRecord{.host = 0, .guest = 0}, {.host = 3, .guest = 1}, {.host = 10, .guest = 2}};
  const std::vector<uint8_t> code_ = std::vector<uint8_t>(20, 0x90);
  std::unique_ptr<CodeMemory> memory_;
  CodeCache cache_;
};

TEST_F(CodeCacheTest, FindsWhatWasInserted) {
  EXPECT_EQ(cache_.find(table(), 5, 0), nullptr);
  EXPECT_EQ(table().entry[5], kMiss);
  Block& block = insert(5);
  Block& other_variant = insert(5, 0, 2);
  EXPECT_EQ(cache_.find(table(), 5, 0), &block);
  EXPECT_EQ(cache_.find(table(), 5, 2), &other_variant);
  EXPECT_EQ(table().entry[5], (CodeEntry{block.code + 2, block.code}));
  EXPECT_EQ(cache_.find(table(kOtherFrame), 5, 0), nullptr);
}

TEST_F(CodeCacheTest, MapsHostAddressesToBlocksAndRecords) {
  std::vector<Block*> blocks;
  for (uint16_t i = 0; i < 1000; ++i) blocks.push_back(&insert(i));
  for (const Block* block : blocks) {
    EXPECT_EQ(cache_.block_at(block->code), block);
    EXPECT_EQ(cache_.block_at(block->code + block->code_size - 1), block);
    EXPECT_EQ(cache_.block_at(block->code + block->code_size), nullptr);
    EXPECT_EQ(cache_.record_at(*block, block->code + 2).guest, 0);
    EXPECT_EQ(cache_.record_at(*block, block->code + 3).guest, 1);
    EXPECT_EQ(cache_.record_at(*block, block->code + 19).guest, 2);
  }
  EXPECT_EQ(cache_.block_at(memory_->base()), nullptr);
}

TEST_F(CodeCacheTest, LinksUntilTheTargetIsKilled) {
  Block& target = insert(0);
  std::vector<Block*> sources;
  for (uint16_t i = 1; i <= 5; ++i) sources.push_back(&insert(i * 8, 1));
  for (const Block* source : sources) cache_.link(source->first_exit, target);
  for (const Block* source : sources) EXPECT_EQ(jump_target(*source), target.host_entry);
  cache_.kill(target);
  for (const Block* source : sources) EXPECT_EQ(jump_target(*source), stub_of(*source));
  // The next block there can be linked in its turn.
  Block& next = insert(0);
  for (const Block* source : sources) cache_.link(source->first_exit, next);
  for (const Block* source : sources) EXPECT_EQ(jump_target(*source), next.host_entry);
  cache_.kill(next);
  for (const Block* source : sources) EXPECT_EQ(jump_target(*source), stub_of(*source));
}

TEST_F(CodeCacheTest, ExitsThatWereCutAreLinkedAgain) {
  Block& target = insert(0);
  Block& first = insert(8, 1);
  Block& second = insert(16, 1);
  for (int round = 0; round < 3; ++round) {
    cache_.link(first.first_exit, target);
    cache_.link(second.first_exit, target);
    EXPECT_EQ(jump_target(first), target.host_entry);
    cache_.cut_exits(first);
    EXPECT_EQ(jump_target(first), stub_of(first));
    EXPECT_EQ(jump_target(second), target.host_entry);
  }
  cache_.link(first.first_exit, target);
  cache_.kill(target);
  EXPECT_EQ(jump_target(first), stub_of(first));
  EXPECT_EQ(jump_target(second), stub_of(second));
}

TEST_F(CodeCacheTest, AnExitCanGoToAnotherLiveBlock) {
  Block& one = insert(0);
  Block& other = insert(0, 0, 1);
  Block& first = insert(8, 1);
  Block& second = insert(16, 1);
  for (const Block* source : {&first, &second}) cache_.link(source->first_exit, one);
  cache_.cut_exits(first);
  cache_.link(first.first_exit, other);
  cache_.kill(one);
  EXPECT_EQ(jump_target(first), other.host_entry);
  EXPECT_EQ(jump_target(second), stub_of(second));
  cache_.kill(other);
  EXPECT_EQ(jump_target(first), stub_of(first));
}

TEST_F(CodeCacheTest, DeadBlocksAreNotLinked) {
  Block& target = insert(0);
  Block& source = insert(8, 1);
  cache_.kill(source);
  cache_.link(source.first_exit, target);
  EXPECT_EQ(cache_.counters().links, 0u);
  EXPECT_EQ(cache_.find(table(), 8, 0), nullptr);
}

TEST_F(CodeCacheTest, WritesKillWhatDependsOnThem) {
  Block& plain = insert(0x100);
  Block& looks_ahead = insert(0x200, 0, 0, {{0x200, 4}, {0x300, 2}});
  EXPECT_FALSE(cache_.invalidate(kFrame, 0x104, 0xfc));
  EXPECT_FALSE(cache_.invalidate(kOtherFrame, 0, kPageSize));
  EXPECT_TRUE(cache_.invalidate(kFrame, 0x301, 1));
  EXPECT_TRUE(looks_ahead.dead);
  EXPECT_FALSE(plain.dead);
  EXPECT_TRUE(cache_.invalidate(kFrame, 0xff, 2));
  EXPECT_TRUE(plain.dead);
  EXPECT_FALSE(cache_.has_code(kFrame));
}

TEST_F(CodeCacheTest, SecondPages) {
  Block& straddles = insert(0xffe, 0, 0, {{0xffe, 2}}, {kOtherFrame, 3});
  EXPECT_TRUE(cache_.has_code(kOtherFrame));
  EXPECT_FALSE(cache_.invalidate(kOtherFrame, 3, 10));
  EXPECT_TRUE(cache_.invalidate(kOtherFrame, 2, 1));
  EXPECT_TRUE(straddles.dead);
  EXPECT_EQ(cache_.find(table(), 0xffe, 0), nullptr);
}

TEST_F(CodeCacheTest, FlushForgetsAll) {
  const uint32_t first = insert(0).code;
  for (uint16_t i = 1; i < 100; ++i) insert(i, 2);
  cache_.flush();
  EXPECT_EQ(cache_.find(table(), 0, 0), nullptr);
  EXPECT_FALSE(cache_.has_code(kFrame));
  EXPECT_EQ(cache_.block_at(first), nullptr);
  EXPECT_EQ(cache_.next_exit(), 0u);
  EXPECT_EQ(insert(0).code, first);
}

}  // namespace
}  // namespace trapline
