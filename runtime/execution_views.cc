#include "runtime/execution_views.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "translator/context.h"
#include "vcpu/address.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr size_t kTableBytes = size_t{kLinearPages} * sizeof(uint64_t);

EntryTable& table_of(uint64_t slot, uint32_t page) {
  const auto first = reinterpret_cast<uint64_t>(&entry_at(slot, page << kPageShift));
  return *reinterpret_cast<EntryTable*>(first - offsetof(EntryTable, entry));
}
}  // namespace

uint64_t slot_of(const EntryTable& table) {
  // The cache and the translator each name the pair of entries; they are the same two words.
  static_assert(sizeof(CodeEntry) == sizeof(EntryPair) &&
                offsetof(CodeEntry, host) == offsetof(EntryPair, host) &&
                offsetof(CodeEntry, saved) == offsetof(EntryPair, saved));
  return entry_slot(reinterpret_cast<const EntryPair*>(table.entry.data()), table.page);
}

uint64_t* ExecutionViews::map_table() const {
  void* table =
      mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file_, 0);
  return table == MAP_FAILED ? nullptr : static_cast<uint64_t*>(table);
}

ExecutionViews::~ExecutionViews() {
  for (const auto& execution : views_) munmap(execution->table, kTableBytes);
  if (empty_) munmap(empty_, kTableBytes);
  if (file_ >= 0) close(file_);
}

Result<void> ExecutionViews::make_empty_table(uint64_t first, uint64_t step) {
  const Error refused{ExitStatus::kHost,
                      "the host gives no memory for execution tables; free some and try again"};
  file_ = memfd_create("trapline-execution", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, kTableBytes) != 0) return refused;
  void* shared = mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (shared == MAP_FAILED) return refused;
  auto* slots = static_cast<uint64_t*>(shared);
  for (uint32_t page = 0; page < kLinearPages; ++page) slots[page] = first - page * step;
  munmap(shared, kTableBytes);
  empty_ = map_table();
  if (!empty_) return refused;
  return {};
}

ExecutionView& ExecutionViews::get(uint32_t view, uint32_t mode) {
  const Key key{view, mode};
  auto number = static_cast<size_t>(std::ranges::find(keys_, key) - keys_.begin());
  if (number == keys_.size()) {
    if (keys_.size() < limit_) {
      keys_.push_back(key);
      used_.push_back(0);
      views_.push_back(std::make_unique<ExecutionView>());
      views_.back()->table = map_table();
      TRAPLINE_ASSERT(views_.back()->table != nullptr);
    } else {
      number = static_cast<size_t>(std::ranges::min_element(used_) - used_.begin());
      forget(*views_[number]);
      keys_[number] = key;
      ++recycled_;
    }
    views_[number]->view = view;
    views_[number]->mode = mode;
  }
  used_[number] = ++clock_;
  return *views_[number];
}

bool ExecutionViews::set(ExecutionView& execution, EntryTable& table) {
  const uint32_t page = table.page;
  const uint64_t slot = slot_of(table);
  if (execution.table[page] == slot) return false;
  ++table.uses;
  if (execution.table[page] == empty_[page]) {
    if (execution.used.size() >= kLinearPages) {  // The same pages came and went many times.
      std::sort(execution.used.begin(), execution.used.end());
      execution.used.erase(std::unique(execution.used.begin(), execution.used.end()),
                           execution.used.end());
    }
    execution.used.push_back(page);
  } else {
    --table_of(execution.table[page], page).uses;
  }
  execution.table[page] = slot;
  return true;
}

void ExecutionViews::drop_page(uint32_t view, uint32_t page) {
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].view == view) empty_slot(*views_[i], page);
}

void ExecutionViews::drop_view(uint32_t view) {
  for (size_t i = 0; i < keys_.size(); ++i)
    if (keys_[i].view == view) forget(*views_[i]);
}

void ExecutionViews::clear() {
  for (const auto& execution : views_) forget(*execution);
}

void ExecutionViews::forget(ExecutionView& execution) {
  for (const uint32_t page : execution.used) execution.table[page] = empty_[page];
  execution.used.clear();
}

void ExecutionViews::empty_slot(ExecutionView& execution, uint32_t page) {
  if (execution.table[page] == empty_[page]) return;
  --table_of(execution.table[page], page).uses;
  execution.table[page] = empty_[page];
}

}  // namespace trapline
