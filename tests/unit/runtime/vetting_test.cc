#include "runtime/native/vetting.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace trapline {
namespace {

class Vetting : public testing::Test {
 protected:
  Vetting() { page_.fill(0x90); }

  void put(uint32_t at, const std::vector<uint8_t>& code) {
    std::copy(code.begin(), code.end(), page_.begin() + at);
  }
  Vetted vet(std::vector<uint16_t> entries, bool sse = true) {
    return PageVetter(CpuModel::max())
        .vet({.bytes = page_, .head = head_, .tail = tail_, .entries = entries, .sse = sse});
  }

  std::array<uint8_t, kPageSize> page_;
  std::vector<uint8_t> head_;
  std::vector<uint8_t> tail_;
};

TEST_F(Vetting, OrdinaryCodeIsFine) {
  put(0x100, {0x55, 0x89, 0xe5, 0xcd, 0x80, 0xf4, 0xc9, 0xc3});
  EXPECT_EQ(vet({0x100}), Vetted::kFine);
  EXPECT_EQ(vet({}), Vetted::kFine);
}

TEST_F(Vetting, KnownInstructionsThatDiffer) {
  const std::vector<std::vector<uint8_t>> all = {
      {0x0f, 0xa2},        // cpuid
      {0x8c, 0xd8},        // mov eax, ds
      {0x8e, 0xe8},        // mov gs, eax
      {0x1e},              // push ds
      {0x1f},              // pop ds
      {0x0f, 0xa8},        // push gs
      {0xc5, 0x08},        // lds ecx, [eax]
      {0x0f, 0x34},        // sysenter
      {0x0f, 0x01, 0x00},  // sgdt [eax]
      {0x0f, 0x01, 0xe0},  // smsw eax
      {0x0f, 0x00, 0xc8},  // str eax
      {0x0f, 0x03, 0xc1},  // lsl eax, ecx
      {0xea, 0, 0, 0, 0, 0x23, 0},
      {0xcb},        // retf
      {0xff, 0x18},  // call far [eax]
      {0xcf},        // iret
  };
  for (const auto& code : all) {
    page_.fill(0x90);
    put(0x200, code);
    EXPECT_EQ(vet({0x1f0}), Vetted::kSensitive) << std::hex << int{code[0]};
  }
}

TEST_F(Vetting, WhatNoModelHasCountsWhereItIsKnown) {
  const std::vector<std::vector<uint8_t>> all = {
      {0xf2, 0x0f, 0x7c, 0xc1},              // haddps xmm0, xmm1
      {0xdb, 0x08},                          // fisttp dword [eax]
      {0x0f, 0x38, 0x00, 0xc1},              // pshufb mm0, mm1
      {0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x04},  // palignr xmm0, xmm1, 4
      {0xf2, 0x0f, 0x38, 0xf1, 0xc1},        // crc32 eax, ecx
      {0x0f, 0x38, 0xf0, 0x01},              // movbe eax, [ecx]
      {0xf3, 0x0f, 0xb8, 0xc1},              // popcnt eax, ecx
      {0xf3, 0x0f, 0xbd, 0xc1},              // lzcnt eax, ecx
      {0x66, 0xf3, 0x0f, 0xbd, 0xc1},        // lzcnt ax, cx
      {0xc5, 0xf8, 0x77},                    // vzeroupper
      {0xc4, 0xe2, 0x70, 0xf2, 0xc0},        // andn eax, ecx, eax
      {0x62, 0xf1, 0x74, 0x48, 0x58, 0xc0},  // vaddps zmm0, zmm1, zmm0
      {0x8f, 0xe9, 0x78, 0x01, 0xc9},        // blcfill eax, ecx
      {0x0f, 0xc7, 0x20},                    // xsavec [eax]
      {0x66, 0x0f, 0xae, 0xf1},              // tpause ecx
      {0x66, 0x0f, 0xae, 0x38},              // clflushopt [eax]
  };
  for (const auto& code : all) {
    page_.fill(0x90);
    put(0x200, code);
    EXPECT_EQ(vet({0x1f0}), Vetted::kSensitive) << testing::PrintToString(code);
    EXPECT_EQ(vet({}), Vetted::kFine) << testing::PrintToString(code);
    // It ends in a page that is not there.
    page_.fill(0x90);
    page_.back() = code[0];
    EXPECT_EQ(vet({0xff0}), Vetted::kSensitive) << testing::PrintToString(code);
  }
  page_.fill(0x90);
  put(0x200, {0x0f, 0xbd, 0xc1, 0xf3, 0x0f, 0xbc, 0xc1, 0x0f, 0x0b});  // bsr; tzcnt; ud2
  EXPECT_EQ(vet({0x1f0}), Vetted::kFine);
}

TEST_F(Vetting, CpuidIsFineWhereExecutionCanBeStopped) {
  PageVetter vetter(CpuModel::max());
  vetter.watch();
  const std::vector<uint16_t> entries = {0x100};
  const auto look = [&] {
    return vetter.vet({.bytes = page_, .head = head_, .tail = tail_, .entries = entries});
  };
  const auto watched = [&] {
    const auto found = vetter.watched();
    return std::vector<uint16_t>(found.begin(), found.end());
  };
  // One that is known, one behind an immediate that looks like one, one that nobody has reached.
  put(0x100, {0x0f, 0xa2, 0xb8, 0x0f, 0xa2, 0, 0, 0xc3});
  put(0x201, {0x0f, 0xa2});
  EXPECT_EQ(look(), Vetted::kFine);
  EXPECT_EQ(watched(), (std::vector<uint16_t>{0x100, 0x201}));
  put(0x200, {0x66});  // With a prefix it begins before,
  EXPECT_EQ(look(), Vetted::kFine);
  EXPECT_EQ(watched(), (std::vector<uint16_t>{0x100, 0x200}));
  put(0x180, std::vector<uint8_t>(0x80, 0));  // unless that may be inside another instruction.
  EXPECT_EQ(look(), Vetted::kUnexplored);
  put(0x180, std::vector<uint8_t>(0x83, 0x90));
  put(kPageSize - 2, {0x0f, 0xa2});
  EXPECT_EQ(look(), Vetted::kFine);
  EXPECT_EQ(watched(), (std::vector<uint16_t>{0x100, kPageSize - 2}));
  put(kPageSize - 2, {0x90, 0x0f});  // Half of it is another page's.
  tail_ = {0xa2};
  EXPECT_EQ(look(), Vetted::kUnexplored);
  tail_.clear();
  put(kPageSize - 2, {0x90, 0x90});
  put(0x100, {0x66, 0x0f, 0xa2});
  EXPECT_EQ(look(), Vetted::kFine);
  EXPECT_EQ(watched(), (std::vector<uint16_t>{0x100, 0x103}));
  page_.fill(0x90);
  for (uint32_t i = 0; i < 4; ++i) put(0x100 + 2 * i, {0x0f, 0xa2});
  EXPECT_EQ(look(), Vetted::kFine);
  put(0x108, {0x0f, 0xa2});
  EXPECT_EQ(look(), Vetted::kSensitive);
}

TEST_F(Vetting, OthersAreFineWhereItIsCertainWhereTheyBegin) {
  PageVetter vetter(CpuModel::max());
  vetter.watch();
  const auto look = [&](std::vector<uint16_t> entries) {
    return vetter.vet({.bytes = page_, .head = head_, .tail = tail_, .entries = entries});
  };
  const auto watched = [&] {
    const auto found = vetter.watched();
    return std::vector<uint16_t>(found.begin(), found.end());
  };
  for (const std::vector<uint8_t>& code :
       std::vector<std::vector<uint8_t>>{{0x66, 0x8c, 0xe2}, {0x8e, 0xe1}, {0x1e}}) {
    page_.fill(0x90);
    put(0x200, code);
    for (const std::vector<uint16_t>& entries : {std::vector<uint16_t>{0x1f0}, {}}) {
      EXPECT_EQ(look(entries), Vetted::kFine) << std::hex << int{code[0]};
      EXPECT_EQ(watched(), (std::vector<uint16_t>{0x200}));
    }
    // Every second decoding takes the first byte for an instruction's last one. A prefix may be
    // that.
    std::fill_n(page_.begin() + 0x180, 0x80, uint8_t{0});
    EXPECT_EQ(look({}), code[0] == 0x66 ? Vetted::kUnexplored : Vetted::kFine)
        << std::hex << int{code[0]};
    EXPECT_EQ(look({0x1fe}), Vetted::kFine);
  }
  page_.fill(0x90);
  put(kPageSize - 1, {0x8c});  // The rest is another page's.
  tail_ = {0xd8};
  EXPECT_EQ(look({0xff0}), Vetted::kSensitive);
  put(kPageSize - 1, {0x90});
  put(0x200, {0x0f, 0x34});
  EXPECT_EQ(look({0x1f0}), Vetted::kSensitive);
}

class Patching : public Vetting {
 protected:
  Patching() { vetter_.let_patch(); }
  Vetted look(std::vector<uint16_t> entries) {
    return vetter_.vet(
        {.bytes = page_, .head = head_, .tail = tail_, .entries = entries, .sse = true});
  }
  static std::vector<uint16_t> list(std::span<const uint16_t> offsets) {
    return {offsets.begin(), offsets.end()};
  }
  using Offsets = std::vector<uint16_t>;

