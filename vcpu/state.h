// The CPU as the guest sees it, as one plain struct. Emitted code addresses its fields by offset,
// so what it relies on is asserted at the end of this file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace trapline {

enum Gpr : uint8_t { kEax, kEcx, kEdx, kEbx, kEsp, kEbp, kEsi, kEdi };

enum SegmentName : uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };
inline constexpr int kSegmentCount = 6;

namespace eflags {
inline constexpr uint32_t kCf = 1u << 0;
inline constexpr uint32_t kFixed1 = 1u << 1;
inline constexpr uint32_t kPf = 1u << 2;
inline constexpr uint32_t kAf = 1u << 4;
inline constexpr uint32_t kZf = 1u << 6;
inline constexpr uint32_t kSf = 1u << 7;
inline constexpr uint32_t kTf = 1u << 8;
inline constexpr uint32_t kIf = 1u << 9;
inline constexpr uint32_t kDf = 1u << 10;
inline constexpr uint32_t kOf = 1u << 11;
inline constexpr uint32_t kIopl = 3u << 12;
inline constexpr uint32_t kIoplShift = 12;
inline constexpr uint32_t kNt = 1u << 14;
inline constexpr uint32_t kRf = 1u << 16;
inline constexpr uint32_t kVm = 1u << 17;
inline constexpr uint32_t kAc = 1u << 18;
inline constexpr uint32_t kVif = 1u << 19;
inline constexpr uint32_t kVip = 1u << 20;
inline constexpr uint32_t kId = 1u << 21;
/// The arithmetic flags: the only ones that ever live in the host's EFLAGS.
inline constexpr uint32_t kArithmetic = kCf | kPf | kAf | kZf | kSf | kOf;
inline constexpr uint32_t kDefined =
    kArithmetic | kTf | kIf | kDf | kIopl | kNt | kRf | kVm | kAc | kVif | kVip | kId | kFixed1;
}  // namespace eflags

namespace cr0 {
inline constexpr uint32_t kPe = 1u << 0;
inline constexpr uint32_t kMp = 1u << 1;
inline constexpr uint32_t kEm = 1u << 2;
inline constexpr uint32_t kTs = 1u << 3;
inline constexpr uint32_t kEt = 1u << 4;
inline constexpr uint32_t kNe = 1u << 5;
inline constexpr uint32_t kWp = 1u << 16;
inline constexpr uint32_t kAm = 1u << 18;
inline constexpr uint32_t kNw = 1u << 29;
inline constexpr uint32_t kCd = 1u << 30;
inline constexpr uint32_t kPg = 1u << 31;
}  // namespace cr0

namespace cr4 {
inline constexpr uint32_t kVme = 1u << 0;
inline constexpr uint32_t kPvi = 1u << 1;
inline constexpr uint32_t kTsd = 1u << 2;
inline constexpr uint32_t kDe = 1u << 3;
inline constexpr uint32_t kPse = 1u << 4;
inline constexpr uint32_t kPae = 1u << 5;
inline constexpr uint32_t kMce = 1u << 6;
inline constexpr uint32_t kPge = 1u << 7;
inline constexpr uint32_t kPce = 1u << 8;
inline constexpr uint32_t kOsfxsr = 1u << 9;
inline constexpr uint32_t kOsxmmexcpt = 1u << 10;
}  // namespace cr4

namespace apic_base {
inline constexpr uint64_t kEnable = 1u << 11;
}
namespace efer {
inline constexpr uint64_t kNxe = 1u << 11;
}  // namespace efer

/// Bits of Segment::attributes: a descriptor's second dword shifted right by 8, with the limit's
/// nibble cleared, and one bit of our own.
namespace segment {
inline constexpr uint32_t kTypeMask = 0xf;
inline constexpr uint32_t kAccessed = 1u << 0;
inline constexpr uint32_t kWritable = 1u << 1;    ///< Data segments.
inline constexpr uint32_t kReadable = 1u << 1;    ///< Code segments.
inline constexpr uint32_t kExpandDown = 1u << 2;  ///< Data segments.
inline constexpr uint32_t kConforming = 1u << 2;  ///< Code segments.
inline constexpr uint32_t kCode = 1u << 3;
inline constexpr uint32_t kCodeOrData = 1u << 4;  ///< The S bit.
inline constexpr uint32_t kDplShift = 5;
inline constexpr uint32_t kDplMask = 3u << kDplShift;
inline constexpr uint32_t kPresent = 1u << 7;
inline constexpr uint32_t kAvailable = 1u << 12;
inline constexpr uint32_t kBig = 1u << 14;  ///< D or B.
inline constexpr uint32_t kGranularity = 1u << 15;
inline constexpr uint32_t kUnusable = 1u << 16;  ///< Loaded with a null selector.
}  // namespace segment

