#include "tests/differential/case.h"

#include <algorithm>
#include <cstring>

namespace trapline::differential {

void Case::patch(uint32_t address, std::span<const uint8_t> bytes) {
  const uint32_t offset = window_offset(address);
  const uint32_t length = static_cast<uint32_t>(bytes.size());
  if (length == 0 || offset == kWindowBytes) return;
  const uint32_t last = window_offset(address + length - 1);
  if (last == kWindowBytes || last != offset + length - 1) return;
  if (patch_count == kMaxPatches || patch_used + length > kMaxPatchBytes) return;
  patches[patch_count++] = {address, static_cast<uint16_t>(length), patch_used};
  std::memcpy(&patch_bytes[patch_used], bytes.data(), length);
  patch_used = static_cast<uint16_t>(patch_used + length);
}

void apply_patches(const Case& test, const WindowPages& window) {
  for (uint32_t i = 0; i < test.patch_count; ++i) {
    const Patch& patch = test.patches[i];
    for (uint32_t done = 0; done < patch.length;) {
      const uint32_t at = window_offset(patch.address + done);
      const uint32_t count = std::min<uint32_t>(patch.length - done, kPageSize - at % kPageSize);
      std::memcpy(window[at / kPageSize] + at % kPageSize, &test.patch_bytes[patch.offset + done],
                  count);
      done += count;
    }
  }
}

void fill_code_pages(const Case& test, std::span<uint8_t, kCodeBytes> pages) {
  constexpr uint8_t kInt3 = 0xcc;
  std::ranges::fill(pages, kInt3);
  const uint32_t start = test.initial.eip - kCodeBase;
  std::copy_n(test.code.begin(), std::min<uint32_t>(test.code_length, kCodeBytes - start),
              pages.begin() + start);
}

void collect_changes(const WindowPages& window, const WindowImage& common, Outcome& outcome) {
  constexpr uint32_t kLine = 64;
  uint64_t hash = 0xcbf29ce484222325u;
  outcome.change_count = 0;
  for (uint32_t line = 0; line < kWindowBytes; line += kLine) {
    const uint8_t* const expected = &common.bytes[line];
    uint8_t* const actual = window[line / kPageSize] + line % kPageSize;
    if (std::memcmp(actual, expected, kLine) == 0) continue;
    for (uint32_t offset = line; offset < line + kLine; offset += 8) {
      uint64_t before, after;
      std::memcpy(&before, expected + (offset - line), 8);
      std::memcpy(&after, actual + (offset - line), 8);
      if (before == after) continue;
      hash = (hash ^ offset) * 0x100000001b3u;
      hash = (hash ^ after) * 0x100000001b3u;
      hash ^= hash >> 29;
      if (outcome.change_count < kMaxChanges)
        outcome.changes[outcome.change_count] = {offset, after};
      ++outcome.change_count;
    }
    std::memcpy(actual, expected, kLine);
  }
  outcome.change_hash = hash;
}

void normalise(Outcome& outcome) {
  FpuImage& fpu = outcome.final.fpu;
  fpu.reserved1 = 0;
  fpu.reserved2 = 0;
  fpu.reserved3 = 0;
  fpu.mxcsr_mask = 0;
  fpu.cs = 0;
  fpu.ds = 0;
  fpu.rest.fill(0);
  for (auto& st : fpu.st) std::fill(st.begin() + 10, st.end(), uint8_t{0});
  outcome.final.reserved.fill(0);
  // RF belongs to the image that a fault pushes, not to the program.
  outcome.final.eflags &= ~eflags::kRf;
}

}  // namespace trapline::differential