  PageVetter vetter_{CpuModel::max()};
};

TEST_F(Patching, MoreCpuidsThanCanBeWatchedArePatched) {
  vetter_.watch();
  Offsets all;
  for (uint16_t i = 0; i < 13; ++i) {
    all.push_back(static_cast<uint16_t>(0x100 + 0x40 * i));
    put(all.back(), {0x0f, 0xa2});
  }
  put(0x80, {0xb8, 0x0f, 0xa2, 0, 0});  // mov eax, 0xa20f
  put(0xff0, {0x0f, 0x01, 0xd0});       // xgetbv
  all.push_back(0xff0);
  for (const Offsets& entries : {Offsets{}, Offsets{0x100}}) {
    EXPECT_EQ(look(entries), Vetted::kPatched);
    EXPECT_EQ(list(vetter_.patched()), all);
    EXPECT_EQ(list(vetter_.watched()), Offsets{});
  }
}

TEST_F(Patching, RdrandIsPatchedWhereNobodyHasBeen) {
  for (const uint8_t modrm : {0xf0, 0xf8, 0xff}) {
    put(0x200, {0x0f, 0xc7, modrm});
    EXPECT_EQ(look({}), Vetted::kPatched);
    EXPECT_EQ(list(vetter_.patched()), (Offsets{0x200}));
  }
  // again: rdrand eax; jnc again; rdrand edx; jnc: most decodings come to an end on the way.
  page_.fill(0x90);
  put(0x200, {0x0f, 0xc7, 0xf0, 0x73, 0xfb, 0x0f, 0xc7, 0xf2, 0x73, 0xfb});
  EXPECT_EQ(look({}), Vetted::kPatched);
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0x200, 0x205}));
  page_.fill(0x90);
  put(0x200, {0x0f, 0xae, 0x20});  // xsave [eax]
  EXPECT_EQ(look({}), Vetted::kUnexplored);
}

