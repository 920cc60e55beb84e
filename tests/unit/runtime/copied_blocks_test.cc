// Blocks that were copied for another linear page, against what the translator makes for that page.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "cache/code_cache.h"
#include "translator/translator.h"
#include "vcpu/address.h"

namespace trapline {
namespace {

constexpr uint64_t kFrame = 7;
constexpr uint32_t kReserved = 0x400;

struct Setting {
  const char* name;
  uint32_t from;  ///< Pages.
  uint32_t to;
  uint8_t cpl = 3;
  void (*change)(Switches& switches) = [](Switches&) {};
  bool low_targets = false;  ///< Some branches lead to the first pages.
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.name;
}

const Setting kSettings[] = {
    {"up", 0x8049, 0xb7f31},
    {"down", 0xc0100, 0x8049, 0},
    {"around", 0x8048, 0xfffff, 3, [](Switches&) {}, true},
    {"toTheStart", 0x8048, 0, 3, [](Switches&) {}, true},
    {"inOnePiece", 0x8049, 0x56789, 3, [](Switches& s) { s.cold_apart = false; }},
    {"notLinked", 0x8049, 0x56789, 3, [](Switches& s) { s.link_blocks = false; }},
    {"lookedUpInThunks", 0x8049, 0x56789, 3, [](Switches& s) { s.inline_indirect = false; }},
    {"plain", 0x8049, 0x56789, 0,
     [](Switches& s) {
       s.extended_blocks = s.follow_jumps = s.page_loops = s.flag_lookahead = false;
       s.stack_window = s.frame_window = s.guest_encoding = false;
     }},
};

class CopiedBlocks : public ::testing::TestWithParam<Setting> {
 protected:
  CopiedBlocks()
      : memory_(CodeMemory::create(16 << 20).take()),
        cache_(*memory_, kReserved, CodeEntry{memory_->base(), memory_->base() + 1}) {
    uint32_t next = memory_->base();
    const auto place = [&next] { return next += 8; };
    std::ranges::generate(thunks_.gate, place);
    std::ranges::generate(thunks_.system, place);
    for (uint32_t* thunk :
         {&thunks_.miss_host, &thunks_.miss_saved, &thunks_.leave, &thunks_.load_segment,
          &thunks_.load_segment_of_class, &thunks_.load_segment_and_class, &thunks_.enter_code})
      *thunk = place();
    EXPECT_LE(next, memory_->base() + kReserved);
    Switches switches;
    GetParam().change(switches);
    translator_ = std::make_unique<Translator>(CpuModel::max(), switches, thunks_);
    CpuState state = CpuState::flat32(0);
    state.cr4 |= cr4::kOsfxsr;
    state.cpl = GetParam().cpl;
    mode_ = ModeKey::from(state, false);
  }

  EntryTable& table(uint32_t page) { return cache_.table(kFrame, page, 0); }

  /// Puts what the translator makes of the page at that offset into the cache. nullptr when the
  /// block goes on in the next page.
  Block* translate(const std::vector<uint8_t>& page, uint32_t number, uint16_t offset,
                   Variant variant) {
    TranslationRequest request;
    request.eip = request.linear = number << kPageShift | offset;
    request.mode = mode_;
    request.variant = variant;
    request.page = page;
    request.limit_left = (uint64_t{1} << 32) - request.eip;
    request.first_exit = cache_.next_exit();
    request.code_address = cache_.next_address();
    const Translation& made = translator_->translate(request);
    if (made.status != Translation::Status::kOk) return nullptr;
    records_.clear();
    for (const Record& record : made.records)
      records_.push_back(
          {record.host, record.guest, record.esp_pending, record.index, record.flags_saved});
    exits_.clear();
    for (const ExitSite& exit : made.exits)
      exits_.push_back({exit.target, exit.jump, exit.stub, exit.flags_saved,
                        static_cast<uint8_t>(exit.variant)});
    references_.clear();
    for (const Reference& reference : made.references)
      references_.push_back({reference.at, static_cast<CodeReference::To>(reference.to)});
    const CodeRange range{offset, static_cast<uint16_t>(made.guest_bytes)};
    NewBlock in;
    in.eip = request.eip;
    in.offset = offset;
    in.variant = static_cast<uint8_t>(variant);
    in.code = made.code;
    in.cold_start = made.cold_start;
    in.references = references_;
    in.movable = made.movable;
    in.host_entry = made.host_entry;
    in.saved_entry = made.saved_entry;
    in.instructions = made.instructions;
    in.exits = exits_;
    in.records = records_;
    in.ranges = {&range, 1};
    return &cache_.insert(table(number), in);
  }

