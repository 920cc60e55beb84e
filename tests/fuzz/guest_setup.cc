#include "tests/fuzz/guest_setup.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "tests/fuzz/legacy_code.h"

namespace trapline::fuzz {
namespace {

using differential::Random;

// Physical memory, and linear where paging is off or maps a page to itself.
constexpr uint32_t kGdt = 0x1000;
constexpr uint32_t kIdt = 0x2000;
constexpr uint32_t kTss = 0x3000;
constexpr uint32_t kLdt = 0x4000;
constexpr uint32_t kHandlers = 0x5000;  ///< 32 bytes for each of 32 vectors.
constexpr uint32_t kStackTop = 0x8000;
constexpr uint32_t kCode = 0x8000;
constexpr uint32_t kDirectory = 0x10000;  ///< Directory (PAE: pointers), then tables.
constexpr uint32_t kTables = 0x11000;
constexpr uint32_t kTablePages = 4;

constexpr uint16_t kCodeSelector = 0x08, kDataSelector = 0x10, kUserCode = 0x1b, kUserData = 0x23;
constexpr uint16_t kTssSelector = 0x28, kLdtSelector = 0x30;

// Where most old mechanisms are set up, see Maker::make_legacy(). Descriptors from kFirstTask on:
// four TSSs, two of the 286, task gates to one of each, call gates of both sizes, code and data of
// 16 bits, and an LDT.
constexpr uint32_t kMonitor = 0x5400;  ///< See legacy_code.h.
constexpr uint32_t kV86Code = 0x5500;
constexpr uint32_t kTaskCode = 0x5600;  ///< 32 bytes for each task of a chain.
constexpr uint32_t kTasks = 0x5800;     ///< 256 bytes each.
constexpr uint32_t kTaskCount = 6, kTasks32 = 4;
constexpr uint16_t kFirstTask = 0x38, kTaskGate = 0x68, kCallGate16 = 0x78, kCallGate32 = 0x80;
constexpr uint16_t kCode16 = 0x88, kData16 = 0x90, kSpareLdt = 0x98;

/// The bits of an input's setup number.
struct Setup {
  uint32_t bits;
  uint32_t mode() const { return bits & 3; }  ///< Real, virtual-8086, protected 16, protected 32.
  bool user() const { return bits >> 2 & 1; }
  uint32_t paging() const { return bits >> 3 & 3; }  ///< 0, 1: off; 2: 32-bit; 3: PAE.
  bool random_segments() const { return (bits >> 5 & 3) == 3; }
  bool random_controls() const { return (bits >> 7 & 3) == 3; }
  bool random_flags() const { return bits >> 9 & 1; }
  bool random_fpu() const { return bits >> 10 & 1; }
  bool exits_on_exceptions() const { return (bits >> 11 & 7) == 7; }
  bool no_ports() const { return (bits >> 14 & 3) == 3; }
  bool interrupts() const { return (bits >> 16 & 3) == 3; }
  bool breakpoint() const { return (bits >> 18 & 7) == 7; }
  bool random_tables() const { return (bits >> 21 & 3) == 3; }
  bool end_of_page() const { return (bits >> 23 & 3) == 3; }
  bool wild_controls() const { return (bits >> 25 & 15) == 15; }
};

class Maker {
 public:
  Maker(uint32_t setup, uint64_t seed) : setup_{setup}, random_(seed, setup), more_(~seed, setup) {}

  Guest make(std::span<const uint8_t> code) {
    guest_.memory.assign(kMemoryBytes, 0);
    fill_data();
    make_descriptors();
    make_handlers();
    guest_.state = CpuState::flat32(0);
    make_mode();
    make_registers();
    if (setup_.paging() >= 2) make_paging();
    if (setup_.random_segments()) make_segments();
    make_controls();
    if (setup_.random_fpu()) make_fpu();
    place(code);
    make_events();
    if (more_.one_in(2)) make_legacy();
    return std::move(guest_);
  }

 private:
  CpuState& state() { return guest_.state; }
  template <typename T>
  void store(uint32_t address, T value) {
    std::memcpy(&guest_.memory[address], &value, sizeof value);
  }
  bool real() const { return setup_.mode() == 0; }
  bool v86() const { return setup_.mode() == 1; }