TEST_F(Patching, AFewAreWatchedAndCanBePatchedInstead) {
  vetter_.watch();
  put(0x100, {0x0f, 0xa2});
  put(0x04, {0x0f, 0xa2});
  EXPECT_EQ(look({}), Vetted::kFine);
  EXPECT_EQ(list(vetter_.watched()), (Offsets{0x04, 0x100}));
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0x100}));  // Nobody knows where the other one begins.
  put(0x200, {0x0f, 0x01, 0xd0});
  EXPECT_EQ(look({}), Vetted::kFine);
  EXPECT_EQ(list(vetter_.watched()), (Offsets{0x04, 0x100, 0x200}));
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0x100, 0x200}));
  put(0x300, {0x0f, 0x01, 0xd0});
  put(0x400, {0x0f, 0x01, 0xd0});
  EXPECT_EQ(look({}), Vetted::kPatched);
  EXPECT_EQ(list(vetter_.watched()), (Offsets{0x04}));
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0x100, 0x200, 0x300, 0x400}));
}

TEST_F(Patching, WhereTheBeginIsNotCertainNothingIsPatched) {
  put(0x200, {0x0f, 0x01, 0xd0});
  put(0x1ff, {0xb8});  // Most decodings find mov eax, 0x..d0010f.
  EXPECT_EQ(look({}), Vetted::kFine);
  // Instructions of two bytes: those that begin at odd places do not end there.
  std::fill_n(page_.begin() + 0x180, 0x80, uint8_t{0});
  EXPECT_EQ(look({}), Vetted::kUnexplored);
  EXPECT_EQ(look({0x1fe}), Vetted::kPatched);
  // A call may never come back to what follows it.
  page_.fill(0x90);
  put(0x04, {0xe8, 0, 0, 0, 0, 0x8c, 0xd8});  // call; mov eax, ds
  EXPECT_EQ(look({0x04}), Vetted::kSensitive);
  EXPECT_EQ(look({0x04, 0x09}), Vetted::kPatched);
  // A byte that looks like a short instruction may be anything unless it is known.
  page_.fill(0x90);
  put(0x200, {0x1e});
  EXPECT_EQ(look({}), Vetted::kUnexplored);
  EXPECT_EQ(look({0x1f0}), Vetted::kPatched);
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0x200}));
}

