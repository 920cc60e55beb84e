#include <algorithm>
#include <cstdio>

#include "tests/differential/case.h"
#include "tests/differential/text.h"

namespace trapline::differential {

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
  if (!mask.eip) compare_hex(out, "eip", left.eip, right.eip);
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
  if (mask.event || (mask.which_fault && both_fault)) return;
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
