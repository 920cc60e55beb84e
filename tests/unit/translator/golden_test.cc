// What is emitted for a handful of typical blocks, compared with the files in golden/. After a
// change that is meant, write them anew and look at the difference:
//   TRAPLINE_REWRITE_GOLDEN=1 build/release/unit_translator --gtest_filter='*Golden*'
#include <asmjit/x86.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "listing.h"
#include "translator/translator.h"
#include "vcpu/address.h"

namespace trapline {
namespace {

constexpr uint32_t kEip = 0x401000;

struct GoldenBlock {
  const char* name;  ///< The file's, too.
  std::vector<uint8_t> code;
  void (*change)(CpuState& state) = nullptr;
  Variant variant = Variant::kNormal;
};

void PrintTo(const GoldenBlock& block, std::ostream* out) {
  *out << block.name;
}

void base_segments(CpuState& state) {
  for (const SegmentName name : {kDs, kEs}) {
    state.segment[name].base = 0xc0000000;
    state.segment[name].derive();
  }
}

void real_mode(CpuState& state) {
  state = CpuState::reset();
  state.segment[kCs] = Segment::real(0x1000, true);
  for (const SegmentName name : {kDs, kEs, kSs}) state.segment[name] = Segment::real(0x2000, false);
}

const GoldenBlock kBlocks[] = {
    {"push_pop_call", {0x55, 0x89, 0xe5, 0x53, 0x83, 0xec, 0x08, 0x5b, 0xe8, 0x10, 0, 0, 0}},
    {"leave_ret", {0x8b, 0x45, 0x08, 0xc9, 0xc3}},
    {"ret_immediate", {0x58, 0xc2, 0x08, 0x00}},
    {"loads_flat",
     {0x8b, 0x03, 0x0f, 0xb7, 0x4e, 0x02, 0x03, 0x54, 0x8b, 0x40, 0x8a, 0x65, 0xff, 0xeb, 0xfe}},
    {"stores_flat", {0x89, 0x03, 0x66, 0x89, 0x4e, 0x02, 0x01, 0x54, 0x8b, 0x40, 0xeb, 0xfe}},
    {"load_store_based", {0x8b, 0x03, 0x89, 0x46, 0x04, 0xeb, 0xfe}, base_segments},
    {"load_gs", {0x65, 0xa1, 0x14, 0, 0, 0, 0x65, 0xff, 0x03, 0xeb, 0xfe}},
    {"compare_branch", {0x39, 0xd8, 0x74, 0x10, 0x13, 0x03, 0x72, 0x10, 0xeb, 0xfe}},
    {"popf", {0x9d, 0xeb, 0xfe}},
    {"pushf_sti", {0x9c, 0xfb, 0xeb, 0xfe}},
    {"load_fs", {0x8e, 0xe0, 0xeb, 0xfe}},
    {"cli", {0xfa, 0x89, 0xc8, 0xeb, 0xfe}},
    {"rep_movsd", {0xf3, 0xa5, 0xeb, 0xfe}},
    {"repe_cmpsb", {0xf3, 0xa6, 0x74, 0x10, 0xeb, 0xfe}},
    {"stosb", {0xaa, 0xeb, 0xfe}},
    {"x87", {0xd9, 0x03, 0xd8, 0x46, 0x04, 0xde, 0xc1, 0xdd, 0x1b, 0xeb, 0xfe}},
    {"sse", {0x0f, 0x28, 0x03, 0x66, 0x0f, 0xfe, 0xc8, 0xf3, 0x0f, 0x7f, 0x0e, 0xeb, 0xfe}},
    {"jump_indirect", {0xff, 0xe0}},
    {"call_through_memory", {0xff, 0x14, 0x85, 0, 0x20, 0x40, 0}},
    {"divide", {0xf7, 0xf1, 0xeb, 0xfe}},
    {"careful_add", {0x01, 0x03}, nullptr, Variant::kCareful},
    {"lea", {0x8d, 0x44, 0x8b, 0x10, 0x8d, 0x76, 0x00, 0x66, 0x8d, 0x4e, 0x08, 0xeb, 0xfe}},
    {"follow_jump", {0x01, 0xd8, 0xeb, 0x01, 0xf4, 0x85, 0xc9, 0x8b, 0x03, 0xff, 0xe0}},
    {"frame_in_loop", {0x8a, 0x08, 0x8d, 0x51, 0xf7, 0x80, 0xf9, 0x20, 0x0f, 0x94, 0x85, 0xa0,
                       0xfe, 0xff, 0xff, 0x80, 0xfa, 0x04, 0x0f, 0x96, 0xc2, 0x0a, 0x95, 0xa0,
                       0xfe, 0xff, 0xff, 0x75, 0x07, 0x84, 0xc9, 0x74, 0x03, 0x40, 0xeb, 0xdc}},
    {"page_loop",
     {0x8b, 0x0c, 0x03, 0x89, 0x4c, 0x02, 0xfc, 0x83, 0xc0, 0x04, 0x39, 0xf0, 0x72, 0xf2, 0xc3}},
    {"real_call", {0x8b, 0x04, 0x01, 0xc7, 0x31, 0x54, 0x02, 0x56, 0xe8, 0x10, 0}, real_mode},
    {"real_step", {0x56, 0x66, 0x31, 0xdf, 0x5e, 0xc3}, real_mode},
    {"real_frame",
     {0x55, 0x89, 0xe5, 0x83, 0xec, 0x04, 0x8b, 0x46, 0x04, 0x89, 0x46, 0xfe, 0xc9, 0xc2, 2, 0},
     real_mode},
    {"real_far_call", {0x1e, 0x9a, 0x34, 0x12, 0, 0x30}, real_mode},
    {"real_stack_switch", {0x50, 0x8e, 0xd0, 0x53, 0xeb, 0xfe}, real_mode},
    {"high_byte", {0x88, 0x27, 0x02, 0x2e, 0xeb, 0xfe}},
};

std::string translate(const GoldenBlock& block) {
  CpuState state = CpuState::flat32(0);
  if (block.change) block.change(state);
  std::vector<uint8_t> page(kPageSize, 0x90);
  std::copy(block.code.begin(), block.code.end(), page.begin());
  TranslationRequest request;
  request.mode = ModeKey::from(state, false);
  const bool wide = request.mode.code32();
  request.eip = wide ? kEip : kEip & 0xffff;
  request.linear = request.mode.cs_base + request.eip;
  request.variant = block.variant;
  request.page = page;
  request.code_address = kListingCode;
  Translator translator(CpuModel::max(), Switches{}, listing_thunks());
  const Translation& made = translator.translate(request);
  uint32_t bytes = made.guest_bytes;
  for (const GuestRange& range : made.lookahead)
    if (range.start + range.length == block.code.size()) bytes = range.start + range.length;
  EXPECT_EQ(bytes, block.code.size());
  return "guest:\n" + guest_listing(block.code, request.eip, wide) + "\nhost:\n" +
         host_listing(made);
}

class Golden : public ::testing::TestWithParam<GoldenBlock> {};

TEST_P(Golden, Listing) {
  if (!asmjit::CpuInfo::host().features().x86().hasBMI2())
    GTEST_SKIP() << "the listings are for hosts with BMI2";
  const std::string path = std::string(TRAPLINE_GOLDEN) + "/" + GetParam().name + ".txt";
  const std::string listing = translate(GetParam());
  if (std::getenv("TRAPLINE_REWRITE_GOLDEN")) {
    std::ofstream(path) << listing;
    return;
  }
  std::ifstream file(path);
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(listing, expected) << path << " differs; golden_test.cc says how to write it anew";
}

INSTANTIATE_TEST_SUITE_P(Blocks, Golden, ::testing::ValuesIn(kBlocks),
                         [](const auto& block) { return std::string(block.param.name); });

}  // namespace
}  // namespace trapline