TEST_F(Patching, WhatOverlapsIsNotPatched) {
  put(0x100, {0x0f, 0x01, 0xd0});
  EXPECT_EQ(look({0x100}), Vetted::kPatched);
  EXPECT_EQ(look({0x100, 0x101}), Vetted::kSensitive);
  put(0x100, {0x8c, 0xd8, 0x90});
  EXPECT_EQ(look({0x100}), Vetted::kPatched);
  EXPECT_EQ(look({0x100, 0x101}), Vetted::kSensitive);
}

TEST_F(Patching, TheWayToTheKernelIsNeverPatched) {
  for (const std::vector<uint8_t>& code :
       std::vector<std::vector<uint8_t>>{{0x0f, 0x34}, {0x66, 0x0f, 0x34}}) {
    put(0x200, code);
    EXPECT_EQ(look({0x200}), Vetted::kSensitive);
    EXPECT_EQ(vetter_.culprit(), "sysenter");
    EXPECT_EQ(look({}), Vetted::kUnexplored);
  }
}

TEST_F(Patching, AnInstructionThatGoesOnInTheNextPageIsPatchedWhereItBegins) {
  put(0xfff, {0x0f});
  tail_ = {0x01, 0xd0};
  EXPECT_EQ(look({}), Vetted::kPatched);
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0xfff}));
  tail_ = {0xa2};
  EXPECT_EQ(look({0xff0}), Vetted::kPatched);
  EXPECT_EQ(list(vetter_.patched()), (Offsets{0xfff}));
}

TEST_F(Patching, TooManyAreLeft) {
  for (uint32_t i = 0; i < 65; ++i) put(0x100 + 2 * i, {0x0f, 0xa2});
  EXPECT_EQ(look({0x100}), Vetted::kSensitive);
  put(0x100, {0x90, 0x90});
  EXPECT_EQ(look({0x100}), Vetted::kPatched);
}

TEST_F(Vetting, TellsWhichInstructionItWas) {
  const std::vector<std::pair<std::vector<uint8_t>, const char*>> all = {
      {{0x0f, 0x34}, "sysenter"},
      {{0x8e, 0xe8}, "mov segment"},
      {{0x0f, 0xa8}, "push segment"},
      {{0xc5, 0x08}, "lds"},
      {{0xff, 0x18}, "far call"},
      {{0xcb}, "far ret"},
      {{0xea, 0, 0, 0, 0, 0x23, 0}, "far jmp"},
      {{0x0f, 0x01, 0xd0}, "other"},  // xgetbv
  };
  PageVetter vetter(CpuModel::max());
  for (const auto& [code, name] : all) {
    page_.fill(0x90);
    put(0x200, code);
    for (const std::vector<uint16_t>& entries : {std::vector<uint16_t>{0x1f0}, {}}) {
      EXPECT_NE(
          vetter.vet(
              {.bytes = page_, .head = head_, .tail = tail_, .entries = entries, .sse = true}),
          Vetted::kFine);
      EXPECT_EQ(vetter.culprit(), name);
    }
  }
}