  void fill_data() {
    for (uint32_t at = 0x9000; at < 0x10000; at += 8) store(at, random_.next());
    for (uint32_t at = 0x20000; at < 0x24000; at += 8) store(at, random_.next());
  }

  void descriptor(uint32_t at, uint32_t base, uint32_t limit, uint32_t attributes) {
    const uint64_t high = (base & 0xff000000u) | (base >> 16 & 0xff) |
                          (attributes << 8 & 0xf0ff00u) | (limit & 0xf0000u);
    store(at, high << 32 | (base & 0xffff) << 16 | (limit & 0xffff));
  }

  void make_descriptors() {
    descriptor(kGdt + kCodeSelector, 0, 0xfffff, 0xc09b);
    descriptor(kGdt + kDataSelector, 0, 0xfffff, 0xc093);
    descriptor(kGdt + (kUserCode & ~7u), 0, 0xfffff, 0xc0fb);
    descriptor(kGdt + (kUserData & ~7u), 0, 0xfffff, 0xc0f3);
    descriptor(kGdt + kTssSelector, kTss, 0x2067, 0x008b);
    descriptor(kGdt + kLdtSelector, kLdt, 0xfff, 0x0082);
    for (uint32_t at = 0x38; at < 0x800; at += 8) random_descriptor(kGdt + at);
    for (uint32_t at = 0; at < 0x200; at += 8) random_descriptor(kLdt + at);
    store(kTss + 4, kStackTop - 0x800);
    store(kTss + 8, uint32_t{kDataSelector});
    store(kTss + 0x64, uint32_t{0x68u << 16});  // The I/O bitmap: all allowed, all zero.
  }

  void random_descriptor(uint32_t at) {
    store(at, random_.next());
    if (random_.one_in(8)) return;
    const uint32_t access = 0x80 | random_.below(128);
    if (access & 0x10 || random_.one_in(2)) {
      descriptor(at, random_.below(0x10000), random_.below(0x20000),
                 access | random_.below(16) << 12);
    } else {  // A gate, most of them to somewhere.
      store(at, (random_.below(0x1000) + kHandlers) | uint32_t{kCodeSelector} << 16);
      store(at + 4, access << 8 | random_.below(4));
    }
  }

  /// Handlers that go on behind the first byte of the instruction that faulted.
  void make_handlers() {
    constexpr uint32_t kWithCode =
        1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17;
    for (uint32_t vector = 0; vector < 32; ++vector) {
      const uint32_t handler = kHandlers + vector * 32;
      std::vector<uint8_t> code;
      if (real())
        code = {0x55, 0x89, 0xe5, 0xff, 0x46, 0x02, 0x5d, 0xcf};
      else
        code = {0xff, 0x04, 0x24, 0xcf};
      if (!real() && (kWithCode >> vector & 1)) code.insert(code.begin(), {0x83, 0xc4, 0x04});
      std::copy(code.begin(), code.end(), guest_.memory.begin() + handler);
      store(vector * 4, uint32_t{kHandlers >> 4} << 16 | vector * 32);
      const uint32_t type = random_.one_in(4) ? 0xef00 : 0xee00;
      store(kIdt + vector * 8, uint32_t{kCodeSelector} << 16 | handler);
      store(kIdt + vector * 8 + 4, type);
    }
    for (uint32_t vector = 32; vector < 64; ++vector) random_descriptor(kIdt + vector * 8);
  }

  void make_mode() {
    CpuState& s = state();
    s.gdtr = {kGdt, 0x7ff};
    s.idtr = real() ? TableRegister{0, 0x3ff} : TableRegister{kIdt, 0x1ff};
    s.ldtr = system_segment(kLdtSelector, kLdt, 0xfff, 0x82);
    s.tr = system_segment(kTssSelector, kTss, 0x2067, 0x8b);
    const bool user = v86() || (setup_.user() && !real());
    s.cpl = user ? 3 : 0;
    s.cr0 = cr0::kEt | (real() ? 0 : cr0::kPe);
    s.cr4 = 0;
    if (v86()) s.eflags |= eflags::kVm;
    for (int name = 0; name < kSegmentCount; ++name) {
      const bool code = name == kCs;
      Segment& segment = s.segment[static_cast<size_t>(name)];
      if (real() || v86()) {
        segment = Segment::real(0, false);
        if (v86()) segment.attributes = 0xf3;
      } else {
        segment = Segment::flat(
            user ? (code ? kUserCode : kUserData) : (code ? kCodeSelector : kDataSelector), code,
            s.cpl);
        if (setup_.mode() == 2) segment.attributes &= ~segment::kBig;
      }
      segment.derive();
    }
    if (setup_.random_flags()) s.eflags |= random_.next32() & eflags::kDefined & ~eflags::kVm;
  }