  const std::byte* code_at(const Block& block, uint32_t offset) {
    return memory_->writable(block.address(offset));
  }

  /// What four bytes that are referred to mean, wherever the block is.
  uint64_t meaning(const Block& block, const CodeReference& reference) {
    uint32_t value = 0;
    std::memcpy(&value, code_at(block, reference.at), sizeof value);
    const uint32_t target = block.address(reference.at) + 4 + value;
    switch (reference.to) {
      case CodeReference::To::kHot:
      case CodeReference::To::kCold:
        return block.contains(target) ? block.offset_of(target) : ~uint64_t{0};
      case CodeReference::To::kOutside:
        return target;
      case CodeReference::To::kLinear:
      case CodeReference::To::kSlot:
        return value;
      case CodeReference::To::kExit:
        return value - block.first_exit;
    }
    return 0;
  }

  void expect_same(const Block& copy, const Block& fresh) {
    ASSERT_EQ(copy.code_size, fresh.code_size);
    ASSERT_EQ(copy.cold_size, fresh.cold_size);
    EXPECT_EQ(copy.eip(), fresh.eip());
    EXPECT_EQ(copy.offset, fresh.offset);
    EXPECT_EQ(copy.instructions, fresh.instructions);
    EXPECT_EQ(copy.host_entry - copy.code, fresh.host_entry - fresh.code);
    EXPECT_EQ(copy.saved_entry - copy.code, fresh.saved_entry - fresh.code);
    ASSERT_EQ(copy.references.size(), fresh.references.size());
    const uint32_t size = copy.code_size + copy.cold_size;
    std::vector<bool> referred(size);
    for (size_t i = 0; i < copy.references.size(); ++i) {
      const CodeReference& reference = copy.references[i];
      ASSERT_EQ(reference.at, fresh.references[i].at);
      EXPECT_EQ(meaning(copy, reference), meaning(fresh, reference))
          << "at " << reference.at << ", which refers to " << static_cast<int>(reference.to);
      for (uint32_t byte = 0; byte < 4; ++byte) {
        EXPECT_FALSE(referred[reference.at + byte]);
        referred[reference.at + byte] = true;
      }
    }
    for (uint32_t i = 0; i < size; ++i)
      if (!referred[i]) {
        ASSERT_EQ(*code_at(copy, i), *code_at(fresh, i)) << "at " << i;
      }
    ASSERT_EQ(copy.exit_count, fresh.exit_count);
    for (uint32_t i = 0; i < copy.exit_count; ++i) {
      const CodeExit& ours = cache_.exit(copy.first_exit + i);
      const CodeExit& theirs = cache_.exit(fresh.first_exit + i);
      EXPECT_EQ(ours.from, &copy);
      EXPECT_EQ(ours.target(), theirs.target());
      EXPECT_EQ(copy.offset_of(ours.jump), fresh.offset_of(theirs.jump));
      EXPECT_EQ(copy.offset_of(ours.stub), fresh.offset_of(theirs.stub));
      EXPECT_EQ(ours.flags_saved, theirs.flags_saved);
      EXPECT_EQ(ours.variant, theirs.variant);
      EXPECT_FALSE(ours.linked);
    }
    ASSERT_EQ(copy.records.size(), fresh.records.size());
    for (size_t i = 0; i < copy.records.size(); ++i)
      EXPECT_EQ(std::memcmp(&copy.records[i], &fresh.records[i], sizeof copy.records[i]), 0);
  }