TEST_F(Vetting, SseOnlyWhereTheKernelAllowsIt) {
  put(0x100, {0x0f, 0x58, 0xc1});  // addps
  EXPECT_EQ(vet({0x100}, true), Vetted::kFine);
  EXPECT_EQ(vet({0x100}, false), Vetted::kSensitive);
}

TEST_F(Vetting, BytesInsideKnownInstructionsDoNotCount) {
  put(0x08, {0xb8, 0x0f, 0xa2, 0, 0, 0xc3});  // mov eax, 0xa20f
  EXPECT_EQ(vet({0x08}), Vetted::kFine);
  // Too near to the page's begin, unless it is known what comes before.
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
  head_.assign(kPageSize, 0x90);
  EXPECT_EQ(vet({}), Vetted::kFine);
  put(0x08, {0x0f, 0xa2});
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
}

TEST_F(Vetting, ThePagesFirstBytesAreStartsWhereNothingIsKnownBefore) {
  put(0x40, {0xb8, 0x0f, 0xa2, 0, 0, 0xc3});
  EXPECT_EQ(vet({}), Vetted::kFine);
  put(0x40, {0x0f, 0xa2});
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
}

TEST_F(Vetting, LoadsOfSegmentRegistersCountOnlyIfKnownWhereTheyAreNoticed) {
  const auto noticed = [&](std::vector<uint16_t> entries) {
    return PageVetter(CpuModel::max())
        .vet({.bytes = page_,
              .head = {},
              .tail = {},
              .entries = entries,
              .sse = true,
              .loads_are_noticed = true});
  };
  for (const std::vector<uint8_t>& load :
       std::vector<std::vector<uint8_t>>{{0x1f},
                                         {0x07},
                                         {0xcb},
                                         {0xca, 4, 0},
                                         {0xcf},
                                         {0xea, 0, 0, 0, 0, 0x73, 0},
                                         {0xff, 0x28},
                                         {0xc4, 0x00},
                                         {0xc5, 0x00}}) {
    page_.fill(0x90);
    std::ranges::copy(load, page_.begin() + 0x800);
    EXPECT_EQ(noticed({}), Vetted::kFine) << int{load[0]};
    EXPECT_EQ(noticed({0x7f0}), Vetted::kSensitive) << int{load[0]};
    EXPECT_EQ(vet({}), Vetted::kUnexplored) << int{load[0]};
  }
  page_.fill(0x90);
  put(0x800, {0x8e, 0xd8});
  EXPECT_EQ(noticed({}), Vetted::kUnexplored);  // Its selector may be one of the host's.
  put(0x800, {0x1e, 0x90});
  EXPECT_EQ(noticed({}), Vetted::kUnexplored);  // It reads.
}

