#include "cache/code_cache.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr uint32_t kAlignment =
    32;  ///< A line of decoded instructions, which emitted code aligns to.
constexpr uint32_t kSlotSize = 8;  ///< Of an execution table.
/// Tables that are asked for a block: more are seldom worth their misses.
constexpr int kMostAsked = 8;
/// Unused tables that a frame keeps for a mode, so that code which comes and goes at a few places
/// finds its own.
constexpr int kSpareTables = 3;
constexpr uint32_t align(uint32_t value) {
  return (value + kAlignment - 1) & ~(kAlignment - 1);
}
constexpr uint32_t variant_key(uint16_t offset, uint8_t variant) {
  return uint32_t{variant} << 16 | offset;
}
bool changes_with_page(const CodeReference& reference) {
  return reference.to == CodeReference::To::kLinear || reference.to == CodeReference::To::kSlot;
}
bool overlaps(const CodeRange& range, uint32_t start, uint32_t length) {
  return range.start < start + length && start < uint32_t{range.start} + range.length;
}
/// Whether the block depends on any of the frame's bytes.
bool depends_on(const Block& block, uint64_t frame, uint32_t start, uint32_t length) {
  if (block.second.frame == frame && overlaps({0, block.second.length}, start, length)) return true;
  return block.table->frame == frame &&
         std::ranges::any_of(block.ranges, [start, length](const CodeRange& range) {
           return overlaps(range, start, length);
         });
}
}  // namespace

EntryTable::EntryTable(CodeEntry miss) {
  entry.fill(miss);
}

CodeCache::CodeCache(CodeMemory& memory, uint32_t reserved, CodeEntry miss)
    : memory_(memory),
      start_(align(memory.base() + reserved)),
      next_(start_),
      cold_next_(memory.base() + static_cast<uint32_t>(memory.size())),
      end_(cold_next_),
      miss_(miss) {}

EntryTable& CodeCache::table(uint64_t frame, uint32_t page, uint32_t mode) {
  EntryTable*& recent = recent_tables_[(frame + mode * 131) % recent_tables_.size()];
  if (!recent || recent->frame != frame || recent->page != page || recent->mode != mode)
    recent = &find_table(frame, page, mode);
  return *recent;
}

EntryTable& CodeCache::find_table(uint64_t frame, uint32_t page, uint32_t mode) {
  FrameCode& code = frames_[frame];
  for (const FrameCode::Table& known : code.tables)
    if (known.page == page && known.mode == mode) return *known.table;
  if (before_move_)
    if (EntryTable* spare = spare_table(code, page, mode)) return *spare;
  EntryTable& made = tables_.emplace_back(miss_);
  made.frame = frame;
  made.page = page;
  made.mode = mode;
  made.frame_code = &code;
  code.tables.push_back({page, mode, &made});
  return made;
}

/// The one unused longest goes to the page. nullptr when few are unused.
EntryTable* CodeCache::spare_table(FrameCode& code, uint32_t page, uint32_t mode) {
  const auto spare = [mode](const FrameCode::Table& known) {
    return known.mode == mode && known.table->uses == 0;
  };
  if (std::ranges::count_if(code.tables, spare) < kSpareTables) return nullptr;
  const auto first = std::ranges::find_if(code.tables, spare);
  move(*first->table, page);
  first->page = page;
  std::rotate(first, first + 1, code.tables.end());
  return code.tables.back().table;
}

void CodeCache::move(EntryTable& table, uint32_t page) {
  before_move_();
  const Shift shift{.linear = (page - table.page) << kPageShift};
  for (Block* block : table.changing) {
    if (!block->movable) kill(*block);
    if (block->dead) continue;
    for (const CodeReference& reference : block->references.first(block->page_references))
      relocate(*block, reference, shift);
  }
  std::erase_if(table.changing, [](const Block* block) { return block->dead; });
  table.page = page;
  ++counters_.moved_tables;
}

Block* CodeCache::find(EntryTable& table, uint16_t offset, uint8_t variant) {
  if (variant == 0) {
    const CodeEntry entry = table.entry[offset];
    return entry == miss_ ? nullptr : block_at(entry.saved);
  }
  const auto found = table.variants.find(variant_key(offset, variant));
  return found == table.variants.end() ? nullptr : found->second;
}

void CodeCache::relocate(const Block& block, const CodeReference& reference, const Shift& shift) {
  using To = CodeReference::To;
  std::byte* at = memory_.writable(block.address(reference.at));
  const uint32_t here = reference.at < block.code_size ? shift.hot : shift.cold;
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  switch (reference.to) {
    case To::kHot:
      value += shift.hot - here;
      break;
    case To::kCold:
      value += shift.cold - here;
      break;
    case To::kOutside:
      value -= here;
      break;
    case To::kLinear:
      value += shift.linear;
      break;
    case To::kSlot:
      value = (value / kSlotSize + (shift.linear >> kPageShift)) % kLinearPages * kSlotSize;
      break;
    case To::kExit:
      value += shift.exit;
      break;
  }
  std::memcpy(at, &value, sizeof value);
}

