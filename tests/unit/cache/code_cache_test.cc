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

/// With blocks in one piece, and with what starts at an offset of them kept apart.
class CodeCacheTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  CodeCacheTest() : memory_(CodeMemory::create(1 << 20).take()), cache_(*memory_, 64, kMiss) {}

  EntryTable& table(uint64_t frame = kFrame) { return cache_.table(frame, 0x400, 0); }

  /// A block at an offset of the page, with that many exits.
  Block& insert(uint16_t offset, size_t exits = 0, uint8_t variant = 0,
                std::vector<CodeRange> ranges = {}, SecondPage second = {}, bool movable = false) {
    if (ranges.empty()) ranges.push_back({offset, 4});
    const std::vector<NewExit> made(exits, {.target = 0x400008, .jump = kJump, .stub = kStub});
    NewBlock in;
    in.offset = offset;
    in.variant = variant;
    in.code = code_;
    in.cold_start = GetParam();
    in.host_entry = 2;
    in.exits = made;
    in.records = kRecords;
    in.ranges = ranges;
    in.second = second;
    in.movable = movable;
    return cache_.insert(table(), in);
  }

  /// Where the block's jump goes.
  uint32_t jump_target(const Block& block) {
    uint32_t relative = 0;
    std::memcpy(&relative, memory_->writable(block.code + kJump), sizeof relative);
    return block.code + kJump + 4 + relative;
  }
  uint32_t stub_of(const Block& block) { return block.address(kStub); }

  static constexpr std::array<CodeRecord, 3> kRecords = {
      CodeRecord{.host = 0, .guest = 0}, {.host = 3, .guest = 1}, {.host = 10, .guest = 2}};
  const std::vector<uint8_t> code_ = std::vector<uint8_t>(20, 0x90);
  std::unique_ptr<CodeMemory> memory_;
  CodeCache cache_;
};

TEST_P(CodeCacheTest, FindsWhatWasInserted) {
  EXPECT_EQ(cache_.find(table(), 5, 0), nullptr);
  EXPECT_EQ(table().entry[5], kMiss);
  Block& block = insert(5);
  Block& other_variant = insert(5, 0, 2);
  EXPECT_EQ(cache_.find(table(), 5, 0), &block);
  EXPECT_EQ(cache_.find(table(), 5, 2), &other_variant);
  EXPECT_EQ(table().entry[5], (CodeEntry{block.code + 2, block.code}));
  EXPECT_EQ(cache_.find(table(kOtherFrame), 5, 0), nullptr);
}

TEST_P(CodeCacheTest, MapsHostAddressesToBlocksAndRecords) {
  std::vector<Block*> blocks;
  for (uint16_t i = 0; i < 1000; ++i) blocks.push_back(&insert(i));
  for (const Block* block : blocks) {
    EXPECT_EQ(cache_.block_at(block->code), block);
    for (uint32_t i = 0; i < code_.size(); ++i) {
      EXPECT_EQ(cache_.block_at(block->address(i)), block);
      EXPECT_EQ(block->offset_of(block->address(i)), i);
    }
    EXPECT_EQ(cache_.block_at(block->code + block->code_size), nullptr);
    EXPECT_EQ(cache_.record_at(*block, block->code + 2).guest, 0);
    EXPECT_EQ(cache_.record_at(*block, block->code + 3).guest, 1);
    EXPECT_EQ(cache_.record_at(*block, block->address(19)).guest, 2);
  }
  EXPECT_EQ(cache_.block_at(memory_->base()), nullptr);
}

