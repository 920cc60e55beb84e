#include "vcpu/cpu_model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "vcpu/state.h"

namespace trapline {
namespace {

uint32_t edx(const char* model) {
  return CpuModel::find(model)->cpuid(1, 0).edx;
}

uint32_t family(uint32_t signature) {
  return signature >> 8 & 0xf;
}

TEST(CpuModel, NamesListWhatFindFinds) {
  std::string list(CpuModel::names());
  for (const char* name : {"486", "pentium", "pentium3", "max"}) {
    EXPECT_NE(list.find(name), std::string::npos);
    ASSERT_NE(CpuModel::find(name), nullptr);
    EXPECT_EQ(CpuModel::find(name)->name, name);
    EXPECT_FALSE(CpuModel::find(name)->description.empty());
  }
  EXPECT_EQ(CpuModel::find("386"), nullptr);
  EXPECT_EQ(CpuModel::max().name, "max");
}

TEST(CpuModel, VendorAndFamilies) {
  constexpr std::pair<const char*, uint32_t> kFamilies[] = {
      {"486", 4}, {"pentium", 5}, {"pentium3", 6}, {"max", 6}};
  for (const auto& [name, number] : kFamilies) {
    const CpuModel& model = *CpuModel::find(name);
    const CpuidResult leaf0 = model.cpuid(0, 0);
    char vendor[13] = {};
    std::memcpy(vendor, &leaf0.ebx, 4);
    std::memcpy(vendor + 4, &leaf0.edx, 4);
    std::memcpy(vendor + 8, &leaf0.ecx, 4);
    EXPECT_STREQ(vendor, "GenuineIntel");
    EXPECT_EQ(family(model.cpuid(1, 0).eax), number);
    EXPECT_EQ(model.family, number);
  }
  EXPECT_EQ(CpuModel::find("pentium3")->cpuid(1, 0).eax >> 4 & 0xf, 8u);
}

TEST(CpuModel, FeatureBits) {
  EXPECT_EQ(edx("486"), 0x1u);
  EXPECT_EQ(edx("pentium"), 0x1bfu);
  EXPECT_EQ(edx("pentium3"), 0x0383f9ffu);
  EXPECT_EQ(edx("max"), 0x078bf9ffu);
}

TEST(CpuModel, NoneOffersSyscallAnApicOrLongMode) {
  for (const char* name : {"486", "pentium", "pentium3", "max"}) {
    const CpuModel& model = *CpuModel::find(name);
    EXPECT_FALSE(model.has(Feature::kSyscallNever));
    EXPECT_EQ(model.cpuid(1, 0).edx & 1u << 9, 0u);  // The board decides: CpuEvents.
    if (model.cpuid(0x80000000, 0).eax < 0x80000001) continue;
    EXPECT_EQ(model.cpuid(0x80000001, 0).edx & (1u << 11 | 1u << 29), 0u);
  }
  EXPECT_EQ(CpuModel::max().cpuid(0x80000001, 0).edx, 1u << 20);
}

TEST(CpuModel, MaxIsAnInOrderAtom) {
  const uint32_t signature = CpuModel::max().cpuid(1, 0).eax;
  EXPECT_EQ(family(signature), 6u);
  EXPECT_EQ((signature >> 4 & 0xf) | (signature >> 12 & 0xf0), 0x1cu);
  EXPECT_GT(signature & 0xf, 2u);
}

TEST(CpuModel, CachesAndAddressSizes) {
  const CpuModel& model = CpuModel::max();
  EXPECT_EQ((model.cpuid(1, 0).ebx >> 8 & 0xff) * 8, 64u);
  const CpuidResult l1d = model.cpuid(4, 0);
  EXPECT_EQ(((l1d.ebx >> 22) + 1) * ((l1d.ebx & 0xfff) + 1) * (l1d.ecx + 1), 24u * 1024);
  EXPECT_EQ(model.cpuid(4, 3).eax, 0u);
  EXPECT_EQ(model.cpuid(0x80000008, 0).eax, 0x2028u);
  EXPECT_EQ(model.cpuid(0x80000006, 0).ecx >> 16, 512u);
}

TEST(CpuModel, BrandString) {
  char brand[48] = {};
  for (uint32_t part = 0; part < 3; ++part) {
    const CpuidResult leaf = CpuModel::max().cpuid(0x80000002 + part, 0);
    std::memcpy(brand + part * 16, &leaf, 16);
  }
  EXPECT_STREQ(brand, "Trapline Virtual CPU");
}

TEST(CpuModel, LeavesBeyondTheLastAnswerAsTheLast) {
  const CpuModel& model = *CpuModel::find("pentium3");
  EXPECT_EQ(model.cpuid(2, 0).edx, 0x0c040882u);
  EXPECT_EQ(model.cpuid(7, 0).edx, 0x0c040882u);
  EXPECT_EQ(model.cpuid(0x80000000, 0).edx, 0x0c040882u);
}

TEST(CpuModel, Cr4FollowsTheFeatures) {
  EXPECT_EQ(CpuModel::find("486")->cr4_mask, 0u);
  EXPECT_EQ(CpuModel::find("pentium")->cr4_mask & cr4::kPae, 0u);
  EXPECT_NE(CpuModel::find("pentium3")->cr4_mask & cr4::kOsfxsr, 0u);
}

}  // namespace
}  // namespace trapline