  static Segment system_segment(uint16_t selector, uint32_t base, uint32_t limit, uint32_t access) {
    Segment out;
    out.selector = selector;
    out.base = base;
    out.limit = limit;
    out.attributes = access;
    return out;
  }

  uint32_t random_address() {
    switch (random_.below(8)) {
      case 0:
        return random_.next32();
      case 1:
        return 0x1000u * random_.below(0x30) + 0xff0 + random_.below(16);
      case 2:
        return kCode + random_.below(0x200);
      case 3:
        return setup_.paging() >= 2 ? kDirectory + random_.below(0x5000) : random_.below(0x10000);
      default:
        return 0x9000 + random_.below(0x6000);
    }
  }

  void make_registers() {
    for (uint32_t& reg : state().gpr) reg = random_address();
    if (random_.one_in(2)) state().gpr[kEcx] = random_.below(64);
    if (!random_.one_in(8)) state().gpr[kEsp] = kStackTop - random_.below(0x800);
  }

  void make_paging() {
    CpuState& s = state();
    if (real()) return;
    s.cr0 |= cr0::kPg | (random_.one_in(2) ? cr0::kWp : 0);
    s.cr4 |= cr4::kPse | (random_.one_in(2) ? cr4::kPge : 0);
    s.cr3 = kDirectory;
    const bool pae = setup_.paging() == 3;
    if (pae) {
      s.cr4 |= cr4::kPae;
      if (random_.one_in(2)) s.msr.efer |= efer::kNxe;
      s.pdpte[0] = kTables | 1;
      s.pdpte[1] = random_.one_in(2) ? kTables | 1 : 0;
      for (uint32_t i = 0; i < 4; ++i) store(kDirectory + i * 8, s.pdpte[i]);
      for (uint32_t i = 0; i < kTablePages - 1; ++i)
        store(kTables + i * 8, uint64_t{kTables + (i + 1) * 0x1000} | 7);
      store(kTables + 511 * 8, uint64_t{kTables} | 7);  // The tables map themselves.
      for (uint32_t i = 0; i < 512; ++i) store(kTables + 0x1000 + i * 8, entry(i, true));
      for (uint32_t i = 512; i < 1024; ++i)
        store(kTables + 0x1000 + i * 8, entry(random_.below(64), true));
      return;
    }
    for (uint32_t i = 0; i < kTablePages; ++i)
      store(kDirectory + i * 4, (kTables + i * 0x1000) | 7);
    store(kDirectory + 5 * 4, random_.below(2) << 22 | 0x87u);
    store(kDirectory + 1023 * 4, kDirectory | 7);
    for (uint32_t i = 0; i < 1024; ++i)
      store(kTables + i * 4, static_cast<uint32_t>(entry(i, false)));
    for (uint32_t i = 1024; i < 2048; ++i)
      store(kTables + i * 4, static_cast<uint32_t>(entry(random_.below(64), false)));
  }

  /// The page's own frame for what must be there, else mostly; flags are mostly generous.
  uint64_t entry(uint32_t page, bool pae) {
    const bool needed = page < 9 && !setup_.random_tables();
    uint64_t frame = needed || !random_.one_in(8) ? page : random_.below(256);
    uint64_t flags = 7 | (random_.below(4) << 5);
    if (!needed && random_.one_in(4)) flags = random_.below(512);
    if (!needed && random_.one_in(16)) frame = random_.next32() & 0xfffff;
    const bool no_execute = pae && !needed && random_.one_in(16);
    return frame << 12 | flags | (no_execute ? uint64_t{1} << 63 : 0);
  }

