// Execution tables: for each view and mode, linear page -> entry table. Emitted indirect branches
// walk them without asking, so an empty slot must lead somewhere: to the miss table. Tables are
// private mappings of one file in which every slot does, so a new one costs nothing.
//
// A slot counts as a use of its entry table until the guest's mapping goes. Where it is only
// forgotten, to make room for another view, the use stays counted: the address space will want it
// again.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/code_cache.h"
#include "vcpu/result.h"

namespace trapline {

/// What a slot for the table holds.
uint64_t slot_of(const EntryTable& table);

struct ExecutionView {
  uint32_t view = 0;  ///< View::serial().
  uint32_t mode = 0;
  uint64_t* table = nullptr;
  std::vector<uint32_t> used;  ///< Pages that may have a slot.
};

class ExecutionViews {
 public:
  explicit ExecutionViews(size_t limit) : limit_(limit) {}
  ~ExecutionViews();
  ExecutionViews(const ExecutionViews&) = delete;
  ExecutionViews& operator=(const ExecutionViews&) = delete;

  /// Makes the file. An empty slot holds `first` for page 0, and `step` less for each next page.
  Result<void> make_empty_table(uint64_t first, uint64_t step);
  /// A table whose slots are all empty and stay so.
  uint64_t* empty_table() const { return empty_; }

  /// Found or made; the least recently used one goes when there are too many.
  ExecutionView& get(uint32_t view, uint32_t mode);
  /// Counts the tables that went to another view or mode.
  uint64_t recycled() const { return recycled_; }
  /// The slot of the table's page. False when it was the table's already.
  bool set(ExecutionView& execution, EntryTable& table);
  void drop_page(uint32_t view, uint32_t page);
  void drop_view(uint32_t view);  ///< Forgets it.
  void clear();                   ///< Every slot of every table.

 private:
  void forget(ExecutionView& execution);
  void empty_slot(ExecutionView& execution, uint32_t page);
  uint64_t* map_table() const;

  size_t limit_;
  uint64_t* empty_ = nullptr;
  int file_ = -1;
  uint64_t recycled_ = 0;
  struct Key {
    uint32_t view = 0;
    uint32_t mode = 0;
    bool operator==(const Key&) const = default;
  };
  // By number. Keys lie by themselves: every mapping that goes looks through them.
  std::vector<Key> keys_;
  std::vector<uint64_t> used_;  ///< When, for the least recently used.
  std::vector<std::unique_ptr<ExecutionView>> views_;
  uint64_t clock_ = 0;
};

}  // namespace trapline