TEST_P(CodeCacheTest, LinksUntilTheTargetIsKilled) {
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

TEST_P(CodeCacheTest, ExitsThatWereCutAreLinkedAgain) {
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

TEST_P(CodeCacheTest, AnExitCanGoToAnotherLiveBlock) {
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

TEST_P(CodeCacheTest, DeadBlocksAreNotLinked) {
  Block& target = insert(0);
  Block& source = insert(8, 1);
  cache_.kill(source);
  cache_.link(source.first_exit, target);
  EXPECT_EQ(cache_.counters().links, 0u);
  EXPECT_EQ(cache_.find(table(), 8, 0), nullptr);
}

TEST_P(CodeCacheTest, WritesKillWhatDependsOnThem) {
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

TEST_P(CodeCacheTest, SecondPages) {
  Block& straddles = insert(0xffe, 0, 0, {{0xffe, 2}}, {kOtherFrame, 3});
  EXPECT_TRUE(cache_.has_code(kOtherFrame));
  EXPECT_FALSE(cache_.invalidate(kOtherFrame, 3, 10));
  EXPECT_TRUE(cache_.invalidate(kOtherFrame, 2, 1));
  EXPECT_TRUE(straddles.dead);
  EXPECT_EQ(cache_.find(table(), 0xffe, 0), nullptr);
}

TEST_P(CodeCacheTest, PartsThatLieApartStillReachEachOther) {
  constexpr uint32_t kOutside = 0x1000;
  insert(0);
  std::vector<uint8_t> code(20, 0x90);
  const auto put = [&](uint32_t at, uint32_t distance) {
    std::memcpy(&code[at], &distance, sizeof distance);
  };
  put(4, 16 - 8);                                    // From the first part into the other,
  put(12, 2 - 16u);                                  // back,
  put(16, kOutside - (cache_.next_address() + 20));  // and to somewhere else.
  using To = CodeReference::To;
  const std::array<CodeReference, 3> references = {
      CodeReference{4, To::kCold}, {12, To::kHot}, {16, To::kOutside}};
  NewBlock in;
  in.offset = 8;
  in.code = code;
  in.cold_start = GetParam();
  if (in.cold_start < code.size()) in.references = references;
  in.records = kRecords;
  const Block& block = cache_.insert(table(), in);
  const auto target = [&](uint32_t at) {
    uint32_t distance = 0;
    std::memcpy(&distance, memory_->writable(block.address(at)), sizeof distance);
    return block.address(at) + 4 + distance;
  };
  EXPECT_EQ(target(4), block.address(16));
  EXPECT_EQ(target(12), block.address(2));
  EXPECT_EQ(target(16), kOutside);
}

TEST_P(CodeCacheTest, CopiesWhatAnotherPageHasOfTheFrame) {
  Block& block = insert(5, 1, 0, {}, {}, true);
  EntryTable& other = cache_.table(kFrame, 0x500, 0);
  ASSERT_EQ(cache_.find(other, 5, 0), nullptr);
  cache_.link(block.first_exit, block);
  Block* copy = cache_.copy_for(other, 5, 0);
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(cache_.find(other, 5, 0), copy);
  EXPECT_EQ(other.entry[5], (CodeEntry{copy->code + 2, copy->code}));
  EXPECT_EQ(cache_.block_at(copy->code), copy);
  EXPECT_EQ(cache_.record_at(*copy, copy->code + 4).guest, 1);
  EXPECT_EQ(copy->eip(), block.eip() + 0x100000);
  ASSERT_EQ(copy->exit_count, 1);
  CodeExit& exit = cache_.exit(copy->first_exit);
  EXPECT_EQ(exit.from, copy);
  EXPECT_EQ(exit.target(), 0x500008u);
  EXPECT_FALSE(exit.linked);
  EXPECT_EQ(jump_target(*copy), stub_of(*copy));
  EXPECT_EQ(jump_target(block), block.host_entry);
  EXPECT_EQ(cache_.counters().copies, 1u);
  // Both depend on the frame's bytes.
  EXPECT_TRUE(cache_.invalidate(kFrame, 6, 1));
  EXPECT_TRUE(block.dead);
  EXPECT_TRUE(copy->dead);
  EXPECT_EQ(cache_.copy_for(cache_.table(kFrame, 0x600, 0), 5, 0), nullptr);
}

TEST_P(CodeCacheTest, CopiesNothingElse) {
  insert(5);
  insert(8, 0, 0, {}, {}, true);
  insert(9, 0, 2, {}, {}, true);
  EXPECT_EQ(cache_.copy_for(cache_.table(kFrame, 0x500, 0), 5, 0), nullptr);  // Stays there.
  EXPECT_EQ(cache_.copy_for(cache_.table(kFrame, 0x500, 0), 7, 0), nullptr);
  EXPECT_EQ(cache_.copy_for(cache_.table(kFrame, 0x500, 1), 8, 0), nullptr);  // Another mode.
  EXPECT_EQ(cache_.copy_for(cache_.table(kOtherFrame, 0x500, 0), 8, 0), nullptr);
  EXPECT_EQ(cache_.copy_for(cache_.table(kFrame, 0x500, 0), 9, 0), nullptr);
  Block* variant = cache_.copy_for(cache_.table(kFrame, 0x500, 0), 9, 2);
  ASSERT_NE(variant, nullptr);
  EXPECT_EQ(variant->variant, 2);
  EXPECT_EQ(cache_.find(cache_.table(kFrame, 0x500, 0), 9, 0), nullptr);
  // The copies can be copied, too.
  EXPECT_NE(cache_.copy_for(cache_.table(kFrame, 0x700, 0), 9, 2), nullptr);
  EXPECT_NE(cache_.copy_for(cache_.table(kFrame, 0x700, 0), 8, 0), nullptr);
}

TEST_P(CodeCacheTest, CopiesWhatABlockWasReplacedBy) {
  Block& normal = insert(5, 0, 0, {}, {}, true);
  Block& other = insert(5, 0, 1, {}, {}, true);
  cache_.replace(normal, other);
  EntryTable& there = cache_.table(kFrame, 0x500, 0);
  Block* copy = cache_.copy_for(there, 5, 0);
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->variant, 1);
  EXPECT_EQ(cache_.find(there, 5, 0), copy);
  EXPECT_EQ(cache_.find(there, 5, 1), copy);
}

TEST_P(CodeCacheTest, MovesTablesThatNobodyUses) {
  int moves = 0;
  cache_.move_tables([&moves] { ++moves; });
  EntryTable& first = table();
  Block& block = insert(5, 1, 0, {}, {}, true);
  Block& stays = insert(9);
  cache_.link(block.first_exit, block);
  const uint32_t eip = block.eip();
  std::vector<EntryTable*> others;
  for (const uint32_t page : {0x401u, 0x402u}) others.push_back(&cache_.table(kFrame, page, 0));
  EXPECT_EQ(moves, 0);  // There are few.
  cache_.table(kFrame, 0x403, 1);
  cache_.table(kOtherFrame, 0x404, 0);
  EXPECT_EQ(moves, 0);  // They are others'.
  ++others[0]->uses;
  others.push_back(&cache_.table(kFrame, 0x405, 0));
  EXPECT_EQ(moves, 0);
  EntryTable& there = cache_.table(kFrame, 0x506, 0);
  EXPECT_EQ(moves, 1);
  EXPECT_EQ(&there, &first);
  EXPECT_EQ(there.page, 0x506u);
  EXPECT_EQ(cache_.counters().moved_tables, 1u);
  EXPECT_EQ(cache_.find(there, 5, 0), &block);
  EXPECT_EQ(block.eip(), eip + 0x106000);
  EXPECT_EQ(cache_.exit(block.first_exit).target(), 0x506008u);
  EXPECT_TRUE(cache_.exit(block.first_exit).linked);
  EXPECT_EQ(jump_target(block), block.host_entry);
  EXPECT_TRUE(stays.dead);
  EXPECT_EQ(cache_.find(there, 9, 0), nullptr);
  // It is known where it is now, and no longer where it was.
  EXPECT_EQ(&cache_.table(kFrame, 0x506, 0), &there);
  EXPECT_NE(&table(), &there);
  EXPECT_EQ(moves, 2);
  EXPECT_EQ(others[1]->page, 0x400u);  // The one unused longest.
  EXPECT_EQ(others[0]->page, 0x401u);
}

TEST_P(CodeCacheTest, WhatSaysThePageMovesAlong) {
  cache_.move_tables([] {});
  using To = CodeReference::To;
  const std::array<CodeReference, 5> references = {CodeReference{0, To::kExit},
                                                   {4, To::kSlot},
                                                   {8, To::kOutside},
                                                   {12, To::kLinear},
                                                   {16, To::kLinear}};
  std::vector<uint8_t> code(20);
  const auto put = [&](uint32_t at, uint32_t value) {
    std::memcpy(&code[at], &value, sizeof value);
  };
  put(0, 7);
  put(4, 0x400 * 8);
  put(8, 0x1234);
  put(12, 0x400123);
  put(16, 0xfffff000);
  NewBlock in;
  in.eip = 0x400008;
  in.offset = 8;
  in.code = code;
  in.cold_start = GetParam();
  in.references = references;
  in.records = kRecords;
  in.movable = true;
  const Block& block = cache_.insert(table(), in);
  const auto value = [&](uint32_t at) {
    uint32_t found = 0;
    std::memcpy(&found, memory_->writable(block.address(at)), sizeof found);
    return found;
  };
  const uint32_t outside = value(8);
  EXPECT_EQ(block.references.size(), references.size());
  for (const uint32_t page : {0x401u, 0x402u, 0x503u}) cache_.table(kFrame, page, 0);
  ASSERT_EQ(block.eip(), 0x503008u);
  EXPECT_EQ(value(0), 7u);
  EXPECT_EQ(value(4), 0x503u * 8);
  EXPECT_EQ(value(8), outside);
  EXPECT_EQ(value(12), 0x503123u);
  EXPECT_EQ(value(16), 0x102000u);
}

TEST_P(CodeCacheTest, TakesBlocksUntilThePartsMeet) {
  uint32_t count = 0;
  for (; cache_.has_room(static_cast<uint32_t>(code_.size())); ++count)
    insert(static_cast<uint16_t>(count % kPageSize), 1,
           static_cast<uint8_t>(1 + count / kPageSize));
  EXPECT_GT(count, (1u << 20) / 64);
  EXPECT_FALSE(cache_.has_room(static_cast<uint32_t>(code_.size())));
  cache_.flush();
  EXPECT_TRUE(cache_.has_room((1 << 20) - 128));
}

TEST_P(CodeCacheTest, FlushForgetsAll) {
  const uint32_t first = insert(0).code;
  for (uint16_t i = 1; i < 100; ++i) insert(i, 2);
  cache_.flush();
  EXPECT_EQ(cache_.find(table(), 0, 0), nullptr);
  EXPECT_FALSE(cache_.has_code(kFrame));
  EXPECT_EQ(cache_.block_at(first), nullptr);
  EXPECT_EQ(cache_.next_exit(), 0u);
  EXPECT_EQ(insert(0).code, first);
}

INSTANTIATE_TEST_SUITE_P(, CodeCacheTest, ::testing::Values(20, 12),
                         [](const auto& param) { return param.param == 20 ? "Whole" : "Apart"; });

}  // namespace
}  // namespace trapline
