#include "listing.h"

#include <Zydis/Zydis.h>

#include <array>
#include <cstdio>
#include <map>
#include <set>

#include "translator/context.h"
#include "translator/host_registers.h"

namespace trapline {
namespace {

constexpr uint32_t kGates = 0x20000000;
constexpr uint32_t kSystem = 0x20001000;
constexpr uint32_t kMissHost = 0x20002000;
constexpr uint32_t kMissSaved = 0x20002010;
constexpr uint32_t kStep = 0x10;

constexpr std::array<const char*, kGateCount> kGateNames = {
    "fill",   "segment", "window",   "frame",  "open",
    "commit", "divide",  "fpu-sync", "verify", "fpu-load"};
// clang-format off
constexpr std::array<const char*, kSystemOpCount> kSystemNames = {
    "link", "lookup", "straddle", "interpret", "raise", "trap-step", "breakpoint",
    "guest-breakpoint", "budget", "halt", "interrupt", "iret", "far-jump", "far-call",
    "far-return", "load-segment", "pop-segment", "load-far-pointer", "in", "out",
    "input-string", "output-string", "enter", "fpu-state", "flags-push", "flags-pop", "cli",
    "sti", "direction", "push-all", "pop-all", "store-table", "load-system-segment",
    "load-status-word", "query-selector", "move-debug", "clear-task-switched", "identify",
    "read-msr", "write-msr", "read-counter", "move-to-cr", "move-from-cr4", "read-tsc",
    "sysenter", "sysexit", "safepoint"};
// clang-format on

struct Field {
  int32_t offset;
  const char* name;
};

#define TRAPLINE_FIELD(field) \
  { TRAPLINE_CONTEXT_OFFSET(field), #field }
constexpr Field kFields[] = {
    TRAPLINE_FIELD(hot.exec_table),  TRAPLINE_FIELD(hot.window_base),
    TRAPLINE_FIELD(hot.saved_flags), TRAPLINE_FIELD(hot.window_limit),
    TRAPLINE_FIELD(hot.budget),      TRAPLINE_FIELD(hot.fpu_loaded),
    TRAPLINE_FIELD(hot.attention),   TRAPLINE_FIELD(hot.compare_unfinished),
    TRAPLINE_FIELD(hot.scratch),     TRAPLINE_FIELD(hot.fpu_operand),
    TRAPLINE_FIELD(cpu.eip),         TRAPLINE_FIELD(cpu.eflags),
    TRAPLINE_FIELD(cpu.cr0),         TRAPLINE_FIELD(cpu.cr2),
    TRAPLINE_FIELD(cpu.cr3),         TRAPLINE_FIELD(cpu.cr4),
    TRAPLINE_FIELD(cpu.segment),     TRAPLINE_FIELD(hot.interrupt_waits),
    TRAPLINE_FIELD(cpu.shadow),      TRAPLINE_FIELD(cpu.tsc_offset),
    TRAPLINE_FIELD(cpu.segment),     TRAPLINE_FIELD(loop.up_limit),
    TRAPLINE_FIELD(loop.down_limit), TRAPLINE_FIELD(loop.base),
};
#undef TRAPLINE_FIELD

/// "hot.window_limit+8"; fields of the segment registers with the register's name.
std::string field_name(int64_t offset) {
  const Field* best = nullptr;
  for (const Field& field : kFields)
    if (field.offset <= offset && (!best || field.offset > best->offset)) best = &field;
  if (!best) return {};
  int64_t rest = offset - best->offset;
  std::string name = best->name;
  if (best->offset == TRAPLINE_CONTEXT_OFFSET(cpu.segment)) {
    constexpr std::array<const char*, kSegmentCount> kNames = {"es", "cs", "ss", "ds", "fs", "gs"};
    const auto number = static_cast<size_t>(rest) / sizeof(Segment);
    if (number >= kNames.size()) return {};
    rest %= static_cast<int64_t>(sizeof(Segment));
    name = std::string("cpu.") + kNames[number] +
           (rest == offsetof(Segment, base)        ? ".base"
            : rest == offsetof(Segment, limit)     ? ".limit"
            : rest == offsetof(Segment, read_end)  ? ".read_end"
            : rest == offsetof(Segment, write_end) ? ".write_end"
                                                   : "");
    return name;
  }
  return rest ? name + "+" + std::to_string(rest) : name;
}

std::string target_name(uint64_t target) {
  if (target == kMissHost) return "<miss, flags in the host's>";
  if (target == kMissSaved) return "<miss, flags saved>";
  if (target >= kSystem && target < kSystem + kSystemOpCount * kStep)
    return std::string("<") + kSystemNames[(target - kSystem) / kStep] + ">";
  if (target >= kGates && target < kGates + kGateCount * kStep)
    return std::string("<gate ") + kGateNames[(target - kGates) / kStep] + ">";
  return {};
}

struct Line {
  uint32_t offset = 0;
  ZydisDecodedInstruction instruction;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  uint64_t target = 0;  ///< Of a relative branch or call.
};

std::vector<Line> decode_all(std::span<const uint8_t> code) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  std::vector<Line> lines;
  for (uint32_t at = 0; at < code.size();) {
    Line line;
    line.offset = at;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, &code[at], code.size() - at,
                                             &line.instruction, line.operands.data())))
      break;
    const ZydisDecodedOperand& first = line.operands[0];
    if (first.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && first.imm.is_relative)
      ZydisCalcAbsoluteAddress(&line.instruction, &first, kListingCode + at, &line.target);
    lines.push_back(line);
    at += line.instruction.length;
  }
  return lines;
}