/// What translated code may assume of a segment without looking at it again.
enum class SegmentClass : uint8_t {
  kFlat,     ///< Base 0, limit 4 GiB, readable and writable: an offset is a linear address.
  kBased,    ///< A page's base, limit 4 GiB, readable and writable: one add. Accesses beyond the
             ///< limit cross a page end, so that nothing has to be checked where there is none.
  kChecked,  ///< Everything else: base, and compare with read_end or write_end.
  k64K,      ///< A base that is a multiple of 16, a limit of 64 KiB or more, readable and writable:
         ///< of what 16-bit offsets reach, only an access that begins near the end can leave it.
};

/// A segment register with its hidden part. The last two fields are derived: see derive().
struct Segment {
  uint32_t base = 0;
  uint32_t limit = 0;  ///< In bytes, granularity applied.
  uint32_t attributes = segment::kUnusable;
  uint16_t selector = 0;
  SegmentClass klass = SegmentClass::kChecked;
  uint8_t reserved = 0;
  /// An access of n bytes at offset o is surely allowed when o + n <= read_end (write_end for
  /// writes), computed in 64 bits. 0 where nothing is surely allowed: null, execute-only,
  /// expand-down. Going past it is not yet a fault; check_segment() decides.
  uint64_t read_end = 0;
  uint64_t write_end = 0;

  constexpr bool unusable() const { return attributes & segment::kUnusable; }
  constexpr bool present() const { return attributes & segment::kPresent; }
  constexpr bool code() const { return attributes & segment::kCode; }
  constexpr bool big() const { return attributes & segment::kBig; }
  constexpr uint8_t dpl() const { return (attributes >> segment::kDplShift) & 3; }
  constexpr bool readable() const {
    return !unusable() && (!code() || (attributes & segment::kReadable));
  }
  constexpr bool writable() const {
    return !unusable() && !code() && (attributes & segment::kWritable);
  }
  constexpr bool expand_down() const { return !code() && (attributes & segment::kExpandDown); }

  /// Recomputes klass, read_end and write_end; every writer of the other fields calls it.
  constexpr void derive() {
    const uint64_t end = expand_down() ? 0 : uint64_t{limit} + 1;
    read_end = readable() ? end : 0;
    write_end = writable() ? end : 0;
    const bool whole = end == uint64_t{1} << 32;
    if (end < 0x10000 || read_end == 0 || write_end == 0)
      klass = SegmentClass::kChecked;
    else if (whole && (base & 0xfff) == 0)
      klass = base == 0 ? SegmentClass::kFlat : SegmentClass::kBased;
    else
      klass = (base & 15) == 0 ? SegmentClass::k64K : SegmentClass::kChecked;
  }

  /// A flat 4 GiB segment with the given descriptor type (S bit included) and privilege.
  static constexpr Segment flat(uint16_t selector, bool code, uint8_t dpl) {
    Segment s;
    s.limit = 0xffffffffu;
    s.attributes = segment::kPresent | segment::kCodeOrData | segment::kAccessed |
                   segment::kWritable | segment::kBig | segment::kGranularity |
                   (code ? segment::kCode : 0u) | uint32_t{dpl} << segment::kDplShift;
    s.selector = selector;
    s.derive();
    return s;
  }

  /// A real-mode segment: base selector * 16, limit 64 KiB.
  static constexpr Segment real(uint16_t selector, bool code) {
    Segment s;
    s.base = uint32_t{selector} << 4;
    s.limit = 0xffffu;
    s.attributes = segment::kPresent | segment::kCodeOrData | segment::kAccessed |
                   segment::kWritable | (code ? segment::kCode : 0u);
    s.selector = selector;
    s.derive();
    return s;
  }
};

/// Whether a data segment's attributes are what a load in real mode or V86 mode makes of them.
constexpr bool unprotected_attributes(uint32_t attributes, bool v86) {
  constexpr uint32_t kKept = segment::kBig | segment::kGranularity;
  constexpr uint32_t kFresh = Segment::real(0, false).attributes;
  return v86 ? attributes == (kFresh | segment::kDplMask) : (attributes & ~kKept) == kFresh;
}

