#include "shadowmmu/ram_gatherer.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "vcpu/huge_pages.h"

namespace trapline {
namespace {

constexpr uint64_t kPause = 20'000'000;  ///< Nanoseconds.
constexpr int kLooks = 4;                ///< Each some ten microseconds.
constexpr size_t kSmallPages = kHugePage / 4096;
/// Of a piece that is gathered, so that RAM costs the host twice what is used of it at most.
constexpr size_t kFewest = kSmallPages / 2;
constexpr uint64_t kGrowth = kFewest * 4096;
constexpr int kMostRefused = 8;

}  // namespace

RamGatherer::RamGatherer(std::byte* ram, size_t bytes, int file)
    : ram_(ram), file_(file), huge_(bytes / kHugePage), next_(huge_.size()) {}

void RamGatherer::start_over() {
  std::fill(huge_.begin(), huge_.end(), false);
  next_ = huge_.size();
  seen_ = 0;
}

uint64_t RamGatherer::resident() const {
  struct stat status {};
  return fstat(file_, &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

void RamGatherer::go_on(uint64_t nanoseconds_now) {
  if (nanoseconds_now < due_ || refused_ >= kMostRefused) return;
  due_ = nanoseconds_now + kPause;
  if (next_ == huge_.size()) {
    if (resident() < seen_ + kGrowth) return;
    next_ = 0;
  }
  for (int looks = 0; looks < kLooks && next_ < huge_.size(); ++next_) {
    if (huge_[next_]) continue;
    ++looks;
    const Look seen = look(next_);
    if (seen == Look::kSparse) continue;
    refused_ = seen == Look::kRefused ? refused_ + 1 : 0;
    ++next_;
    break;
  }
  if (next_ == huge_.size()) seen_ = resident();
}

RamGatherer::Look RamGatherer::look(size_t piece) {
  std::byte* start = ram_ + piece * kHugePage;
  std::array<unsigned char, kSmallPages> pages{};
  if (mincore(start, kHugePage, pages.data()) != 0) return Look::kRefused;
  const auto there = std::ranges::count_if(pages, [](unsigned char page) { return page & 1; });
  if (static_cast<size_t>(there) < kFewest) return Look::kSparse;
  if (!make_huge(start)) return Look::kRefused;
  huge_[piece] = true;
  ++gathered_;
  return Look::kGathered;
}

}  // namespace trapline
