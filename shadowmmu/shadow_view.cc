#include "shadowmmu/shadow_view.h"

namespace trapline {
namespace {

constexpr size_t kNodeBytes = size_t{kLinearPages} * sizeof(PageNode);
constexpr size_t kBitmapBytes = kLinearPages / 8;
constexpr size_t kUseBytes = kUsesPerView * sizeof(TableUse);

}  // namespace

std::unique_ptr<ShadowView> ShadowView::create(ViewSlot slot) {
  std::unique_ptr<ShadowView> view(new ShadowView(slot));
  view->entries_ = HostPages::reserve(2 * kViewTableBytes);
  view->bookkeeping_ = HostPages::reserve(kNodeBytes + kBitmapBytes + kUseBytes);
  if (!view->entries_ || !view->bookkeeping_) return nullptr;
  view->tables_ = reinterpret_cast<uint64_t*>(view->entries_.data());
  std::byte* const bookkeeping = view->bookkeeping_.data();
  view->nodes_ = reinterpret_cast<PageNode*>(bookkeeping);
  view->live_pages_ = reinterpret_cast<uint64_t*>(bookkeeping + kNodeBytes);
  view->uses_ = reinterpret_cast<TableUse*>(bookkeeping + kNodeBytes + kBitmapBytes);
  return view;
}

void ShadowView::become(const PagingContext& context, bool user, uint32_t serial) {
  context_ = context;
  user_ = user;
  serial_ = serial;
  sleeping.clear();
}

void ShadowView::trim() {
  constexpr int kWide = 48;  // Times 4 MiB of linear space: 1.5 MiB of host memory and more.
  int touched = 0;
  for (const uint64_t word : touched_) touched += std::popcount(word);
  if (touched < kWide) return;
  entries_.release();
  bookkeeping_.release();
  touched_ = {};
}

}  // namespace trapline
