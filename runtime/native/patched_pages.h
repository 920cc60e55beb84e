// Copies of pages of code in which INT3 is where certain instructions begin, in the same file as
// the guest's RAM and behind it, so that containers map them as they map RAM.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace trapline {

class PatchedPages {
 public:
  static constexpr size_t kSlots = 64;

  /// The file grows. nullptr: the host does not let it.
  static std::unique_ptr<PatchedPages> behind(int ram_file);
  ~PatchedPages();
  PatchedPages(const PatchedPages&) = delete;
  PatchedPages& operator=(const PatchedPages&) = delete;

  /// A copy of the page, patched at the offsets: where it lies in the file. Nothing when there are
  /// too many already.
  std::optional<uint64_t> add(std::span<const uint8_t> page, std::span<const uint16_t> offsets);
  /// Nobody maps it any more.
  void remove(uint64_t place);

 private:
  PatchedPages(std::byte* pages, uint64_t first) : pages_(pages), first_(first) {}

  std::byte* pages_;
  uint64_t first_;  ///< In the file.
  std::array<bool, kSlots> used_{};
};

}  // namespace trapline