ZydisFormatter make_formatter() {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
  ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING, ZYDIS_PADDING_DISABLED);
  ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING, ZYDIS_PADDING_DISABLED);
  return formatter;
}

/// The text with the context's fields named.
std::string text_of(const Line& line) {
  static const ZydisFormatter formatter = make_formatter();
  char text[160];
  ZydisFormatterFormatInstruction(&formatter, &line.instruction, line.operands.data(),
                                  line.instruction.operand_count_visible, text, sizeof text,
                                  kListingCode + line.offset, nullptr);
  std::string out = text;
  for (int i = 0; i < line.instruction.operand_count_visible; ++i) {
    const ZydisDecodedOperand& operand = line.operands[static_cast<size_t>(i)];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY || operand.mem.base != ZYDIS_REGISTER_R15 ||
        operand.mem.index != ZYDIS_REGISTER_NONE)
      continue;
    const std::string name = field_name(operand.mem.disp.value);
    const size_t open = out.find("[r15");
    const size_t close = out.find(']', open);
    if (!name.empty() && open != std::string::npos)
      out.replace(open, close - open + 1, "[" + name + "]");
  }
  return out;
}

}  // namespace

Thunks listing_thunks() {
  Thunks thunks;
  for (uint32_t i = 0; i < thunks.gate.size(); ++i) thunks.gate[i] = kGates + i * kStep;
  for (uint32_t i = 0; i < thunks.system.size(); ++i) thunks.system[i] = kSystem + i * kStep;
  thunks.miss_host = kMissHost;
  thunks.miss_saved = kMissSaved;
  return thunks;
}

std::string guest_listing(std::span<const uint8_t> code, uint32_t eip, bool code32) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, code32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16,
                   code32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
  const ZydisFormatter formatter = make_formatter();
  std::string out;
  for (size_t at = 0; at < code.size();) {
    ZydisDecodedInstruction instruction;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    char text[160];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, &code[at], code.size() - at, &instruction,
                                             operands.data())))
      return out + "  ?\n";
    ZydisFormatterFormatInstruction(&formatter, &instruction, operands.data(),
                                    instruction.operand_count_visible, text, sizeof text, eip + at,
                                    nullptr);
    out += std::string("  ") + text + "\n";
    at += instruction.length;
  }
  return out;
}

std::string host_listing(const Translation& translation) {
  const std::vector<Line> lines = decode_all(translation.code);
  std::set<uint32_t> inside;
  for (const Line& line : lines)
    if (line.target >= kListingCode && line.target < kListingCode + translation.code.size())
      inside.insert(static_cast<uint32_t>(line.target - kListingCode));
  for (const ExitSite& exit : translation.exits) inside.insert(exit.stub);
  std::map<uint32_t, std::string> label;
  for (const uint32_t offset : inside) {
    std::string name = "L";
    name += std::to_string(label.size() + 1);
    label[offset] = name;
  }
  std::map<uint32_t, std::string> marks;
  for (const Record& record : translation.records) {
    char text[96];
    std::snprintf(text, sizeof text, "  ; %+d: esp %+d, flags %s\n", record.guest,
                  record.esp_pending, record.flags_saved ? "saved" : "in the host's");
    marks[record.host] = text;
  }
  std::string out;
  for (const Line& line : lines) {
    if (const auto mark = marks.find(line.offset); mark != marks.end()) out += mark->second;
    if (line.offset == translation.host_entry) out += "entry, flags in the host's:\n";
    if (line.offset == translation.saved_entry) out += "entry, flags saved:\n";
    if (const auto found = label.find(line.offset); found != label.end())
      out += found->second + ":\n";
    std::string text = text_of(line);
    if (line.target != 0) {
      std::string name = target_name(line.target);
      if (name.empty()) name = label[static_cast<uint32_t>(line.target - kListingCode)];
      text = text.substr(0, text.rfind(' ') + 1) + name;
    }
    out += "    " + text + "\n";
  }
  return out;
}

}  // namespace trapline