TEST_F(Vetting, BytesThatLeadToWhatNobodyExecutesDoNotCount) {
  const auto look = [this](const std::vector<uint8_t>& code) {
    page_.fill(0x90);
    page_.back() = 0xc3;
    put(0x800, code);
    return vet({});
  };
  EXPECT_EQ(look({0x1e}), Vetted::kUnexplored);                          // push ds
  EXPECT_EQ(look({0x1e, 0x90, 0xf4}), Vetted::kFine);                    // hlt
  EXPECT_EQ(look({0x1e, 0x0f, 0xff, 0xff}), Vetted::kUnexplored);        // ud0 edi, edi
  EXPECT_EQ(look({0x1e, 0xfe, 0xff}), Vetted::kFine);                    // No instruction.
  EXPECT_EQ(look({0x1e, 0xc3, 0xf4}), Vetted::kUnexplored);              // ret
  EXPECT_EQ(look({0x1e, 0xc2, 8, 0, 0xf4}), Vetted::kUnexplored);        // ret 8
  EXPECT_EQ(look({0x1e, 0xc2, 7, 0}), Vetted::kFine);                    // ret 7
  EXPECT_EQ(look({0x1e, 0x74, 2, 0xf4, 0x90, 0xf4}), Vetted::kFine);     // jz, hlt, hlt
  EXPECT_EQ(look({0x1e, 0x74, 1, 0xf4, 0xc3}), Vetted::kUnexplored);     // jz, hlt, ret
  EXPECT_EQ(look({0x1e, 0xeb, 1, 0x90, 0xf4}), Vetted::kFine);           // jmp, hlt
  EXPECT_EQ(look({0x1e, 0xe8, 1, 0, 0, 0, 0xf4}), Vetted::kUnexplored);  // call
  EXPECT_EQ(look({0x1e, 0xe8, 1, 0, 0, 0x40, 0xc3}), Vetted::kFine);     // call, too far
  EXPECT_EQ(look({0x1e, 0xcd, 0x80, 0xf4}), Vetted::kUnexplored);        // int 80h
  EXPECT_EQ(look({0x1e, 0xcd, 0x90}), Vetted::kFine);                    // int 90h
  EXPECT_EQ(look({0x1e, 0xd7, 0x61, 0xf5}), Vetted::kFine);              // xlat, popa, cmc
  EXPECT_EQ(look({0x1e, 0xd7, 0x61}), Vetted::kUnexplored);              // xlat, popa
  EXPECT_EQ(look({0x1e, 0xc5, 0xf8, 0x77, 0xf4}), Vetted::kUnexplored);  // vzeroupper
  EXPECT_EQ(look({0xcf, 0xf4}), Vetted::kUnexplored);                    // iret
  EXPECT_EQ(look({0xcb, 0xf4}), Vetted::kUnexplored);                    // far ret
  EXPECT_EQ(look({0x8c, 0xd8, 0x8c, 0xd8, 0xf4}), Vetted::kFine);        // mov eax, ds; hlt
  std::vector<uint8_t> longer(70, 0x90);
  longer.front() = 0x1e;
  longer.back() = 0xf4;
  EXPECT_EQ(look(longer), Vetted::kUnexplored);
  EXPECT_EQ(look({0x1e, 0x90, 0xf4}), Vetted::kFine);
  EXPECT_EQ(vet({0x800}), Vetted::kSensitive);
}

TEST_F(Vetting, BytesAtAPagesEndCountWhateverTheyLeadTo) {
  tail_.assign(32, 0xf4);
  put(0xffe, {0x1e, 0x90});
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
  put(0xff0, {0x1e, 0x90, 0xf4});  // Well before it they do not.
  put(0xffe, {0x90, 0x90});
  EXPECT_EQ(vet({}), Vetted::kFine);
}

TEST_F(Vetting, BytesThatAllDecodingsPutInsideAnInstructionDoNotCount) {
  put(0x800, {0xb8, 0x0f, 0xa2, 0, 0, 0xc3});
  EXPECT_EQ(vet({}), Vetted::kFine);
}

TEST_F(Vetting, OneDecodingDoesNotAgreeWithAny) {
  page_.fill(0xff);     // No instruction,
  page_.back() = 0x90;  // whatever follows.
  constexpr uint32_t kAt = 0x800;
  for (uint32_t i = 0; i < 18; ++i)
    put(kAt - 113 + 6 * i, {0x69, 0xc0, 0xff, 0xff, 0xff, 0xff});  // imul eax, eax, -1
  put(kAt - 5, {0x0f, 0xa4, 0xc0, 0xff});                          // shld eax, eax, 255
  put(kAt - 1, {0xb8, 0x0f, 0xa2, 0, 0, 0xc3});
  const auto look = [&] {
    return PageVetter(CpuModel::max())
        .vet({.bytes = page_,
              .head = {},
              .tail = {},
              .entries = {},
              .sse = true,
              .loads_are_noticed = true});
  };
  EXPECT_EQ(look(), Vetted::kUnexplored);
  put(kAt - 114, {0x90});  // Leads there, too.
  EXPECT_EQ(look(), Vetted::kFine);
}

