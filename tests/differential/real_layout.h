// The machine of sequences of 16-bit code: the same frames as kernel_layout.h, in real mode and
// 16-bit protected mode, without paging. Addresses are linear and physical ones.
#pragma once

#include <cstdint>

#include "tests/differential/kernel_case.h"

namespace trapline::differential::kernel {

// Two interrupt vector tables: one where RESET leaves it, and one that LIDT goes to.
inline constexpr uint32_t kVectors = 0;
inline constexpr uint32_t kVectorsLimit = 0x3ff;
inline constexpr uint32_t kOtherVectors = 0x800;
inline constexpr uint32_t kOtherVectorsLimit = 0xbf;  ///< Up to INT 0x2f.
/// Where exceptions lead: a byte of INT3 for each vector, behind the address that it is 1 from.
inline constexpr uint32_t kFaultStubs = 0x1000;
inline constexpr uint32_t kHandlers = 0x1100;
inline constexpr uint32_t kHandlerBytes = 0x20;
inline constexpr uint32_t kHandlerCount = 8;
/// The first vector of INT that leads to a handler; each of them leads to one.
inline constexpr uint8_t kFirstInt = 0x20;
inline constexpr uint32_t kRealGdt = 0x1800;
inline constexpr uint32_t kRealPrologue = 0x1c00;
inline constexpr uint32_t kRealCode = 0x2000;   ///< Two pages.
inline constexpr uint32_t kRealStack = 0x5000;  ///< Where SS:SP points first; room on both sides.
inline constexpr uint32_t kRealData = 0x8000;   ///< To the end of memory.

// Selectors in the descriptor table.
inline constexpr uint16_t kDataSelectors = 0x08;  ///< kCaseBases of them.
inline constexpr uint16_t kStackSelector = 0x48;
inline constexpr uint16_t kCodeSelectors = 0x50;  ///< kCodeBases of them.
inline constexpr uint16_t kWideSelector = 0x70;   ///< Base 0, 4 GiB.
inline constexpr uint16_t kAbsentSelector = 0x78;
inline constexpr uint16_t kExecuteOnlySelector = 0x80;
inline constexpr uint32_t kRealGdtBytes = 0x88;

/// Memory as it is before the case starts, with its code.
void build_real_memory(const KernelCase& test, Memory& memory);

/// A case of 16-bit code; it depends on the seed and its number alone.
KernelCase make_real_case(uint64_t seed, uint64_t number);

/// Where CS begins, by its selector.
uint32_t code_base(const KernelCase& test, uint16_t selector, bool protected_mode);

}  // namespace trapline::differential::kernel