  /// Every block that begins in the page. Gives how many were copied.
  size_t compare(const std::vector<uint8_t>& page, Variant variant, uint32_t step) {
    size_t copied = 0;
    cache_.flush();
    for (uint32_t at = 0; at < kPageSize && !HasFatalFailure(); at += step) {
      const auto offset = static_cast<uint16_t>(at);
      const Block* from = translate(page, GetParam().from, offset, variant);
      if (!from) continue;
      // The one that is copied may be linked, in which case the copy is not.
      for (uint32_t i = 0; i < from->exit_count; ++i)
        cache_.link(from->first_exit + i,
                    *cache_.find(table(GetParam().from), offset, static_cast<uint8_t>(variant)));
      const Block* copy =
          cache_.copy_for(table(GetParam().to), offset, static_cast<uint8_t>(variant));
      EXPECT_EQ(copy != nullptr, from->movable);
      if (!copy) continue;
      const Block* fresh = translate(page, GetParam().to, offset, variant);
      if (!fresh) {
        ADD_FAILURE() << "not translated again";
        return copied;
      }
      // The slots of the first pages have a shorter encoding, which a copy does without.
      const bool shorter = fresh->code_size < copy->code_size || fresh->cold_size < copy->cold_size;
      if (GetParam().low_targets && shorter) continue;
      SCOPED_TRACE("offset " + std::to_string(offset));
      expect_same(*copy, *fresh);
      ++copied;
    }
    return copied;
  }

  std::unique_ptr<CodeMemory> memory_;
  CodeCache cache_;
  Thunks thunks_;
  std::unique_ptr<Translator> translator_;
  ModeKey mode_;
  std::vector<CodeRecord> records_;
  std::vector<NewExit> exits_;
  std::vector<CodeReference> references_;
};

/// Bytes with many of the instructions that blocks end with.
std::vector<uint8_t> random_page(std::mt19937& random) {
  static constexpr uint8_t kFrequent[] = {0xe8, 0xe9, 0xeb, 0x74, 0x0f, 0xc3, 0xff, 0xcd,
                                          0x9d, 0xfa, 0xfb, 0x8e, 0x50, 0x5d, 0x8b, 0x89};
  std::vector<uint8_t> page(kPageSize);
  for (uint8_t& byte : page)
    byte = random() % 3 ? static_cast<uint8_t>(random()) : kFrequent[random() % 16];
  // Distances that stay in the page, or near it.
  for (size_t i = 0; i + 5 < page.size(); ++i)
    if (page[i] == 0xe8 || page[i] == 0xe9) {
      page[i + 2] = static_cast<uint8_t>(random() % 16);
      page[i + 3] = page[i + 4] = 0;
    }
  return page;
}

TEST_P(CopiedBlocks, AreWhatWouldBeTranslated) {
  std::mt19937 random(7);
  size_t copied = 0;
  for (int i = 0; i < 2; ++i) {
    const std::vector<uint8_t> page = random_page(random);
    copied += compare(page, Variant::kNormal, 1);
    for (const Variant variant : {Variant::kNoWindow, Variant::kNoFrame, Variant::kNoSharing,
                                  Variant::kCareful, Variant::kSingle})
      copied += compare(page, variant, 5);
  }
  EXPECT_GT(copied, 4000u);
}

/// This program's own code, read as 32-bit code.
TEST_P(CopiedBlocks, AreSoForRealCode) {
  const auto* code = reinterpret_cast<const uint8_t*>(&random_page);
  const auto* first = code - reinterpret_cast<uintptr_t>(code) % kPageSize;
  size_t copied = 0;
  for (int i = 0; i < 2; ++i)
    copied += compare({first + i * kPageSize, first + (i + 1) * kPageSize}, Variant::kNormal, 1);
  EXPECT_GT(copied, 4000u);
}

INSTANTIATE_TEST_SUITE_P(Settings, CopiedBlocks, ::testing::ValuesIn(kSettings),
                         [](const auto& setting) { return std::string(setting.param.name); });

}  // namespace
}  // namespace trapline
