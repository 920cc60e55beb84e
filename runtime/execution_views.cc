#include "runtime/execution_views.h"

#include <sys/mman.h>

#include <algorithm>

#include "vcpu/address.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {
constexpr size_t kTableBytes = size_t{kLinearPages} * sizeof(uint64_t);

uint64_t* map_table() {
  void* table = mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return table == MAP_FAILED ? nullptr : static_cast<uint64_t*>(table);
}
}  // namespace

ExecutionViews::~ExecutionViews() {
  for (ExecutionView& execution : views_) munmap(execution.table, kTableBytes);
  if (empty_) munmap(empty_, kTableBytes);
}

Result<void> ExecutionViews::make_empty_table() {
  empty_ = map_table();
  if (!empty_) return Error{ExitStatus::kHost, "the host gives no address space for tables"};
  return {};
}

ExecutionView& ExecutionViews::get(uint32_t view, uint32_t mode) {
  for (auto at = views_.begin(); at != views_.end(); ++at)
    if (at->view == view && at->mode == mode) {
      views_.splice(views_.begin(), views_, at);
      return views_.front();
    }
  if (views_.size() >= limit_) {
    ExecutionView& recycled = views_.back();
    empty(recycled);
    recycled.view = view;
    recycled.mode = mode;
    views_.splice(views_.begin(), views_, std::prev(views_.end()));
    return views_.front();
  }
  ExecutionView made;
  made.view = view;
  made.mode = mode;
  made.table = map_table();
  TRAPLINE_ASSERT(made.table != nullptr);
  views_.push_front(std::move(made));
  return views_.front();
}

void ExecutionViews::set(ExecutionView& execution, uint32_t page, uint64_t slot) {
  if (execution.table[page] == 0) {
    if (execution.used.size() >= kLinearPages) {  // The same pages came and went many times.
      std::sort(execution.used.begin(), execution.used.end());
      execution.used.erase(std::unique(execution.used.begin(), execution.used.end()),
                           execution.used.end());
    }
    execution.used.push_back(page);
  }
  execution.table[page] = slot;
}

void ExecutionViews::drop_page(uint32_t view, uint32_t page) {
  for (ExecutionView& execution : views_)
    if (execution.view == view) execution.table[page] = 0;
}

void ExecutionViews::drop_view(uint32_t view) {
  for (ExecutionView& execution : views_)
    if (execution.view == view) empty(execution);
}

void ExecutionViews::clear() {
  for (ExecutionView& execution : views_) empty(execution);
}

void ExecutionViews::empty(ExecutionView& execution) {
  for (uint32_t page : execution.used) execution.table[page] = 0;
  execution.used.clear();
}

}  // namespace trapline
