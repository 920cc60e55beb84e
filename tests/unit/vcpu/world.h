// A CPU on a flat array of memory, with descriptor tables, a TSS and stacks for the tests of vcpu/.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "vcpu/cpu.h"

namespace trapline {

/// Linear memory without page tables: pages can be absent, read-only or for supervisors only.
class FlatMemory final : public LinearMemory {
 public:
  explicit FlatMemory(const CpuState& state)
      : LinearMemory(state), state_(state), bytes_(kBytes), tables_(4) {
    for (auto& table : tables_) table.resize(kLinearPages);
    set_direct(true);
  }

  uint32_t writes = 0;  ///< Of those that were not direct.

  void make_absent(uint32_t page) { change(absent_, page); }
  void make_read_only(uint32_t page) { change(read_only_, page); }
  void make_all_present() {
    absent_.clear();
    set_direct(direct_);
  }
  /// Whether reach() reaches anything.
  void set_direct(bool direct) {
    direct_ = direct;
    for (const bool user : {false, true})
      set_pages(user, {{tables_[user].data(), tables_[2 + user].data()}});
    for (uint32_t page = 0; page < kBytes >> kPageShift; ++page) {
      const bool reached = direct && !absent_.contains(page);
      const uint64_t delta = reached ? reinterpret_cast<uint64_t>(bytes_.data()) : 0;
      for (const bool user : {false, true}) {
        tables_[user][page] = delta;
        tables_[2 + user][page] = read_only_.contains(page) ? 0 : delta;
      }
    }
  }

  OrFault<void> probe_write(Linear address, uint32_t size, Privilege privilege) override {
    return check(address, size, privilege, true);
  }
  OrFault<uint8_t> fetch(Linear address) override {
    TRAPLINE_TRY(check(address, 1, Privilege::kCurrent, false));
    return bytes_[address.value];
  }

  template <typename T>
  T peek(uint32_t address) const {
    T value;
    std::memcpy(&value, &bytes_[address], sizeof value);
    return value;
  }
  template <typename T>
  void poke(uint32_t address, T value) {
    std::memcpy(&bytes_[address], &value, sizeof value);
  }
  void put(uint32_t address, const std::vector<uint8_t>& code) {
    std::memcpy(&bytes_[address], code.data(), code.size());
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  static constexpr uint32_t kBytes = 2u << 20;

  OrFault<void> check(Linear address, uint32_t size, Privilege privilege, bool write) const {
    const bool user =
        privilege == Privilege::kUser || (privilege == Privilege::kCurrent && state_.cpl == 3);
    const uint32_t flags = (write ? page_fault::kWrite : 0u) | (user ? page_fault::kUser : 0u);
    for (uint32_t at = address.value; at < address.value + size; at = (at | kPageMask) + 1) {
      const uint32_t page = at >> kPageShift;
      if (at >= kBytes || absent_.contains(page)) return Fault::page(at, flags);
      if (write && read_only_.contains(page)) return Fault::page(at, flags | page_fault::kPresent);
    }
    return {};
  }

  OrFault<uint64_t> read_unreached(Linear address, uint32_t size, Privilege privilege) override {
    TRAPLINE_TRY(check(address, size, privilege, false));
    uint64_t value = 0;
    std::memcpy(&value, &bytes_[address.value], size);
    return value;
  }
  OrFault<void> write_unreached(Linear address, uint32_t size, uint64_t value,
                                Privilege privilege) override {
    TRAPLINE_TRY(check(address, size, privilege, true));
    std::memcpy(&bytes_[address.value], &value, size);
    ++writes;
    return {};
  }

  void change(std::set<uint32_t>& pages, uint32_t page) {
    pages.insert(page);
    set_direct(direct_);
  }

  const CpuState& state_;
  std::vector<uint8_t> bytes_;
  bool direct_ = true;
  std::set<uint32_t> absent_, read_only_;  ///< Page numbers.
  std::vector<std::vector<uint64_t>> tables_;
};

class RecordingPorts final : public PortSpace {
 public:
  uint32_t in(uint16_t port, uint32_t size) override {
    last = "in " + std::to_string(port) + "/" + std::to_string(size);
    return value;
  }
  void out(uint16_t port, uint32_t size, uint32_t written) override {
    last = "out " + std::to_string(port) + "/" + std::to_string(size);
    value = written;
    all.push_back(written);
  }
  std::string last;
  uint32_t value = 0;
  std::vector<uint32_t> all;
};

class RecordingEvents final : public CpuEvents {
 public:
  void paging_changed(bool flush) override { ++(flush ? flushes : changes); }
  void invalidate_page(Linear address) override { invalidated.push_back(address.value); }
  uint64_t read_physical(Physical address) override { return physical[address.value]; }
  uint64_t time_stamp() override { return tsc; }

