#include "cache/code_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr uint32_t kAlignment = 16;
constexpr uint32_t align(uint32_t value) {
  return (value + kAlignment - 1) & ~(kAlignment - 1);
}
constexpr uint32_t variant_key(uint16_t offset, uint8_t variant) {
  return uint32_t{variant} << 16 | offset;
}
bool overlaps(const FrameRange& range, uint32_t start, uint32_t length) {
  return range.start < start + length && start < uint32_t{range.start} + range.length;
}
}  // namespace

CodeCache::CodeCache(CodeMemory& memory, uint32_t reserved, CodeEntry miss)
    : memory_(memory),
      start_(align(memory.base() + reserved)),
      next_(start_),
      end_(memory.base() + static_cast<uint32_t>(memory.size())),
      miss_(miss) {
  // The signal handler searches by_address_ while this thread may be between two insertions, so it
  // must not move under it more often than needed.
  by_address_.reserve(1 << 16);
}

EntryTable& CodeCache::table(uint64_t frame, uint32_t page, uint32_t mode) {
  FrameCode& code = frames_[frame];
  for (EntryTable* table : code.tables)
    if (table->page == page && table->mode == mode) return *table;
  EntryTable& made = tables_.emplace_back();
  made.frame = frame;
  made.page = page;
  made.mode = mode;
  made.entry.fill(miss_);
  code.tables.push_back(&made);
  return made;
}

Block* CodeCache::find(EntryTable& table, uint16_t offset, uint8_t variant) {
  if (variant == 0) {
    const CodeEntry entry = table.entry[offset];
    return entry == miss_ ? nullptr : block_at(entry.saved);
  }
  const auto found = table.variants.find(variant_key(offset, variant));
  return found == table.variants.end() ? nullptr : found->second;
}

Block& CodeCache::insert(EntryTable& table, NewBlock in) {
  TRAPLINE_ASSERT(has_room(static_cast<uint32_t>(in.code.size())));
  Block& block = blocks_.emplace_back();
  block.table = &table;
  block.eip = in.eip;
  block.code = next_;
  block.code_size = static_cast<uint32_t>(in.code.size());
  block.host_entry = next_ + in.host_entry;
  block.saved_entry = next_ + in.saved_entry;
  block.offset = in.offset;
  block.variant = in.variant;
  block.instructions = static_cast<uint16_t>(in.instructions);
  block.guest_bytes = static_cast<uint16_t>(in.guest_bytes);
  block.first_exit = next_exit();
  block.first_record = static_cast<uint32_t>(records_.size());
  block.ranges = std::move(in.ranges);
  std::memcpy(memory_.writable(next_), in.code.data(), in.code.size());
  next_ = align(next_ + block.code_size);
  by_address_.push_back(&block);
  for (size_t i = 0; i < block.ranges.size(); ++i) {
    const uint64_t frame = block.ranges[i].frame;
    const bool seen = std::any_of(block.ranges.begin(), block.ranges.begin() + static_cast<long>(i),
                                  [frame](const FrameRange& r) { return r.frame == frame; });
    if (!seen) frames_[frame].blocks.push_back(&block);
  }
  if (block.variant == 0)
    table.entry[block.offset] = {block.host_entry, block.saved_entry};
  else
    table.variants[variant_key(block.offset, block.variant)] = &block;
  ++table.live_blocks;
  return block;
}

void CodeCache::add_exit(Block& block, const CodeExit& exit) {
  exits_.push_back(exit);
  ++block.exit_count;
}

void CodeCache::add_record(Block& block, const CodeRecord& record) {
  records_.push_back(record);
  ++block.record_count;
}

void CodeCache::patch(uint32_t jump, uint32_t target) {
  const uint32_t relative = target - (jump + 4);
  std::memcpy(memory_.writable(jump), &relative, sizeof relative);
}

void CodeCache::link(uint32_t number, Block& target) {
  CodeExit& exit = exits_[number];
  if (exit.linked || exit.from->dead || target.dead) return;
  patch(exit.jump, exit.flags_saved ? target.saved_entry : target.host_entry);
  exit.linked = true;
  target.incoming.push_back(number);
  ++counters_.links;
}

void CodeCache::unlink(uint32_t number) {
  CodeExit& exit = exits_[number];
  exit.linked = false;
  patch(exit.jump, exit.stub);
}

void CodeCache::cut_exits(const Block& block) {
  // The exits stay listed with their targets; being patched to the stub again later is harmless.
  for (uint32_t i = 0; i < block.exit_count; ++i) unlink(block.first_exit + i);
}

Block* CodeCache::block_at(uint64_t host) {
  const auto after =
      std::upper_bound(by_address_.begin(), by_address_.end(), host,
                       [](uint64_t address, const Block* block) { return address < block->code; });
  if (after == by_address_.begin()) return nullptr;
  Block* block = *(after - 1);
  return host < uint64_t{block->code} + block->code_size ? block : nullptr;
}

const CodeRecord& CodeCache::record_at(const Block& block, uint64_t host) const {
  const auto first = records_.begin() + block.first_record;
  const auto last = first + block.record_count;
  const auto offset = static_cast<uint32_t>(host - block.code);
  const auto after = std::upper_bound(
      first, last, offset,
      [](uint32_t value, const CodeRecord& record) { return value < record.host; });
  TRAPLINE_ASSERT(after != first);
  return *(after - 1);
}

void CodeCache::kill(Block& block) {
  if (block.dead) return;
  block.dead = true;
  EntryTable& table = *block.table;
  if (block.variant == 0) {
    if (table.entry[block.offset].saved == block.saved_entry) table.entry[block.offset] = miss_;
  } else {
    table.variants.erase(variant_key(block.offset, block.variant));
  }
  --table.live_blocks;
  for (uint32_t number : block.incoming)
    if (exits_[number].linked && unlinks_killed_) unlink(number);
  block.incoming.clear();
  ++counters_.invalidated;
}

bool CodeCache::invalidate(uint64_t frame, uint32_t start, uint32_t length) {
  const auto found = frames_.find(frame);
  if (found == frames_.end()) return false;
  std::vector<Block*>& blocks = found->second.blocks;
  bool any = false;
  const auto hit = [&](Block* block) {
    if (block->dead) return true;
    for (const FrameRange& range : block->ranges)
      if (range.frame == frame && overlaps(range, start, length)) {
        kill(*block);
        any = true;
        return true;
      }
    return false;
  };
  blocks.erase(std::remove_if(blocks.begin(), blocks.end(), hit), blocks.end());
  return any;
}

bool CodeCache::has_code(uint64_t frame) const {
  const auto found = frames_.find(frame);
  return found != frames_.end() && !found->second.blocks.empty();
}

std::vector<uint64_t> CodeCache::code_frames() const {
  std::vector<uint64_t> frames;
  for (const auto& [frame, code] : frames_)
    if (!code.blocks.empty()) frames.push_back(frame);
  return frames;
}

void CodeCache::flush() {
  by_address_.clear();
  blocks_.clear();
  exits_.clear();
  records_.clear();
  tables_.clear();
  frames_.clear();
  next_ = start_;
  ++counters_.flushes;
}

}  // namespace trapline