  void make_segments() {
    for (Segment& segment : state().segment) {
      if (random_.one_in(2)) continue;
      if (random_.one_in(2))
        segment.base = random_.below(0x8000) & (random_.one_in(2) ? ~15u : ~0u);
      if (random_.one_in(2)) segment.limit = random_.below(0x18000);
      if (random_.one_in(4)) segment.attributes ^= 1u << random_.below(17);
      if (random_.one_in(8)) segment.attributes = random_.next32() & 0x1f0ff;
    }
  }

  void make_controls() {
    CpuState& s = state();
    if (random_.one_in(2)) s.cr4 |= cr4::kOsfxsr | cr4::kOsxmmexcpt;
    if (random_.one_in(2)) s.cr0 |= cr0::kNe;
    if (setup_.random_controls()) {
      s.cr0 |= random_.next32() & (cr0::kMp | cr0::kEm | cr0::kTs | cr0::kNe | cr0::kWp | cr0::kAm);
      s.cr4 |= random_.next32() & (cr4::kTsd | cr4::kDe | cr4::kPge | cr4::kMce | cr4::kVme |
                                   cr4::kPvi | cr4::kPce | cr4::kOsfxsr | cr4::kOsxmmexcpt);
    }
    if (setup_.wild_controls()) {
      s.cr0 = random_.next32();
      s.cr3 = random_.next32();
      s.cr4 = random_.next32();
      s.cpl = static_cast<uint8_t>(random_.below(4));
      s.eflags = random_.next32();
      for (uint64_t& pointer : s.pdpte) pointer = random_.next();
    }
  }

  void make_fpu() {
    FpuImage& fpu = state().fpu;
    fpu.control = static_cast<uint16_t>(random_.next32() & 0x0f7f);
    if (random_.one_in(2)) fpu.control |= 0x3f;
    fpu.status = static_cast<uint16_t>(random_.next32());
    fpu.abridged_tag = static_cast<uint8_t>(random_.next32());
    fpu.mxcsr = random_.one_in(2) ? random_.next32() & 0xffff : 0x1f80;
    for (auto* bank : {&fpu.st, &fpu.xmm})
      for (auto& reg : *bank)
        for (uint8_t& byte : reg) byte = static_cast<uint8_t>(random_.next32());
  }

  void place(std::span<const uint8_t> code) {
    const uint32_t length = static_cast<uint32_t>(code.size());
    uint32_t at = kCode + random_.below(64);
    if (setup_.end_of_page()) at = kCode + 0x1000 - std::min(length, 1 + random_.below(32));
    std::copy(code.begin(), code.end(), guest_.memory.begin() + at);
    state().eip = at - state().segment[kCs].base;
  }

  void make_events() {
    guest_.exits_on_exceptions = setup_.exits_on_exceptions();
    guest_.has_ports = !setup_.no_ports();
    guest_.interrupts = setup_.interrupts();
    guest_.vector = static_cast<uint8_t>(random_.below(66));
    guest_.breakpoint = setup_.breakpoint();
    guest_.breakpoint_at = kCode + random_.below(256);
  }

  /// Tasks of both kinds, with gates that lead to them, some of them for exceptions; a task to go
  /// back to; breakpoints; flags that turn old mechanisms on.
  void make_legacy() {
    for (uint32_t i = 0; i < kTaskCount; ++i) make_task(i);
    gate(kGdt + kTaskGate, kFirstTask, 0x85);
    gate(kGdt + kTaskGate + 8, kFirstTask + kTasks32 * 8, 0x85);
    gate(kGdt + kCallGate16, kCode16, 0x84);
    gate(kGdt + kCallGate32, kCodeSelector, 0x8c);
    const uint32_t level = more_.one_in(4) ? 0x60 : 0;
    descriptor(kGdt + kCode16, 0, 0xffff, 0x9b | level);
    descriptor(kGdt + kData16, 0, 0xffff, 0x93 | 0x60);
    descriptor(kGdt + kSpareLdt, kLdt, 0x1ff, 0x82);
    for (uint32_t vector = 0; vector < 64; ++vector) {
      if (real() || !more_.one_in(vector < 32 ? 8 : 2)) continue;
      const uint32_t task = more_.below(kTaskCount);
      if (more_.one_in(2))
        gate(kIdt + vector * 8, kFirstTask + task * 8, 0x85);
      else
        gate(kIdt + vector * 8, kCode16, 0x86 + more_.below(2));
    }
    store(kTss, uint32_t{kFirstTask} + more_.below(kTaskCount) * 8);
    if (!real() && !more_.one_in(4)) make_monitor();
    if (!real() && more_.one_in(2)) make_chain();
    if (more_.one_in(4)) state().eflags |= eflags::kNt;
    if (more_.one_in(4)) state().eflags |= eflags::kTf;
    if (more_.one_in(4)) state().cr4 |= cr4::kVme | cr4::kPvi;
    if (v86() && more_.one_in(2)) state().eflags |= eflags::kIopl;
    if (more_.one_in(2)) make_breakpoints();
  }