  int flushes = 0, changes = 0;
  std::vector<uint32_t> invalidated;
  std::map<uint64_t, uint64_t> physical;
  uint64_t tsc = 1000;
};

// Access bytes of descriptors with DPL 0; add `dpl(n)`.
inline constexpr uint8_t kAccessCode = 0x9b, kAccessConforming = 0x9f, kAccessExecuteOnly = 0x99;
inline constexpr uint8_t kAccessData = 0x93, kAccessReadOnly = 0x91, kAccessExpandDown = 0x97;
inline constexpr uint8_t kAccessTss32 = 0x89, kAccessTss16 = 0x81, kAccessLdt = 0x82;
inline constexpr uint8_t kCall16 = 0x84, kTask = 0x85, kInterrupt16 = 0x86, kTrap16 = 0x87;
inline constexpr uint8_t kCall32 = 0x8c, kInterrupt32 = 0x8e, kTrap32 = 0x8f;
constexpr uint8_t dpl(int level) {
  return static_cast<uint8_t>(level << 5);
}

constexpr uint64_t descriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags = 0xc) {
  return (limit & 0xffffull) | (base & 0xffffffull) << 16 | uint64_t{access} << 40 |
         (limit >> 16 & 0xfull) << 48 | uint64_t{flags} << 52 | (base >> 24 & 0xffull) << 56;
}
constexpr uint64_t gate(uint16_t selector, uint32_t offset, uint8_t access, uint8_t count = 0) {
  return (offset & 0xffffull) | uint64_t{selector} << 16 | uint64_t{count} << 32 |
         uint64_t{access} << 40 | (offset >> 16 & 0xffffull) << 48;
}

inline constexpr uint32_t kGdt = 0x1000, kLdt = 0x2000, kIdt = 0x3000, kTss = 0x4000;
inline constexpr uint32_t kCode = 0x10000;
// Selectors; ring n's code and data carry n as their RPL.
inline constexpr uint16_t kNull = 0, kCode0 = 0x08, kData0 = 0x10, kCode1 = 0x19, kData1 = 0x21;
inline constexpr uint16_t kCode2 = 0x2a, kData2 = 0x32, kCode3 = 0x3b, kData3 = 0x43;
inline constexpr uint16_t kTssSelector = 0x48, kLdtSelector = 0x50, kConforming0 = 0x58;
inline constexpr uint16_t kFree = 0x60;  // And up to the limit at 0xff.
inline constexpr uint32_t kStack0 = 0x8ff0, kStack1 = 0x9ff0, kStack2 = 0xaff0, kStack3 = 0xbff0;

class World : public ::testing::Test {
 protected:
  World() : World(CpuModel::max()) {}
  explicit World(const CpuModel& cpu_model)
      : state(CpuState::flat32(0)),
        model(cpu_model),
        memory(state),
        cpu{state, model, memory, ports, events} {
    state.gdtr = {kGdt, 0xff};
    state.idtr = {kIdt, 0x7ff};
    for (uint16_t ring = 0; ring < 4; ++ring) {
      set(static_cast<uint16_t>(kCode0 + 0x10 * ring),
          descriptor(0, 0xfffff, kAccessCode | dpl(ring)));
      set(static_cast<uint16_t>(kData0 + 0x10 * ring),
          descriptor(0, 0xfffff, kAccessData | dpl(ring)));
    }
    set(kTssSelector, descriptor(kTss, 0xff, kAccessTss32, 0));
    set(kLdtSelector, descriptor(kLdt, 0xff, kAccessLdt, 0));
    set(kConforming0, descriptor(0, 0xfffff, kAccessConforming));
    for (uint32_t ring = 0; ring < 3; ++ring) {
      memory.poke<uint32_t>(kTss + 4 + ring * 8, kStack0 + 0x1000 * ring);
      memory.poke<uint32_t>(kTss + 8 + ring * 8, kData0 + 0x11 * ring);
    }
    memory.poke<uint16_t>(kTss + 0x66, 0x68);
    EXPECT_TRUE(load_tr(cpu, kTssSelector).ok());
    EXPECT_TRUE(load_ldtr(cpu, kLdtSelector).ok());
    ring(0);
  }

