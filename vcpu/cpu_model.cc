#include "vcpu/cpu_model.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "vcpu/state.h"

namespace trapline {
namespace {

constexpr uint32_t features(std::initializer_list<Feature> list) {
  uint32_t mask = 0;
  for (Feature feature : list) mask |= static_cast<uint32_t>(feature);
  return mask;
}

constexpr uint32_t k486Features = features({Feature::kFpu, Feature::kCpuid});
constexpr uint32_t kPentiumFeatures =
    k486Features | features({Feature::kVme, Feature::kDe, Feature::kPse, Feature::kTsc,
                             Feature::kMsr, Feature::kCx8});
constexpr uint32_t kPentium3Features =
    kPentiumFeatures |
    features({Feature::kPae, Feature::kSep, Feature::kMtrr, Feature::kPge, Feature::kMca,
              Feature::kCmov, Feature::kPat, Feature::kPse36, Feature::kMmx, Feature::kFxsr,
              Feature::kSse, Feature::kNopl, Feature::kRdpmc});
constexpr uint32_t kMaxFeatures =
    kPentium3Features | features({Feature::kSse2, Feature::kNx, Feature::kClflush});

constexpr uint32_t kPentiumCr4 =
    cr4::kVme | cr4::kPvi | cr4::kTsd | cr4::kDe | cr4::kPse | cr4::kMce;
constexpr uint32_t kPentium3Cr4 =
    kPentiumCr4 | cr4::kPae | cr4::kPge | cr4::kPce | cr4::kOsfxsr | cr4::kOsxmmexcpt;

// Which bits of leaf 1's EDX stand for which feature.
struct FeatureBit {
  Feature feature;
  uint8_t bit;
};
constexpr FeatureBit kLeaf1Edx[] = {
    {Feature::kFpu, 0},   {Feature::kVme, 1},   {Feature::kDe, 2},     {Feature::kPse, 3},
    {Feature::kTsc, 4},   {Feature::kMsr, 5},   {Feature::kPae, 6},    {Feature::kCx8, 8},
    {Feature::kSep, 11},  {Feature::kMtrr, 12}, {Feature::kPge, 13},   {Feature::kMca, 14},
    {Feature::kCmov, 15}, {Feature::kPat, 16},  {Feature::kPse36, 17}, {Feature::kClflush, 19},
    {Feature::kMmx, 23},  {Feature::kFxsr, 24}, {Feature::kSse, 25},   {Feature::kSse2, 26},
};
constexpr uint32_t kMachineCheckException = 1u << 7;  // Goes with CR4.MCE.

// What CPUID says beyond the features.
struct Identity {
  uint32_t max_leaf;
  uint32_t max_extended_leaf;  // 0: extended leaves answer as the highest basic one.
  uint32_t signature;
  uint32_t leaf1_ebx;
  CpuidResult leaf2;
  const char* brand;
};

// The 486 is a DX2 late enough to have CPUID: it shows the FPU and nothing else, from which
// kernels conclude that there is no CR4. The Pentium is a P54C, the Pentium III a Coppermine with
// 256 KiB of L2 cache (descriptor 82h), without its serial number.
constexpr Identity k486Identity = {1, 0, 0x0435, 0, {}, ""};
constexpr Identity kPentiumIdentity = {1, 0, 0x052c, 0, {}, ""};
constexpr Identity kPentium3Identity = {2, 0, 0x0686, 2, {0x03020101, 0, 0, 0x0c040882}, ""};

// An in-order Atom of the first generation: GenuineIntel, family 6, model 28, the only one of
// Intel's 32-bit processors with SSE2, NX and SYSENTER that cannot speculate. Linux lists it as
// NO_SPECULATION | NO_ITLB_MULTIHIT, so a 32-bit kernel marks none of Meltdown, Spectre, SSB, L1TF,
// MDS, TAA, MMIO stale data, Retbleed or SRBDS, and turns on no mitigation. Stepping 10, because up
// to stepping 2 Linux suspects the large page erratum and turns PSE off. From model 14 on Linux
// takes the TSC as constant, which ours is.
constexpr Identity kMaxIdentity = {
    4, 0x80000008, 0x000106ca, 0x00010800, {0x4fba5901, 0x0e3080c0, 0, 0}, "Trapline Virtual CPU"};

const CpuModel kModels[] = {
    {"486", "Intel 486DX2: FPU, CPUID", k486Features, 0, 4, 32},
    {"pentium", "Intel Pentium: adds VME, DE, PSE, TSC, MSR, CX8", kPentiumFeatures, kPentiumCr4, 5,
     32},
    {"pentium3", "Intel Pentium III: adds PAE, PGE, SEP, MTRR, CMOV, PAT, MMX, FXSR, SSE",
     kPentium3Features, kPentium3Cr4, 6, 36},
    {"max", "everything Trapline runs: adds SSE2, NX, CLFLUSH", kMaxFeatures, kPentium3Cr4, 6, 40},
};
constexpr const Identity* kIdentities[] = {&k486Identity, &kPentiumIdentity, &kPentium3Identity,
                                           &kMaxIdentity};

const Identity& identity_of(const CpuModel& model) {
  const auto* found = std::ranges::find(kModels, model.name, &CpuModel::name);
  return found == std::end(kModels) ? kMaxIdentity : *kIdentities[found - std::begin(kModels)];
}

CpuidResult vendor(uint32_t max_leaf) {
  return {max_leaf, 0x756e6547, 0x6c65746e, 0x49656e69};  // "GenuineIntel" in EBX, EDX, ECX.
}

CpuidResult version(const CpuModel& model, const Identity& identity) {
  CpuidResult result{identity.signature, identity.leaf1_ebx, 0, 0};
  for (const FeatureBit& row : kLeaf1Edx)
    if (model.has(row.feature)) result.edx |= 1u << row.bit;
  if (model.cr4_mask & cr4::kMce) result.edx |= kMachineCheckException;
  return result;
}

// Leaf 4: L1D 24 KiB 6-way, L1I 32 KiB 8-way, L2 512 KiB 8-way, lines of 64 bytes.
CpuidResult cache(uint32_t index) {
  struct Row {
    uint32_t type, level, ways, sets;
  };
  constexpr Row kRows[] = {{1, 1, 6, 64}, {2, 1, 8, 64}, {3, 2, 8, 1024}};
  if (index >= std::size(kRows)) return {};
  const Row& row = kRows[index];
  constexpr uint32_t kSelfInitialising = 1u << 8;
  return {row.type | row.level << 5 | kSelfInitialising, (row.ways - 1) << 22 | (64 - 1),
          row.sets - 1, 0};
}

CpuidResult brand(const char* text, uint32_t part) {
  std::array<char, 48> padded{};
  std::strncpy(padded.data(), text, padded.size() - 1);
  std::array<uint32_t, 4> words{};
  std::memcpy(words.data(), padded.data() + part * sizeof words, sizeof words);
  return {words[0], words[1], words[2], words[3]};
}

CpuidResult extended(const CpuModel& model, const Identity& identity, uint32_t leaf) {
  switch (leaf) {
    case 0x80000000:
      return {identity.max_extended_leaf, 0, 0, 0};
    case 0x80000001:
      return {0, 0, 0, model.has(Feature::kNx) ? 1u << 20 : 0};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
      return brand(identity.brand, leaf - 0x80000002);
    case 0x80000006:
      return {0, 0, 512u << 16 | 6u << 12 | 64u, 0};  // L2: 512 KiB, 8-way, 64-byte lines.
    case 0x80000007:
      return {0, 0, 0, 1u << 8};  // The TSC runs at one rate, always.
    case 0x80000008:
      return {32u << 8 | model.physical_bits, 0, 0, 0};
    default:
      return {};
  }
}

}  // namespace

CpuidResult CpuModel::cpuid(uint32_t leaf, uint32_t subleaf) const {
  const Identity& identity = identity_of(*this);
  if (leaf >= 0x80000000 && leaf <= identity.max_extended_leaf)
    return extended(*this, identity, leaf);
  switch (std::min(leaf, identity.max_leaf)) {
    case 0:
      return vendor(identity.max_leaf);
    case 1:
      return version(*this, identity);
    case 2:
      return identity.leaf2;
    case 4:
      return cache(subleaf);
    default:
      return {};
  }
}

const CpuModel* CpuModel::find(std::string_view name) {
  const auto* found = std::ranges::find(kModels, name, &CpuModel::name);
  return found == std::end(kModels) ? nullptr : found;
}

const CpuModel& CpuModel::max() {
  return kModels[3];
}

std::string_view CpuModel::names() {
  return "486, pentium, pentium3, max";
}

}  // namespace trapline