  /// What lets virtual-8086 programs go on: a monitor behind #GP and #SS, and a vector table that
  /// it emulates INT n by. With VME the processor asks the TSS instead which INT n need the
  /// monitor.
  void make_monitor() {
    std::ranges::copy(kV86Monitor, guest_.memory.begin() + kMonitor);
    for (uint32_t i = 0; i < kV86Handlers.size(); ++i)
      std::ranges::copy(kV86Handlers[i], guest_.memory.begin() + kV86Code + i * 8);
    for (uint32_t vector = 0; vector < 256; ++vector)
      store(vector * 4, kV86Code >> 4 << 16 | more_.below(kV86Handlers.size()) * 8);
    for (uint32_t vector : {12, 13}) {
      store(kIdt + vector * 8, uint32_t{kCodeSelector} << 16 | kMonitor);
      store(kIdt + vector * 8 + 4, 0x8e00);
    }
    if (more_.one_in(2)) return;
    store(kTss + 0x64, uint32_t{0x88u << 16});
    for (uint32_t i = 0; i < 0x20; i += 4) store(kTss + 0x68 + i, more_.next32());
  }

  /// Tasks that each call the next one, by its TSS or a task gate, and return when they are called
  /// themselves.
  void make_chain() {
    for (uint32_t i = 0; i < kTaskCount; ++i) {
      const uint32_t at = kTaskCode + i * 32;
      std::ranges::copy(kTaskWork[more_.below(kTaskWork.size())], guest_.memory.begin() + at);
      const uint32_t next = (i + 1) % kTaskCount;
      const bool by_gate = next == 0 || next == kTasks32;
      const uint32_t selector =
          by_gate && more_.one_in(2) ? kTaskGate + (next ? 8 : 0) : kFirstTask + next * 8;
      guest_.memory[at + 4] = 0x9a;  // CALL far
      store(at + 5, uint32_t{0});
      store(at + 9, static_cast<uint16_t>(selector));
      // IRET, back to the call before it.
      guest_.memory[at + 11] = 0xcf;
      guest_.memory[at + 12] = 0xeb;
      guest_.memory[at + 13] = static_cast<uint8_t>(-10);
      const bool small = i >= kTasks32;
      const uint32_t task = kTasks + i * 0x100;
      store(task + (small ? 0x0e : 0x20), static_cast<uint16_t>(at));
      if (!small) store(task + 0x22, uint16_t{0});
      const uint32_t stack = kStackTop - 0x80 * (i + 1);
      store(task + (small ? 0x1a : 0x38), static_cast<uint16_t>(stack));
      if (!small && !more_.one_in(8)) store(task + 0x1c, state().cr3);
      if (more_.one_in(8)) continue;
      guest_.memory[kGdt + kFirstTask + i * 8 + 5] = small ? 0x81 : 0x89;
      guest_.memory[kGdt + kFirstTask + i * 8] = small ? 0x2b : 0x67;
      guest_.memory[kGdt + kFirstTask + i * 8 + 1] = 0;
      if (!small) store(task + 0x24, 2u | (more_.next32() & (eflags::kIf | eflags::kTf)));
      store(task + (small ? 0x24 : 0x4c), uint16_t{kCodeSelector});
      store(task + (small ? 0x26 : 0x50), uint16_t{kDataSelector});
    }
  }

  void gate(uint32_t at, uint32_t selector, uint32_t access) {
    const uint32_t to = more_.one_in(2) ? kHandlers + more_.below(32) * 32 : some_code();
    store(at, selector << 16 | to);
    store(at + 4, (access | more_.below(4) << 5) << 8 | more_.below(4));
  }

