// Translated blocks: where they are, how they are found, how they are linked, and how they go away.
//
// The problem: emitted code jumps to emitted code without asking, so whoever takes a block away
// must first take away every way into it.
//
// Structures: an *entry table* belongs to one (code frame, linear page, mode) and holds, for each
// offset in the page, the code address of the block that starts there, or that of the miss thunk.
// Execution tables (the engine's, one per view and mode) point to entry tables. An *exit* is a
// direct branch out of a block; while linked it jumps straight to a block of the same entry table.
//
// Invariants:
//  C1  A slot of an entry table is the miss thunks or the entries of a live block.
//  C2  A linked exit's target is live, of the same entry table, and lists the exit as incoming. The
//      list goes through the exits; an exit is in one list at most, and may stay in it unlinked.
//  C3  Code memory of dead blocks is not reused until flush(), which nothing may call while a
//      block is being executed or is still to be returned to.
//  C4  An entry table changes its page only while no execution table has it, and none of its blocks
//      is being executed or is still to be returned to.
//  C5  Every frame with a live block is known to be a code frame (has_code).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "cache/arena.h"
#include "cache/code_memory.h"
#include "vcpu/address.h"

namespace trapline {

struct EntryTable;

/// Bytes of the page that a block begins in, which it depends on.
struct CodeRange {
  uint16_t start = 0;
  uint16_t length = 0;
};

/// The bytes of a block's only instruction that lie in the next page, from its start.
struct SecondPage {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t frame = kNone;
  uint16_t length = 0;
};

/// Maps host offsets to guest instructions: see the translator's Record, whose shape this is.
struct CodeRecord {
  uint16_t host = 0;
  int16_t guest = 0;
  int16_t esp_pending = 0;
  uint8_t index = 0;
  bool flags_saved = false;
};

/// Four bytes of the code that change with its place: see the translator's Reference, whose shape
/// this is.
struct CodeReference {
  enum class To : uint8_t { kHot, kCold, kOutside, kLinear, kSlot, kExit };
  uint16_t at = 0;
  To to = To::kOutside;
};

struct Block {
  EntryTable* table = nullptr;
  uint32_t eip_in_page = 0;  ///< Beyond the page's linear address, of which it may be independent.
  uint32_t code = 0;         ///< Address of its first byte.
  uint32_t code_size = 0;
  uint32_t cold = 0;  ///< Address of the part that is rarely run; offsets go on there.
  uint32_t cold_size = 0;
  uint32_t host_entry = 0;   ///< Address; flags in EFLAGS.
  uint32_t saved_entry = 0;  ///< Address; flags in the flags register.
  uint16_t offset = 0;       ///< Of its first instruction in the page.
  uint8_t variant = 0;
  bool dead = false;
  uint16_t instructions = 0;
  uint16_t exit_count = 0;
  uint16_t window_misses = 0;  ///< How often the stack window could not be had for it.
  uint16_t frame_misses = 0;   ///< Or not for its frame.
  uint16_t shared_misses = 0;  ///< Or accesses that share a look-up met what cannot be had so.
  uint32_t first_exit = 0;
  uint32_t incoming = 0;  ///< Number of the first exit that was linked here, plus 1; 0: none.
  std::span<const CodeRecord> records;
  std::span<const CodeRange> ranges;
  /// None if it may not be moved. Those come first that change with the linear page.
  std::span<const CodeReference> references;
  uint16_t page_references = 0;  ///< How many do.
  bool movable = false;
  SecondPage second;

