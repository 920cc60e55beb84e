#include "tests/differential/text.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "tests/differential/case.h"

#include "tests/differential/forms.h"

namespace trapline::differential {

std::string format(const char* pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, pattern, arguments);
  va_end(arguments);
  std::string out(static_cast<size_t>(std::max(length, 0)), '\0');
  std::vsnprintf(out.data(), out.size() + 1, pattern, again);
  va_end(again);
  return out;
}

std::string hex_bytes(std::span<const uint8_t> bytes) {
  std::string out;
  for (const uint8_t byte : bytes) out += format(out.empty() ? "%02x" : " %02x", byte);
  return out;
}

std::string hex_number(std::span<const uint8_t> bytes) {
  std::string out;
  for (size_t i = bytes.size(); i-- > 0;) out += format("%02x", bytes[i]);
  return out;
}

std::string describe_event(const Outcome& outcome) {
  switch (outcome.event) {
    case Event::kEnd:
      return "end";
    case Event::kException:
      return format("exception %u", outcome.vector);
    case Event::kTimeout:
      return "timeout";
    case Event::kLost:
      break;
  }
  return "lost";
}

std::string listing(const Case& test) {
  const ZydisDecoder decoder = make_decoder(test.size);
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::string out;
  for (uint32_t i = 0; i < test.instruction_count; ++i) {
    const uint32_t start = test.instructions[i];
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    char text[128] = "(not an instruction)";
    uint32_t length = std::min<uint32_t>(15, test.code_length - start);
    if (ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&decoder, &test.code[start], length, &instruction, operands))) {
      length = instruction.length;
      ZydisFormatterFormatInstruction(&formatter, &instruction, operands,
                                      instruction.operand_count_visible, text, sizeof text,
                                      test.initial.eip + start, nullptr);
    }
    out += format("  %08x  %-44s %s\n", test.initial.eip + start,
                  hex_bytes(std::span(&test.code[start], length)).c_str(), text);
  }
  for (uint32_t i = 0; i < kExits; ++i) out += format("  %08x  exit %u\n", test.exit_address(i), i);
  return out;
}

namespace {

std::string describe_cpu(const CpuImage& cpu) {
  std::string out = format(
      "  eax %08x ecx %08x edx %08x ebx %08x\n  esp %08x ebp %08x esi %08x edi %08x\n"
      "  eip %08x eflags %08x\n",
      cpu.gpr[kEax], cpu.gpr[kEcx], cpu.gpr[kEdx], cpu.gpr[kEbx], cpu.gpr[kEsp], cpu.gpr[kEbp],
      cpu.gpr[kEsi], cpu.gpr[kEdi], cpu.eip, cpu.eflags);
  const FpuImage& fpu = cpu.fpu;
  out += format("  fcw %04x fsw %04x tag %02x fop %03x fip %08x fdp %08x mxcsr %04x\n", fpu.control,
                fpu.status, fpu.abridged_tag, fpu.opcode, fpu.ip, fpu.dp, fpu.mxcsr);
  for (size_t i = 0; i < 8; i += 2)
    out +=
        format("  st(%zu) %s  st(%zu) %s\n", i, hex_number(std::span(fpu.st[i]).first(10)).c_str(),
               i + 1, hex_number(std::span(fpu.st[i + 1]).first(10)).c_str());
  for (size_t i = 0; i < 8; i += 2)
    out += format("  xmm%zu %s  xmm%zu %s\n", i, hex_number(fpu.xmm[i]).c_str(), i + 1,
                  hex_number(fpu.xmm[i + 1]).c_str());
  return out;
}

}  // namespace

std::string describe_initial(const Case& test) {
  std::string out = describe_cpu(test.initial);
  for (uint32_t i = 0; i < test.patch_count; ++i) {
    const Patch& patch = test.patches[i];
    out += format("  [%08x] = %s\n", patch.address,
                  hex_bytes(std::span(&test.patch_bytes[patch.offset], patch.length)).c_str());
  }
  return out;
}

std::string describe_outcome(const Outcome& outcome) {
  return format("  %s, error code %x, cr2 %08x\n", describe_event(outcome).c_str(),
                outcome.error_code, outcome.cr2) +
         describe_cpu(outcome.final);
}

}  // namespace trapline::differential