void CodeCache::put_code(const Block& block, const uint8_t* hot, const uint8_t* cold,
                         std::span<const CodeReference> references, const Shift& shift) {
  memory_.prepare(block.code + block.code_size);
  memory_.prepare_down(block.cold);
  std::memcpy(memory_.writable(block.code), hot, block.code_size);
  std::memcpy(memory_.writable(block.cold), cold, block.cold_size);
  for (const CodeReference& reference : references) relocate(block, reference, shift);
}

/// A block that has its place, but is not yet to be found.
Block& CodeCache::add(EntryTable& table, uint32_t code_size, uint32_t cold_size) {
  TRAPLINE_ASSERT(has_room(code_size + cold_size));
  Block& block = blocks_.emplace_back();
  block.table = &table;
  block.code = next_;
  block.code_size = code_size;
  block.cold_size = cold_size;
  block.cold = cold_next_ - cold_size;
  block.first_exit = next_exit();
  block_addresses_.push_back(block.code);
  cold_addresses_.push_back(block.cold);
  next_ = align(next_ + code_size);
  cold_next_ = block.cold;
  return block;
}

/// From now on the block is found.
void CodeCache::enter(Block& block) {
  EntryTable& table = *block.table;
  if (block.changes_with_page()) table.changing.push_back(&block);
  table.frame_code->blocks.push_back(&block);
  if (block.second.frame != SecondPage::kNone && block.second.frame != table.frame)
    frames_[block.second.frame].blocks.push_back(&block);
  if (block.variant == 0)
    table.entry[block.offset] = {block.host_entry, block.saved_entry};
  else
    table.variants[variant_key(block.offset, block.variant)] = &block;
}

void CodeCache::keep_references(Block& block, std::span<const CodeReference> references) {
  sorted_.assign(references.begin(), references.end());
  const auto others = std::partition(sorted_.begin(), sorted_.end(), changes_with_page);
  block.page_references = static_cast<uint16_t>(others - sorted_.begin());
  block.references = references_.add(sorted_);
}

Block& CodeCache::insert(EntryTable& table, const NewBlock& in) {
  const auto size = static_cast<uint32_t>(in.code.size());
  Block& block = add(table, in.cold_start, size - in.cold_start);
  block.eip_in_page = in.eip - (table.page << kPageShift);
  block.host_entry = block.code + in.host_entry;
  block.saved_entry = block.code + in.saved_entry;
  block.offset = in.offset;
  block.variant = in.variant;
  block.instructions = static_cast<uint16_t>(in.instructions);
  block.exit_count = static_cast<uint16_t>(in.exits.size());
  for (const NewExit& exit : in.exits)
    exits_.push_back({.from = &block,
                      .distance = exit.target - in.eip,
                      .jump = block.address(exit.jump),
                      .stub = block.address(exit.stub),
                      .flags_saved = exit.flags_saved,
                      .variant = exit.variant});
  block.records = records_.add(in.records);
  block.ranges = ranges_.add(in.ranges);
  block.movable = in.movable;
  if (block.movable) keep_references(block, in.references);
  block.second = in.second;
  // It was written as if both parts lay in one piece.
  put_code(block, in.code.data(), in.code.data() + block.code_size, in.references,
           {.cold = block.cold - (block.code + block.code_size)});
  enter(block);
  return block;
}

Block* CodeCache::copy_for(EntryTable& table, uint16_t offset, uint8_t variant) {
  const std::vector<FrameCode::Table>& tables = table.frame_code->tables;
  int asked = 0;
  for (auto known = tables.rbegin(); known != tables.rend(); ++known) {
    if (known->mode != table.mode || known->table == &table) continue;
    if (const Block* block = find(*known->table, offset, variant))
      return block->movable ? &copy(table, *block) : nullptr;
    if (++asked == kMostAsked) break;
  }
  return nullptr;
}

Block& CodeCache::copy(EntryTable& table, const Block& from) {
  Block& block = add(table, from.code_size, from.cold_size);
  const uint32_t linear = (table.page - from.table->page) << kPageShift;
  const Shift shift{.hot = block.code - from.code,
                    .cold = block.cold - from.cold,
                    .linear = linear,
                    .exit = block.first_exit - from.first_exit};
  block.eip_in_page = from.eip_in_page;
  block.host_entry = from.host_entry + shift.hot;
  block.saved_entry = from.saved_entry + shift.hot;
  block.offset = from.offset;
  block.variant = from.variant;
  block.instructions = from.instructions;
  block.exit_count = from.exit_count;
  block.records = from.records;
  block.ranges = from.ranges;
  block.references = from.references;
  block.page_references = from.page_references;
  block.movable = true;
  put_code(block, reinterpret_cast<const uint8_t*>(memory_.writable(from.code)),
           reinterpret_cast<const uint8_t*>(memory_.writable(from.cold)), block.references, shift);
  for (uint32_t i = 0; i < block.exit_count; ++i) {
    const CodeExit& exit = exits_[from.first_exit + i];
    exits_.push_back({.from = &block,
                      .distance = exit.distance,
                      .jump = block.address(from.offset_of(exit.jump)),
                      .stub = block.address(from.offset_of(exit.stub)),
                      .flags_saved = exit.flags_saved,
                      .variant = exit.variant});
    unlink(exits_.back());  // The other one may be linked.
  }
  enter(block);
  // A page's normal entry can be another variant's: see replace().
  if (from.table->entry[from.offset].saved == from.saved_entry)
    table.entry[block.offset] = {block.host_entry, block.saved_entry};
  ++counters_.copies;
  return block;
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
  list(number, target);
  ++counters_.links;
}

