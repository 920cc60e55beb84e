// The small machine in which kernel-mode sequences run: 24 frames of physical memory that hold page
// tables for two address spaces, descriptor tables, code, stacks and data.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "vcpu/address.h"

namespace trapline::differential::kernel {

inline constexpr uint32_t kFrames = 24;
inline constexpr uint32_t kMemoryBytes = kFrames * kPageSize;

// Frames. All of them are mapped where they are (linear = physical) in both address spaces.
inline constexpr uint32_t kDirectoryA = 0x1000;
inline constexpr uint32_t kDirectoryB = 0x2000;
inline constexpr uint32_t kLowTable = 0x3000;
inline constexpr uint32_t kPlayTableA = 0x4000;
inline constexpr uint32_t kPlayTableB = 0x5000;
inline constexpr uint32_t kGdt = 0x6000;
inline constexpr uint32_t kTss = 0x6800;
inline constexpr uint32_t kLdt = 0x6c00;
inline constexpr uint32_t kGdtPointer = 0x6f00;
inline constexpr uint32_t kPdptA = 0x7000;  ///< PAE only.
inline constexpr uint32_t kPdptB = 0x7020;
inline constexpr uint32_t kCode = 0x8000;      ///< Two pages.
inline constexpr uint32_t kUserCode = 0xa000;  ///< User may read and execute.
inline constexpr uint32_t kPrologue = 0xb000;
inline constexpr uint32_t kFlush = 0xb800;  ///< Reloads CR3 with EAX, then INT3.
inline constexpr uint32_t kStackTop = 0xcf00;
inline constexpr uint32_t kUserStackTop = 0xdf00;
inline constexpr uint32_t kFirstDataFrame = 0xe;
inline constexpr uint32_t kDataFrames = kFrames - kFirstDataFrame;

/// The pages whose mapping the sequences play with, in each address space.
inline constexpr uint32_t kPlayBase = 0x00400000;
inline constexpr uint32_t kPlayPages = 16;
/// A large page that shows physical memory from 0.
inline constexpr uint32_t kLargeBase = 0x00800000;

// Selectors.
inline constexpr uint16_t kCode0 = 0x08;
inline constexpr uint16_t kData0 = 0x10;
inline constexpr uint16_t kCode3 = 0x18 | 3;
inline constexpr uint16_t kData3 = 0x20 | 3;
inline constexpr uint16_t kConforming = 0x28;
inline constexpr uint16_t kBased = 0x38;
inline constexpr uint32_t kBasedBase = 0x2000;
inline constexpr uint16_t kTssSelector = 0x58;
inline constexpr uint16_t kLdtSelector = 0x60;
inline constexpr uint32_t kGdtEntries = 16;

using Memory = std::array<uint8_t, kMemoryBytes>;

/// Memory as it is before a case puts its code in.
void build_memory(Memory& memory, bool pae);
/// Code that loads the descriptor table, the segments and the control registers, and ends by INT3.
std::vector<uint8_t> prologue(bool pae);

/// The address of a page's entry in the play table of an address space (0 or 1).
uint32_t play_entry(uint32_t space, uint32_t page, bool pae);
/// The address of the directory entry of the large page.
uint32_t large_entry(uint32_t space, bool pae);
uint32_t root(uint32_t space, bool pae);

inline constexpr uint32_t kCr0 = 0x80000031;  ///< PG, NE, ET, PE.

}  // namespace trapline::differential::kernel