  uint32_t eip() const;
  bool changes_with_page() const { return page_references != 0 || !movable; }
  bool contains(uint64_t host) const { return host - code < code_size || host - cold < cold_size; }
  /// From an address that it contains to the end of that part.
  uint64_t bytes_left(uint64_t host) const {
    return host - code < code_size ? code + code_size - host : cold + cold_size - host;
  }
  /// What an offset into the code, as it was emitted, has become.
  uint32_t address(uint32_t emitted) const {
    return emitted < code_size ? code + emitted : cold + (emitted - code_size);
  }
  /// The other way round, for an address that it contains.
  uint32_t offset_of(uint64_t host) const {
    return static_cast<uint32_t>(host - code < code_size ? host - code : host - cold + code_size);
  }
};

/// A direct branch out of a block.
struct CodeExit {
  Block* from = nullptr;
  uint32_t distance = 0;  ///< Of the target's EIP from that of the block.
  uint32_t jump = 0;      ///< Address of the branch's rel32.
  uint32_t stub = 0;      ///< Address of the code that asks for a link.
  uint32_t listed = 0;    ///< Code address of the block whose incoming list it is in; 0: none.
  uint32_t next = 0;      ///< In that list; as Block::incoming.
  bool flags_saved = false;
  uint8_t variant = 0;  ///< Of the target.
  bool linked = false;

  uint32_t target() const { return from->eip() + distance; }
};

/// The two ways into a block, by where the live flags are. Emitted code reads these.
struct CodeEntry {
  uint32_t host;  // Not initialised: a table of them would be written twice.
  uint32_t saved;

  bool operator==(const CodeEntry&) const = default;
};

inline constexpr uint32_t kTableEntries = kPageSize;

/// What the cache knows of a frame with code.
struct FrameCode {
  struct Table {
    uint32_t page = 0;
    uint32_t mode = 0;
    EntryTable* table = nullptr;
  };
  /// With what they are looked for by. The last made or moved comes last.
  std::vector<Table> tables;
  std::vector<Block*> blocks;
};

struct EntryTable {
  explicit EntryTable(CodeEntry miss);

  uint64_t frame = 0;
  uint32_t page = 0;
  uint32_t mode = 0;
  FrameCode* frame_code = nullptr;
  std::vector<Block*> changing;  ///< Blocks that change with its page, and some dead ones.
  /// Execution tables that have it, or had it until room was made for others, and whoever else must
  /// find it where it is.
  uint32_t uses = 0;
  std::array<CodeEntry, kTableEntries> entry;
  /// Blocks of other variants than the normal one, by variant << 16 | offset.
  std::unordered_map<uint32_t, Block*> variants;
};

inline uint32_t Block::eip() const {
  return (table->page << kPageShift) + eip_in_page;
}

/// A direct branch out of a new block: see the translator's ExitSite, whose shape this is.
struct NewExit {
  uint32_t target = 0;  ///< EIP.
  uint32_t jump = 0;
  uint32_t stub = 0;
  bool flags_saved = false;
  uint8_t variant = 0;
};

/// What a new block brings along; positions are offsets from the code's start.
struct NewBlock {
  uint32_t eip = 0;
  uint16_t offset = 0;
  uint8_t variant = 0;
  std::span<const uint8_t> code;
  uint32_t cold_start = 0;  ///< Offset of what is put apart from the rest; the code's end: nothing.
  std::span<const CodeReference> references;
  bool movable = false;  ///< See copy_for().
  uint32_t host_entry = 0;
  uint32_t saved_entry = 0;
  uint32_t instructions = 0;
  std::span<const NewExit> exits;
  std::span<const CodeRecord> records;  ///< By host offset.
  std::span<const CodeRange> ranges;
  SecondPage second;
};

class CodeCache {
 public:
  /// `reserved` bytes at the start of the memory belong to the thunks.
  CodeCache(CodeMemory& memory, uint32_t reserved, CodeEntry miss);

  EntryTable& table(uint64_t frame, uint32_t page, uint32_t mode);
  /// From now on table() may give a table that nobody uses to another page, with its blocks.
  /// `before` is called each time.
  void move_tables(std::function<void()> before) { before_move_ = std::move(before); }
  Block* find(EntryTable& table, uint16_t offset, uint8_t variant);

  /// Whether a block of `bytes` still fits; flush() otherwise.
  bool has_room(uint32_t bytes) const { return next_ + bytes <= cold_next_; }
  uint32_t next_address() const { return next_; }
  uint32_t next_exit() const { return static_cast<uint32_t>(exits_.size()); }

