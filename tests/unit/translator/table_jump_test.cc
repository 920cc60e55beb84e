#include "translator/table_jump.h"

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "listing.h"
#include "translator/context.h"
#include "translator/translator.h"
#include "vcpu/address.h"

namespace trapline {
namespace {

struct HostInstruction {
  size_t at = 0;
  ZydisDecodedInstruction code;
  ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];

  bool loads_table() const {
    const ZydisDecodedOperandMem& from = operand[1].mem;
    return code.mnemonic == ZYDIS_MNEMONIC_MOV && operand[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
           from.base == ZYDIS_REGISTER_R15 &&
           from.disp.value == TRAPLINE_CONTEXT_OFFSET(hot.exec_table);
  }
  bool jumps_to_register() const {
    return code.mnemonic == ZYDIS_MNEMONIC_JMP && operand[0].type == ZYDIS_OPERAND_TYPE_REGISTER;
  }
};

std::vector<HostInstruction> decode(std::span<const uint8_t> code) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  std::vector<HostInstruction> found;
  for (size_t at = 0; at < code.size(); at += found.back().code.length) {
    HostInstruction& one = found.emplace_back();
    one.at = at;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code.data() + at, code.size() - at,
                                             &one.code, one.operand))) {
      ADD_FAILURE() << "at " << at;
      return {};
    }
  }
  return found;
}

std::vector<uint8_t> translate(const std::vector<uint8_t>& code, bool shrx) {
  std::vector<uint8_t> page(kPageSize, 0x90);
  std::ranges::copy(code, page.begin());
  TranslationRequest request;
  request.mode = ModeKey::from(CpuState::flat32(0), false);
  request.eip = request.linear = 0x401000;
  request.page = page;
  request.code_address = kListingCode;
  Switches switches;
  switches.shrx = shrx;
  Translator translator(CpuModel::max(), switches, listing_thunks());
  const Translation& made = translator.translate(request);
  return {made.code.begin(), made.code.end()};
}

TEST(TableJump, IsSeenFromWhereTheTableHasBeenRead) {
  const std::vector<std::vector<uint8_t>> blocks = {
      {0xff, 0xe0},                                // jmp eax
      {0xc3},                                      // ret
      {0xff, 0x14, 0x85, 0, 0x20, 0x40, 0},        // call [eax*4+402000h]
      {0xe9, 0, 0x20, 0, 0},                       // jmp to another page
      {0x0f, 0x84, 0, 0x20, 0, 0, 0xeb, 0xfe},     // jz to another page
      {0xe8, 0, 0, 0x10, 0},                       // call to another page
      {0x39, 0xd8, 0x0f, 0x92, 0xc1, 0xff, 0xe2},  // cmp eax, ebx; setb cl; jmp edx
  };
  for (const bool shrx : {true, false})
    for (const std::vector<uint8_t>& block : blocks) {
      const std::vector<uint8_t> code = translate(block, shrx);
      int jumps = 0;
      bool read = false;
      for (const HostInstruction& one : decode(code)) {
        const bool seen = jumps_by_table(std::span(code).subspan(one.at));
        EXPECT_TRUE(seen || !read);
        if (one.loads_table()) read = true;
        if (!one.jumps_to_register()) continue;
        EXPECT_TRUE(read);
        read = false;
        ++jumps;
      }
      EXPECT_FALSE(read);
      EXPECT_GE(jumps, 1);
    }
}

TEST(TableJump, IsNotSeenFarBeforeOneOrWithoutOne) {
  const std::vector<uint8_t> loop = translate({0x40, 0xeb, 0xfd}, true);
  EXPECT_FALSE(jumps_by_table(loop));
  std::vector<uint8_t> jump(kTableJumpReach, 0x90);
  jump.insert(jump.end(), kTableJump.begin(), kTableJump.end());
  EXPECT_FALSE(jumps_by_table(jump));
  EXPECT_TRUE(jumps_by_table(std::span(jump).subspan(kTableJump.size())));
  EXPECT_FALSE(jumps_by_table({}));
}

}  // namespace
}  // namespace trapline
