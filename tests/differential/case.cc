#include "tests/differential/case.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/differential/text.h"

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

uint32_t code_bytes_in_pages(const Case& test) {
  return std::min<uint32_t>(test.code_length, kCodeBase + kCodeBytes - test.initial.eip);
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

namespace {

void compare_hex(std::string& out, const char* name, uint64_t left, uint64_t right) {
  if (left != right) out += format("  %-8s %llx | %llx\n", name, ull(left), ull(right));
}

void compare_registers(std::string& out, const CpuImage& left, const CpuImage& right,
                       const FieldMask& mask) {
  static constexpr const char* kNames[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
  for (size_t i = 0; i < 8; ++i) {
    if (!(mask.gprs >> i & 1)) compare_hex(out, kNames[i], left.gpr[i], right.gpr[i]);
  }
  compare_hex(out, "eip", left.eip, right.eip);
  compare_hex(out, "eflags", left.eflags & ~mask.eflags, right.eflags & ~mask.eflags);
}

void compare_fpu(std::string& out, const FpuImage& left, const FpuImage& right,
                 const FieldMask& mask) {
  constexpr uint16_t kTop = 0x3800;
  const uint16_t status = mask.x87_top ? static_cast<uint16_t>(~kTop) : uint16_t{0xffff};
  compare_hex(out, "fcw", left.control, right.control);
  compare_hex(out, "fsw", left.status & status, right.status & status);
  if (!mask.x87_top) compare_hex(out, "ftag", left.abridged_tag, right.abridged_tag);
  compare_hex(out, "mxcsr", left.mxcsr, right.mxcsr);
  if (!mask.fpu_pointers) {
    compare_hex(out, "fop", left.opcode, right.opcode);
    compare_hex(out, "fip", left.ip, right.ip);
    compare_hex(out, "fdp", left.dp, right.dp);
  }
  for (size_t i = 0; i < 8; ++i) {
    if (!mask.x87_top && left.st[i] != right.st[i])
      out +=
          format("  st(%zu)    %s | %s\n", i, hex_number(std::span(left.st[i]).first(10)).c_str(),
                 hex_number(std::span(right.st[i]).first(10)).c_str());
  }
  for (size_t i = 0; i < 8; ++i) {
    if (left.xmm[i] != right.xmm[i])
      out += format("  xmm%zu     %s | %s\n", i, hex_number(left.xmm[i]).c_str(),
                    hex_number(right.xmm[i]).c_str());
  }
}

void compare_memory(std::string& out, const Outcome& left, const Outcome& right) {
  if (left.change_hash == right.change_hash && left.change_count == right.change_count) return;
  out += format("  memory   %u | %u words changed\n", left.change_count, right.change_count);
  const uint32_t left_count = std::min(left.change_count, kMaxChanges);
  const uint32_t right_count = std::min(right.change_count, kMaxChanges);
  uint32_t l = 0, r = 0, printed = 0;
  while ((l < left_count || r < right_count) && printed < 12) {
    const uint32_t lo = l < left_count ? left.changes[l].offset : ~0u;
    const uint32_t ro = r < right_count ? right.changes[r].offset : ~0u;
    const uint32_t offset = std::min(lo, ro);
    const bool in_left = lo == offset, in_right = ro == offset;
    const uint64_t lv = in_left ? left.changes[l].value : 0;
    const uint64_t rv = in_right ? right.changes[r].value : 0;
    l += in_left;
    r += in_right;
    if (in_left && in_right && lv == rv) continue;
    ++printed;
    out += format("  [%08x] %s | %s\n", window_linear(offset),
                  in_left ? format("%016llx", ull(lv)).c_str() : "unchanged",
                  in_right ? format("%016llx", ull(rv)).c_str() : "unchanged");
  }
}

}  // namespace

namespace {

void compare_events(std::string& out, const Outcome& left, const Outcome& right,
                    const FieldMask& mask) {
  const bool both_fault = left.event == Event::kException && right.event == Event::kException;
  if (mask.which_fault && both_fault) return;
  if (left.event != right.event || left.vector != right.vector)
    out += "  event    " + describe_event(left) + " | " + describe_event(right) + "\n";
  compare_hex(out, "error", left.error_code, right.error_code);
  const uint32_t compared = mask.cr2_offset ? ~kPageMask : ~0u;
  if ((left.cr2 ^ right.cr2) & compared) compare_hex(out, "cr2", left.cr2, right.cr2);
}

}  // namespace

std::string differences(const Outcome& left, const Outcome& right, const FieldMask& mask) {
  std::string out;
  compare_events(out, left, right, mask);
  compare_registers(out, left.final, right.final, mask);
  compare_fpu(out, left.final.fpu, right.final.fpu, mask);
  if (!mask.memory) compare_memory(out, left, right);
  return out;
}

}  // namespace trapline::differential