void CodeCache::unlink(CodeExit& exit) {
  exit.linked = false;
  patch(exit.jump, exit.stub);
}

void CodeCache::list(uint32_t number, Block& target) {
  CodeExit& exit = exits_[number];
  if (exit.listed == target.code) return;
  if (exit.listed) unlist(number);
  exit.listed = target.code;
  exit.next = std::exchange(target.incoming, number + 1);
}

void CodeCache::unlist(uint32_t number) {
  CodeExit& exit = exits_[number];
  uint32_t* link = &block_at(exit.listed)->incoming;
  while (*link != number + 1) link = &exits_[*link - 1].next;
  *link = exit.next;
}

void CodeCache::cut_exits(const Block& block) {
  // The exits stay listed with their targets; being patched to the stub again later is harmless.
  for (uint32_t i = 0; i < block.exit_count; ++i) unlink(exits_[block.first_exit + i]);
}

Block* CodeCache::block_at(uint64_t host) {
  const auto number = [&]() -> ptrdiff_t {
    if (host >= cold_next_)
      return std::ranges::lower_bound(cold_addresses_, host, std::greater<>{}) -
             cold_addresses_.begin();
    return std::ranges::upper_bound(block_addresses_, host) - block_addresses_.begin() - 1;
  }();
  if (number < 0 || static_cast<size_t>(number) >= blocks_.size()) return nullptr;
  Block& block = blocks_[static_cast<size_t>(number)];
  return block.contains(host) ? &block : nullptr;
}

const CodeRecord& CodeCache::record_at(const Block& block, uint64_t host) const {
  const uint32_t offset = block.offset_of(host);
  const auto after = std::ranges::upper_bound(block.records, offset, {}, &CodeRecord::host);
  TRAPLINE_ASSERT(after != block.records.begin());
  return *(after - 1);
}

void CodeCache::kill(Block& block) {
  if (block.dead) return;
  block.dead = true;
  EntryTable& table = *block.table;
  if (table.entry[block.offset].saved == block.saved_entry) table.entry[block.offset] = miss_;
  if (block.variant != 0) table.variants.erase(variant_key(block.offset, block.variant));
  for (uint32_t link = std::exchange(block.incoming, 0); link;) {
    CodeExit& exit = exits_[link - 1];
    if (exit.linked && unlinks_killed_) unlink(exit);
    exit.listed = 0;
    link = std::exchange(exit.next, 0);
  }
  ++counters_.invalidated;
}

void CodeCache::replace(Block& block, Block& other) {
  TRAPLINE_ASSERT(block.table == other.table && block.offset == other.offset);
  if (block.dead || other.dead) return;
  CodeEntry& entry = block.table->entry[block.offset];
  if (entry.saved == block.saved_entry) entry = {other.host_entry, other.saved_entry};
  for (uint32_t link = std::exchange(block.incoming, 0); link;) {
    const uint32_t number = link - 1;
    CodeExit& exit = exits_[number];
    exit.listed = 0;
    link = std::exchange(exit.next, 0);
    if (!exit.linked) continue;
    patch(exit.jump, exit.flags_saved ? other.saved_entry : other.host_entry);
    list(number, other);
  }
}

bool CodeCache::invalidate(uint64_t frame, uint32_t start, uint32_t length) {
  const auto found = frames_.find(frame);
  if (found == frames_.end()) return false;
  std::vector<Block*>& blocks = found->second.blocks;
  bool any = false;
  const auto hit = [&](Block* block) {
    if (block->dead) return true;
    if (!depends_on(*block, frame, start, length)) return false;
    kill(*block);
    any = true;
    return true;
  };
  blocks.erase(std::remove_if(blocks.begin(), blocks.end(), hit), blocks.end());
  return any;
}

bool CodeCache::has_code(uint64_t frame) const {
  const auto found = frames_.find(frame);
  return found != frames_.end() && !found->second.blocks.empty();
}

std::span<Block* const> CodeCache::blocks_of(uint64_t frame) const {
  const auto found = frames_.find(frame);
  if (found == frames_.end()) return {};
  return found->second.blocks;
}

std::vector<uint64_t> CodeCache::code_frames() const {
  std::vector<uint64_t> frames;
  for (const auto& [frame, code] : frames_)
    if (!code.blocks.empty()) frames.push_back(frame);
  return frames;
}

void CodeCache::flush() {
  block_addresses_.clear();
  cold_addresses_.clear();
  blocks_.clear();
  exits_.clear();
  records_.clear();
  ranges_.clear();
  references_.clear();
  tables_.clear();
  recent_tables_.fill(nullptr);
  frames_.clear();
  next_ = start_;
  cold_next_ = end_;
  ++counters_.flushes;
}

}  // namespace trapline
