// Named CPU models: what CPUID says, which instructions exist, which control bits may be set.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace trapline {

/// Features that decide whether an instruction exists. Bit masks.
enum class Feature : uint32_t {
  kFpu = 1u << 0,
  kCpuid = 1u << 1,  ///< Also: EFLAGS.ID can be changed.
  kVme = 1u << 2,
  kDe = 1u << 3,
  kPse = 1u << 4,
  kTsc = 1u << 5,
  kMsr = 1u << 6,
  kPae = 1u << 7,
  kCx8 = 1u << 8,
  kSep = 1u << 10,
  kMtrr = 1u << 11,
  kPge = 1u << 12,
  kMca = 1u << 13,
  kCmov = 1u << 14,  ///< CMOVcc; with kFpu also FCMOVcc and FCOMI.
  kPat = 1u << 15,
  kPse36 = 1u << 16,
  kMmx = 1u << 17,
  kFxsr = 1u << 18,
  kSse = 1u << 19,
  kSse2 = 1u << 20,
  kNx = 1u << 21,
  kClflush = 1u << 22,
  kNopl = 1u << 23,  ///< 0F 1F, from the Pentium Pro on.
  kRdpmc = 1u << 24,
  kSyscallNever = 1u << 31,  ///< SYSCALL/SYSRET: offered by no model.
};

struct CpuidResult {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

struct CpuModel {
  std::string_view name;
  std::string_view description;
  uint32_t features = 0;
  uint32_t cr4_mask = 0;       ///< CR4 bits that may be set; others are #GP(0). 0: no CR4.
  uint8_t family = 0;          ///< Of CPUID leaf 1.
  uint8_t physical_bits = 32;  ///< Width of a physical address; PDPTE bits above are reserved.

  constexpr bool has(Feature feature) const { return features & static_cast<uint32_t>(feature); }
  CpuidResult cpuid(uint32_t leaf, uint32_t subleaf) const;
  /// The bits of MXCSR that may be set. Denormals-are-zeros came with SSE2.
  constexpr uint32_t mxcsr_mask() const { return has(Feature::kSse2) ? 0xffff : 0xffbf; }

  /// 486, pentium, pentium3, max.
  static const CpuModel* find(std::string_view name);
  static const CpuModel& max();
  /// The names, for help and error texts: "486, pentium, pentium3, max".
  static std::string_view names();
};

}  // namespace trapline
