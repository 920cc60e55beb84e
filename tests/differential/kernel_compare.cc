#include <Zydis/Zydis.h>

#include <algorithm>

#include "tests/differential/forms.h"
#include "tests/differential/kernel_case.h"
#include "tests/differential/text.h"
#include "vcpu/state.h"

namespace trapline::differential::kernel {
namespace {

void compare(std::string& out, const char* name, uint32_t left, uint32_t right) {
  if (left != right) out += format("  %-8s %x | %x\n", name, left, right);
}

const char* ending_name(Ending ending) {
  switch (ending) {
    case Ending::kEnd:
      return "end";
    case Ending::kUser:
      return "in user mode";
    case Ending::kTooManyEvents:
      return "too many events";
    case Ending::kTimeout:
      return "timeout";
    case Ending::kLost:
      break;
  }
  return "lost";
}

std::string describe(const KernelEvent& event) {
  return format("exception %u at %08x cr2 %08x", event.vector, event.eip, event.cr2);
}

void compare_events(std::string& out, const KernelOutcome& left, const KernelOutcome& right) {
  const size_t count = std::max(left.events.size(), right.events.size());
  for (size_t i = 0; i < count; ++i) {
    const bool in_left = i < left.events.size(), in_right = i < right.events.size();
    if (in_left && in_right && left.events[i] == right.events[i]) continue;
    out += format("  event %zu  %s | %s\n", i, in_left ? describe(left.events[i]).c_str() : "none",
                  in_right ? describe(right.events[i]).c_str() : "none");
    return;  // What follows differs because of it.
  }
}

/// Whether an access that may lie in two pages faulted.
bool crossing_faulted(const KernelCase& test, const KernelOutcome& outcome) {
  for (const KernelEvent& event : outcome.events) {
    if (event.vector != 14) continue;
    bool crosses = event.eip >= kUserCode && event.eip < kUserCode + kPageSize;
    for (const Step& step : test.steps) {
      if (step.address <= event.eip && test.next_step(step.address) > event.eip)
        crosses |= step.may_cross;
    }
    if (crosses) return true;
  }
  return false;
}

/// A and D of what maps the play pages.
uint8_t ignored_entry_bits(uint32_t address, bool pae) {
  constexpr uint8_t kAccessed = 0x20, kDirty = 0x40;
  const uint32_t entry = pae ? 8 : 4;
  if (address >= kPlayTableA && address < kPlayTableB + kPageSize && address % entry == 0)
    return kAccessed | kDirty;
  const uint32_t directory_entry = (kPlayBase >> (pae ? 21 : 22)) * entry;
  if (address == kDirectoryA + directory_entry || address == kDirectoryB + directory_entry)
    return kAccessed;
  return 0;
}

/// A null selector's RPL in FS and GS does not count.
uint16_t comparable_selector(size_t name, uint16_t selector) {
  return name >= kFs && selector < 4 ? 0 : selector;
}

}  // namespace

const std::vector<Deviation>& unicorn_deviations() {
  static const std::vector<Deviation> rows = {
      {"error code", "it is kept where the API does not reach"},
      {"A and CR2 of read-modify-write accesses that fault",
       "it loads first, and so marks an entry before the store is refused, and finds the second "
       "page absent before the first is write-protected; the sequences avoid both"},
      {"A and D of the entries behind an access that crosses pages and faults",
       "which of them are set before the fault is found is not defined"},
      {"RPL of a null selector in FS and GS",
       "IRET to user mode does not clear it, as it does for DS and ES and as processors do"},
      {"upper half of the word that PUSH of a segment register writes",
       "it writes zeros where processors write 16 bits; the sequences clear the word first"},
      {"bits 16 to 19 of what LAR returns", "undefined; the sequences clear them"},
      {"bits 16 to 31 of what SMSW returns", "undefined; the sequences store 16 bits"},
      {"accessed bit of CS descriptors, and of SS when IRET leaves for user mode",
       "it is not set; these descriptors start with it"},
      {"LTR of a null selector", "it is accepted; the sequences give others"},
      {"double faults", "a fault is not delivered and so never forgotten; the runner resets it"},
      {"address translation",
       "rights, faults, A and D come from the page tables, but memory is accessed at the linear "
       "address; the runner makes host mappings that follow the guest's"},
      {"limits, types and null selectors at data accesses",
       "not checked; accesses go through SS, and those of 16-bit code stay inside"},
      {"delivery of interrupts",
       "it only tells of them; the runner delivers those of real mode, "
       "for which it takes SS to be a real-mode segment"},
      {"upper half of EBP after a 32-bit ENTER on a 16-bit stack",
       "it becomes 0, where processors copy ESP; the sequences use 16 bits"},
      {"the second encoding of TEST (F6 /1, F7 /1)", "#UD; the sequences use the first"},
  };
  return rows;
}

std::string kernel_differences(const KernelCase& test, const KernelOutcome& left,
                               const KernelOutcome& right) {
  static constexpr const char* kGprs[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
  static constexpr const char* kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
  std::string out;
  if (left.ending != right.ending)
    out += format("  ending   %s | %s\n", ending_name(left.ending), ending_name(right.ending));
  compare_events(out, left, right);
  for (size_t i = 0; i < 8; ++i) compare(out, kGprs[i], left.gpr[i], right.gpr[i]);
  compare(out, "eip", left.eip, right.eip);
  compare(out, "eflags", left.eflags, right.eflags);
  for (size_t i = 0; i < 6; ++i)
    compare(out, kSegments[i], comparable_selector(i, left.selectors[i]),
            comparable_selector(i, right.selectors[i]));
  compare(out, "ldtr", left.ldtr, right.ldtr);
  compare(out, "tr", left.tr, right.tr);
  compare(out, "cr0", left.cr0, right.cr0);
  compare(out, "cr2", left.cr2, right.cr2);
  compare(out, "cr3", left.cr3, right.cr3);
  compare(out, "cr4", left.cr4, right.cr4);
  const bool crossed = crossing_faulted(test, left);
  uint32_t printed = 0;
  for (uint32_t i = 0; i < kMemoryBytes && printed < 12; ++i) {
    const uint8_t difference = left.memory[i] ^ right.memory[i];
    if (difference == 0) continue;
    if (crossed && (difference & ~ignored_entry_bits(i, test.pae)) == 0) continue;
    ++printed;
    out += format("  [%05x]  %02x | %02x\n", i, left.memory[i], right.memory[i]);
  }
  return out;
}

std::string describe(const KernelCase& test) {
  const ZydisDecoder decoder = make_decoder(test.code16 ? CodeSize::k16 : CodeSize::k32);
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::string out = test.code16 ? test.delivers ? "16-bit code, exceptions are delivered\n"
                                                : "16-bit code, exceptions end the step\n"
                    : test.pae  ? "PAE paging\n"
                                : "two-level paging\n";
  if (test.code16)
    out += format("  es %04x cs %04x ss %04x ds %04x fs %04x gs %04x\n", test.selectors[0],
                  test.selectors[1], test.selectors[2], test.selectors[3], test.selectors[4],
                  test.selectors[5]);
  for (size_t i = 0; i < 8; i += 4)
    out += format("  gpr %zu..%zu  %08x %08x %08x %08x\n", i, i + 3, test.gpr[i], test.gpr[i + 1],
                  test.gpr[i + 2], test.gpr[i + 3]);
  const auto list = [&](uint32_t origin, const std::vector<uint8_t>& code) {
    for (uint32_t at = 0; at < code.size();) {
      for (const Step& step : test.steps) {
        if (step.address == origin + at) out += format(" %s:\n", step.what);
      }
      Decoded decoded;
      char text[128] = "(not an instruction)";
      uint32_t length = 1;
      if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, &code[at], code.size() - at,
                                              &decoded.instruction, decoded.operands))) {
        length = decoded.instruction.length;
        ZydisFormatterFormatInstruction(&formatter, &decoded.instruction, decoded.operands,
                                        decoded.instruction.operand_count_visible, text,
                                        sizeof text, origin + at, nullptr);
      }
      out += format("  %08x  %-36s %s\n", origin + at,
                    hex_bytes(std::span(&code[at], length)).c_str(), text);
      at += length;
    }
  };
  list(test.origin, test.code);
  if (!test.user_code.empty()) list(kUserCode, test.user_code);
  return out;
}

std::string describe(const KernelOutcome& outcome) {
  std::string out = format("  %s\n", ending_name(outcome.ending));
  for (const KernelEvent& event : outcome.events) out += "  " + describe(event) + "\n";
  return out;
}

}  // namespace trapline::differential::kernel