  Block& insert(EntryTable& table, const NewBlock& block);

  /// A copy of the block that another linear page has of the same frame's code, for this one;
  /// nullptr when there is none that may be moved. It needs room as insert() does.
  Block* copy_for(EntryTable& table, uint16_t offset, uint8_t variant);

  CodeExit& exit(uint32_t number) { return exits_[number]; }
  void link(uint32_t number, Block& target);
  /// Sends the block's own exits back to their stubs. Async-signal-safe.
  void cut_exits(const Block& block);

  /// The block whose code holds a host address, dead ones included. Async-signal-safe.
  Block* block_at(uint64_t host);
  const CodeRecord& record_at(const Block& block, uint64_t host) const;

  /// Kills every block that depends on the bytes. True when any did.
  bool invalidate(uint64_t frame, uint32_t start, uint32_t length);
  void kill(Block& block);
  /// Every way into the block leads to the other from now on, which begins at the same instruction.
  void replace(Block& block, Block& other);
  /// For tests only: breaks C2.
  void keep_links_of_killed() { unlinks_killed_ = false; }
  bool has_code(uint64_t frame) const;
  /// Blocks that begin or end in the frame.
  std::span<Block* const> blocks_of(uint64_t frame) const;

  /// Forgets everything (C3). Every pointer to a table or block dangles.
  void flush();

  struct Counters {
    uint64_t invalidated = 0;
    uint64_t flushes = 0;
    uint64_t links = 0;
    uint64_t copies = 0;
    uint64_t moved_tables = 0;
  };
  const Counters& counters() const { return counters_; }
  CodeMemory& memory() { return memory_; }
  /// Frames that had code when flush() was called; the caller lifts their write denial.
  std::vector<uint64_t> code_frames() const;

 private:
  /// How much has become of each since the code was written.
  struct Shift {
    uint32_t hot = 0;
    uint32_t cold = 0;
    uint32_t linear = 0;
    uint32_t exit = 0;
  };
  void keep_references(Block& block, std::span<const CodeReference> references);
  Block& add(EntryTable& table, uint32_t code_size, uint32_t cold_size);
  void enter(Block& block);
  void put_code(const Block& block, const uint8_t* hot, const uint8_t* cold,
                std::span<const CodeReference> references, const Shift& shift);
  Block& copy(EntryTable& table, const Block& from);
  EntryTable* spare_table(FrameCode& code, uint32_t page, uint32_t mode);
  void move(EntryTable& table, uint32_t page);
  void relocate(const Block& block, const CodeReference& reference, const Shift& shift);
  EntryTable& find_table(uint64_t frame, uint32_t page, uint32_t mode);
  void patch(uint32_t jump, uint32_t target);
  void unlink(CodeExit& exit);
  void list(uint32_t number, Block& target);
  void unlist(uint32_t number);

  CodeMemory& memory_;
  uint32_t start_;
  uint32_t next_;       ///< Blocks are put from the start up,
  uint32_t cold_next_;  ///< and what is rarely run of them from the end down.
  uint32_t end_;
  CodeEntry miss_;
  std::deque<Block> blocks_;               ///< By address.
  std::vector<uint32_t> block_addresses_;  ///< Block::code of each.
  std::vector<uint32_t> cold_addresses_;   ///< Block::cold of each.
  std::deque<CodeExit> exits_;
  Arena<CodeRecord> records_;
  Arena<CodeRange> ranges_;
  Arena<CodeReference> references_;
  std::vector<CodeReference> sorted_;  ///< Of one block; what it holds meanwhile is of no use.
  std::deque<EntryTable> tables_;
  std::array<EntryTable*, 1024> recent_tables_{};  ///< By frame and mode.
  std::unordered_map<uint64_t, FrameCode> frames_;
  std::function<void()> before_move_;
  Counters counters_;
  bool unlinks_killed_ = true;
};

}  // namespace trapline