  uint32_t some_code() { return kCode + more_.below(0x180); }

  uint16_t task_selector(bool user) {
    const uint16_t flat = user ? kUserData : kDataSelector;
    const uint16_t choice[] = {flat, flat, kData16, static_cast<uint16_t>(more_.below(0x100))};
    return choice[more_.below(4)];
  }

  void make_task(uint32_t number) {
    const uint32_t at = kTasks + number * 0x100;
    const bool small = number >= kTasks32;
    const bool busy = more_.one_in(4);
    descriptor(kGdt + kFirstTask + number * 8, at,
               more_.one_in(8) ? more_.below(0x80)
               : small         ? 0x2b
                               : 0x67,
               (small ? 0x81u : 0x89u) | (busy ? 2 : 0) | more_.below(4) << 5);
    const bool user = more_.one_in(4);
    const bool virtual86 = !small && more_.one_in(4);
    uint32_t flags = 2;
    if (more_.one_in(2))
      flags |= more_.next32() & (eflags::kArithmetic | eflags::kTf | eflags::kIf | eflags::kDf |
                                 eflags::kIopl | eflags::kNt);
    if (virtual86) flags |= eflags::kVm;
    const uint32_t link = kFirstTask + more_.below(kTaskCount) * 8;
    const uint32_t stack = kStackTop - more_.below(0x800);
    const uint16_t code = user ? kUserCode : more_.one_in(4) ? kCode16 : kCodeSelector;
    const uint32_t ldt = more_.one_in(2) ? 0 : kSpareLdt;
    if (small) {
      const uint32_t words[] = {more_.one_in(2) ? uint32_t{kTssSelector} : link,
                                kStackTop - 0x800,
                                kDataSelector,
                                0,
                                0,
                                0,
                                0,
                                some_code(),
                                flags,
                                more_.next32(),
                                more_.below(8),
                                more_.next32(),
                                more_.next32(),
                                stack,
                                more_.next32(),
                                more_.next32(),
                                more_.next32(),
                                task_selector(user),
                                code,
                                user ? kUserData : kDataSelector,
                                task_selector(user),
                                ldt};
      for (uint32_t i = 0; i < std::size(words); ++i)
        store(at + 2 * i, static_cast<uint16_t>(words[i]));
      return;
    }
    const auto segment = [&](bool is_code) -> uint32_t {
      if (virtual86) return more_.one_in(2) ? 0 : more_.below(0x1000);
      return is_code ? code : task_selector(user);
    };
    const uint32_t ss = virtual86 ? 0 : user ? kUserData : kDataSelector;
    const uint32_t words[] = {more_.one_in(2) ? uint32_t{kTssSelector} : link,
                              kStackTop - 0x800,
                              kDataSelector,
                              0,
                              0,
                              0,
                              0,
                              more_.one_in(8) ? more_.next32() : state().cr3,
                              some_code(),
                              flags,
                              more_.next32(),
                              more_.below(8),
                              more_.next32(),
                              more_.next32(),
                              stack,
                              more_.next32(),
                              more_.next32(),
                              more_.next32(),
                              segment(false),
                              virtual86 ? 0 : segment(true),
                              ss,
                              segment(false),
                              segment(false),
                              segment(false),
                              ldt,
                              0x680000u | more_.one_in(8)};
    for (uint32_t i = 0; i < std::size(words); ++i) store(at + 4 * i, words[i]);
  }

  void make_breakpoints() {
    CpuState& s = state();
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t places[] = {some_code(), kStackTop - more_.below(0x800),
                                 0x9000 + more_.below(0x6000), s.gpr[more_.below(8)],
                                 more_.below(0x100)};
      s.dr[i] = places[more_.below(5)];
    }
    s.dr[7] = 0x400 | (more_.next32() & 0xffff03ff);
    if (more_.one_in(8)) s.dr[7] |= 1u << 13;
  }

  Setup setup_;
  Random random_;
  Random more_;  ///< Of make_legacy(), so that other parts stay what they are without it.
  Guest guest_;
};

}  // namespace

Guest make_guest(uint32_t setup, uint64_t seed, std::span<const uint8_t> code) {
  return Maker(setup, seed).make(code);
}

}  // namespace trapline::fuzz