struct TableRegister {
  uint32_t base = 0;
  uint16_t limit = 0xffff;
};

/// What keeps interrupts out for one more instruction.
enum class InterruptShadow : uint8_t { kNone, kSti, kMovSs };

/// The guest's x87, MMX and SSE state in FXSAVE's 512-byte layout. FIP, FCS, FDP, FDS and FOP in
/// it are guest values.
struct alignas(16) FpuImage {
  uint16_t control = 0x037f;
  uint16_t status = 0;
  uint8_t abridged_tag = 0;
  uint8_t reserved1 = 0;
  uint16_t opcode = 0;
  uint32_t ip = 0;
  uint16_t cs = 0;
  uint16_t reserved2 = 0;
  uint32_t dp = 0;
  uint16_t ds = 0;
  uint16_t reserved3 = 0;
  uint32_t mxcsr = 0x1f80;
  uint32_t mxcsr_mask = 0;
  std::array<std::array<uint8_t, 16>, 8> st{};
  std::array<std::array<uint8_t, 16>, 8> xmm{};
  std::array<uint8_t, 512 - 32 - 256> rest{};
};

struct ModelSpecificRegisters {
  uint64_t efer = 0;
  uint64_t apic_base = 0xfee00900;
  uint64_t sysenter_cs = 0;
  uint64_t sysenter_esp = 0;
  uint64_t sysenter_eip = 0;
  uint64_t pat = 0x0007040600070406;
  uint64_t misc_enable = 1;
  uint64_t mtrr_default_type = 0;
  std::array<uint64_t, 16> mtrr_variable{};  ///< Base and mask, eight pairs.
  std::array<uint64_t, 11> mtrr_fixed{};
};

/// Everything architectural. Between runs it is complete; while translated code runs, the general
/// registers, EIP and the arithmetic flags live in host registers instead.
struct CpuState {
  std::array<uint32_t, 8> gpr{};
  uint32_t eip = 0;
  uint32_t eflags = eflags::kFixed1;
  uint8_t cpl = 0;
  InterruptShadow shadow = InterruptShadow::kNone;
  bool nmi_blocked = false;  ///< From the delivery of an NMI to the next IRET.
  bool halted = false;
  uint32_t cr0 = cr0::kEt;
  uint32_t cr2 = 0;
  uint32_t cr3 = 0;
  uint32_t cr4 = 0;
  TableRegister gdtr;
  TableRegister idtr;
  std::array<Segment, kSegmentCount> segment;
  Segment ldtr;
  Segment tr;
  std::array<uint32_t, 8> dr{0, 0, 0, 0, 0, 0, 0xffff0ff0, 0x00000400};
  std::array<uint64_t, 4> pdpte{};  ///< PAE: loaded by MOV CR3 and friends, not memory.
  uint64_t tsc_offset = 0;          ///< Guest TSC = virtual clock's TSC + this.
  ModelSpecificRegisters msr;
  FpuImage fpu;

  bool protected_mode() const { return cr0 & cr0::kPe; }
  bool v86() const { return eflags & eflags::kVm; }
  bool paging() const { return cr0 & cr0::kPg; }
  bool pae() const { return cr4 & cr4::kPae; }
  uint8_t iopl() const { return (eflags & eflags::kIopl) >> eflags::kIoplShift; }

  /// The state after RESET, as the manual gives it (CS base 0xffff0000, EIP 0xfff0).
  static CpuState reset();
  /// 32-bit protected mode, flat segments with the given privilege, paging off: what tests and
  /// Multiboot-like entries start from. Selectors: CS 0x08|cpl, data 0x10|cpl.
  static CpuState flat32(uint8_t cpl);
};

static_assert(std::is_standard_layout_v<CpuState>, "emitted code uses offsetof into it");
static_assert(std::is_trivially_copyable_v<CpuState>, "save, load and comparison copy it whole");
static_assert(offsetof(CpuState, gpr) == 0, "emitted code spills registers with 8-bit offsets");
static_assert(sizeof(FpuImage) == 512, "FXSAVE writes 512 bytes");
static_assert(offsetof(CpuState, fpu) % 16 == 0, "FXSAVE needs 16-byte alignment");
static_assert(offsetof(FpuImage, mxcsr) == 24 && offsetof(FpuImage, st) == 32 &&
                  offsetof(FpuImage, xmm) == 160,
              "FXSAVE's layout");

}  // namespace trapline
