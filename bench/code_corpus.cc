#include "bench/code_corpus.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

namespace trapline {
namespace {

struct Decoded {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

using Instructions = std::map<uint32_t, Decoded>;

bool ends_block(const ZydisDecodedInstruction& instruction) {
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
      return true;
    default:
      return false;
  }
}

/// One linear sweep. Padding between functions decodes too and is dropped later.
Instructions decode_all(std::span<const std::byte> text) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  Instructions all;
  for (uint32_t at = 0; at < text.size();) {
    Decoded decoded;
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, text.data() + at, text.size() - at,
                                           &decoded.instruction, decoded.operands))) {
      ++at;
      continue;
    }
    all.emplace(at, decoded);
    at += decoded.instruction.length;
  }
  return all;
}

std::set<uint32_t> block_starts(const Instructions& all) {
  std::set<uint32_t> starts;
  if (!all.empty()) starts.insert(all.begin()->first);
  for (const auto& [at, decoded] : all) {
    if (!ends_block(decoded.instruction)) continue;
    const uint32_t next = at + decoded.instruction.length;
    if (all.contains(next)) starts.insert(next);
    if (decoded.operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) continue;
    const uint32_t target = next + static_cast<uint32_t>(decoded.operands[0].imm.value.u);
    if (all.contains(target)) starts.insert(target);
  }
  return starts;
}

bool writes_esp_outright(const Decoded& decoded) {
  if (decoded.instruction.mnemonic == ZYDIS_MNEMONIC_LEAVE) return true;
  const ZydisDecodedOperand& target = decoded.operands[0];
  return target.type == ZYDIS_OPERAND_TYPE_REGISTER && target.reg.value == ZYDIS_REGISTER_ESP &&
         decoded.instruction.mnemonic != ZYDIS_MNEMONIC_ADD &&
         decoded.instruction.mnemonic != ZYDIS_MNEMONIC_SUB;
}

bool is_left_out(const Decoded& decoded) {
  switch (decoded.instruction.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_INT3:
      return true;
    default:
      break;
  }
  constexpr ZydisInstructionAttributes kRepeats =
      ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
  return (decoded.instruction.attributes & kRepeats) != 0 || writes_esp_outright(decoded);
}

class Layout {
 public:
  Layout(std::span<const std::byte> text, uint32_t address) : text_(text), address_(address) {}

  void add_block(const Instructions& all, uint32_t start) {
    const size_t begin = code_.size();
    for (auto found = all.find(start); found != all.end(); ++found) {
      const auto& [at, decoded] = *found;
      if (ends_block(decoded.instruction)) {
        if (code_.size() > begin) add_ending(decoded.instruction);
        return;
      }
      if (is_left_out(decoded)) continue;
      const auto bytes = text_.subspan(at, decoded.instruction.length);
      code_.insert(code_.end(), bytes.begin(), bytes.end());
    }
  }

  std::vector<std::byte> finish() {
    add({0xf4});  // hlt
    return std::move(code_);
  }

 private:
  void add(std::initializer_list<uint8_t> bytes) {
    std::ranges::transform(bytes, std::back_inserter(code_),
                           [](uint8_t byte) { return std::byte{byte}; });
  }

  void add_ending(const ZydisDecodedInstruction& ending) {
    switch (ending.meta.category) {
      case ZYDIS_CATEGORY_COND_BR:
        // The opcode's low bits are the condition, in the short form and in the long one.
        add({static_cast<uint8_t>(0x70 | (ending.opcode & 0xf)), 0});
        break;
      case ZYDIS_CATEGORY_CALL:
        add({0xe8, 0, 0, 0, 0});        // call the next block,
        add({0x8d, 0x64, 0x24, 0x04});  // which begins with lea esp, [esp + 4]
        break;
      case ZYDIS_CATEGORY_RET: {
        const uint32_t next = address_ + static_cast<uint32_t>(code_.size()) + 6;
        add({0x68, static_cast<uint8_t>(next), static_cast<uint8_t>(next >> 8),
             static_cast<uint8_t>(next >> 16), static_cast<uint8_t>(next >> 24), 0xc3});
        break;
      }
      default:
        add({0xe9, 0, 0, 0, 0});
        break;
    }
  }

  std::span<const std::byte> text_;
  uint32_t address_;
  std::vector<std::byte> code_;
};

}  // namespace

std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "%s cannot be read: build the whole project first\n", path.c_str());
    std::exit(1);
  }
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(content));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> make_code_corpus(std::span<const std::byte> text, uint32_t copies,
                                        uint32_t address) {
  const Instructions all = decode_all(text);
  const std::set<uint32_t> starts = block_starts(all);
  Layout layout(text, address);
  for (uint32_t copy = 0; copy < copies; ++copy)
    for (const uint32_t start : starts) layout.add_block(all, start);
  return layout.finish();
}

}  // namespace trapline