  /// Everything as if code of that ring had been running for a while.
  void ring(uint8_t level) {
    for (int i = 0; i < kSegmentCount; ++i) {
      const bool code = i == kCs;
      const auto selector = static_cast<uint16_t>((code ? kCode0 : kData0) + 0x10 * level + level);
      state.segment[i] = Segment::flat(selector, code, level);
    }
    state.cpl = level;
    state.eip = kCode;
    state.gpr[kEsp] = kStack0 + 0x1000u * level;
  }
  void v86() {
    state.eflags |= eflags::kVm;
    state.cpl = 3;
    for (int i = 0; i < kSegmentCount; ++i) {
      state.segment[i] = Segment::real(0x1000, i == kCs);
      state.segment[i].attributes |= segment::kDplMask;
    }
    state.eip = 0;
    state.gpr[kEsp] = 0x8000;
  }
  void real_mode() {
    state = CpuState::reset();
    state.segment[kCs] = Segment::real(0x1000, true);
    for (int i : {kEs, kSs, kDs, kFs, kGs}) state.segment[i] = Segment::real(0x1000, false);
    state.idtr = {0, 0x3ff};
    state.eip = 0;
    state.gpr[kEsp] = 0x8000;
  }

  void set(uint16_t selector, uint64_t raw) {
    memory.poke<uint64_t>((selector & 4 ? kLdt : kGdt) + (selector & ~7u), raw);
  }
  void set_gate(uint8_t vector, uint64_t raw) { memory.poke<uint64_t>(kIdt + vector * 8u, raw); }
  uint8_t access_of(uint16_t selector) const {
    return memory.peek<uint8_t>((selector & 4 ? kLdt : kGdt) + (selector & ~7u) + 5);
  }
  void push32(uint32_t value) {
    state.gpr[kEsp] -= 4;
    memory.poke<uint32_t>(state.gpr[kEsp] + state.segment[kSs].base, value);
  }
  void push16(uint16_t value) {
    state.gpr[kEsp] -= 2;
    memory.poke<uint16_t>(state.gpr[kEsp] + state.segment[kSs].base, value);
  }
  uint32_t stack32(uint32_t index) const {
    return memory.peek<uint32_t>(state.segment[kSs].base + state.gpr[kEsp] + 4 * index);
  }
  uint16_t stack16(uint32_t index) const {
    return memory.peek<uint16_t>(state.segment[kSs].base + (state.gpr[kEsp] & 0xffff) + 2 * index);
  }
  bool state_is(const CpuState& other) const {
    return std::memcmp(&state, &other, sizeof state) == 0;
  }

  CpuState state;
  const CpuModel& model;
  FlatMemory memory;
  RecordingPorts ports;
  RecordingEvents events;
  Cpu cpu;
};

/// Expects that `expression` faults like that and has changed neither state nor memory.
#define EXPECT_FAULT(expression, vec, error)                                        \
  do {                                                                              \
    const CpuState state_before = state;                                            \
    const std::vector<uint8_t> memory_before = memory.bytes();                      \
    const auto outcome = (expression);                                              \
    ASSERT_FALSE(outcome.ok()) << #expression;                                      \
    EXPECT_EQ(static_cast<int>(outcome.fault().vector), static_cast<int>(vec));     \
    EXPECT_EQ(outcome.fault().error_code, static_cast<uint32_t>(error));            \
    EXPECT_TRUE(state_is(state_before)) << #expression << " changed the state";     \
    EXPECT_TRUE(memory.bytes() == memory_before) << #expression << " wrote memory"; \
  } while (false)

#define ASSERT_DONE(expression)                                                         \
  do {                                                                                  \
    const auto outcome = (expression);                                                  \
    ASSERT_TRUE(outcome.ok()) << #expression << " faulted with vector "                 \
                              << static_cast<int>(outcome.fault().vector) << ", error " \
                              << outcome.fault().error_code;                            \
  } while (false)

}  // namespace trapline