TEST_F(Vetting, CodeThatWasNotExecutedYetIsUnexplored) {
  put(0x800, {0x0f, 0xa2});
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
  EXPECT_EQ(vet({0x7f0}), Vetted::kSensitive);
  put(0x7f0, {0xc3});
  EXPECT_EQ(vet({0x7e0}), Vetted::kUnexplored);
}

TEST_F(Vetting, CodeThatIsReachedByAReturnIsLookedAtToo) {
  put(0x100, {0x68, 0, 2, 0, 0, 0xc3});  // push 0x200; ret
  for (const std::vector<uint8_t>& code : std::vector<std::vector<uint8_t>>{
           {0x66, 0x8c, 0x26}, {0x1e}, {0x07}, {0xcb}, {0xff, 0x2b}, {0xc4, 0x0b}}) {
    put(0x200, {0x90, 0x90, 0x90, 0x90});
    put(0x200, code);
    EXPECT_EQ(vet({0x100}), Vetted::kUnexplored) << std::hex << int{code[0]};
  }
}

TEST_F(Vetting, AnInstructionMayGoOnInTheNextPage) {
  put(0xffe, {0xf2, 0x8c});
  EXPECT_EQ(vet({0xff0}), Vetted::kSensitive);
  tail_ = {0xe8};
  EXPECT_EQ(vet({0xff0}), Vetted::kSensitive);
  put(0xffe, {0x90, 0x0f});
  tail_ = {};
  EXPECT_EQ(vet({0xff0}), Vetted::kSensitive);
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
  tail_ = {0xa2};
  EXPECT_EQ(vet({}), Vetted::kUnexplored);
  tail_ = {0xaf, 0xc1};  // imul
  EXPECT_EQ(vet({0xff0}), Vetted::kFine);
  EXPECT_EQ(vet({}), Vetted::kFine);
  put(0xffe, {0xb8, 0x0f});
  tail_ = {};
  EXPECT_EQ(vet({0xff0}), Vetted::kFine);
}

TEST_F(Vetting, FollowsBranchesInThePage) {
  put(0x100, {0x75, 0x10, 0xc3});                    // jnz 0x112
  put(0x112, {0xe8, 0xe9, 0x02, 0, 0, 0xc3});        // call 0x400
  put(0x400, {0xb8, 0x8e, 0xd8, 0x0f, 0xa2, 0xc3});  // mov eax, 0xa20fd88e
  EXPECT_EQ(vet({0x100}), Vetted::kFine);
  put(0x400, {0x0f, 0xa2});
  EXPECT_EQ(vet({0x100}), Vetted::kSensitive);
}

TEST_F(Vetting, OverlappingCodeMakesNothingKnown) {
  put(0x08, {0xb8, 0x0f, 0xa2, 0, 0, 0xc3});
  EXPECT_EQ(vet({0x08, 0x0a}), Vetted::kUnexplored);
}

TEST_F(Vetting, CodeThatJumpsIntoItselfComesToAnEnd) {
  put(0x100, {0xeb, 0xff, 0xc0, 0xeb, 0xfb});
  EXPECT_EQ(vet({0x100}), Vetted::kFine);
  for (uint32_t i = 0; i < kPageSize; ++i) page_[i] = static_cast<uint8_t>(i % 2 ? 0xfd : 0x75);
  vet({0, 1, 2, 3});
}

TEST_F(Vetting, CpuidMayFaultInstead) {
  put(0x800, {0x0f, 0xa2});
  PageVetter vetter(CpuModel::max());
  vetter.let_cpuid_fault();
  const std::vector<uint16_t> entries = {0x7f0};
  EXPECT_EQ(vetter.vet({.bytes = page_, .head = {}, .tail = {}, .entries = entries, .sse = true}),
            Vetted::kFine);
}

}  // namespace
}  // namespace trapline
