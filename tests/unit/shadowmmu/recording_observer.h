// An observer that remembers what it was told.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "shadowmmu/shadow_mmu.h"

namespace trapline {

class RecordingObserver final : public MmuObserver {
 public:
  void mapping_dropped(View& view, uint32_t page) override {
    pages.emplace_back(view.serial(), page);
  }
  void view_dropped(View& view) override { views.push_back(&view); }
  void view_emptied(View& view) override { emptied.push_back(&view); }
  void code_written(Physical address, uint32_t bytes) override {
    code.emplace_back(address.value, bytes);
  }
  void writes_denied(uint64_t frame) override {
    if (const auto late = std::exchange(before_denied, nullptr)) late(frame);
  }
  void clear() {
    pages.clear();
    views.clear();
    emptied.clear();
    code.clear();
  }

  std::vector<std::pair<uint32_t, uint32_t>> pages;  ///< Serial of the view, page.
  std::vector<View*> views;
  std::vector<View*> emptied;  ///< Page by page.
  std::vector<std::pair<uint64_t, uint32_t>> code;
  /// Once, what a mirror's guest still does to the next frame whose writes are denied.
  std::function<void(uint64_t frame)> before_denied;
};

}  // namespace trapline
