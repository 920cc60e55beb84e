#include "tests/differential/real_layout.h"

#include <cstring>

namespace trapline::differential::kernel {
namespace {

class Builder {
 public:
  Builder(const KernelCase& test, Memory& memory) : test_(test), memory_(memory) {}

  void build() {
    memory_.fill(0);
    for (uint32_t i = kRealData; i < kMemoryBytes; ++i)
      memory_[i] = static_cast<uint8_t>(i * 7 + (i >> 8) * 13);
    build_handlers();
    for (uint32_t vector = 0; vector < 0x100; ++vector) {
      put_vector(kVectors, vector, target(vector, vector));
      if (vector * 4 < kOtherVectorsLimit)
        put_vector(kOtherVectors, vector, target(vector, vector + 3));
    }
    build_descriptors();
    if (!test_.code.empty())
      std::memcpy(&memory_[test_.origin], test_.code.data(), test_.code.size());
  }

 private:
  void put16(uint32_t address, uint32_t value) {
    const auto word = static_cast<uint16_t>(value);
    std::memcpy(&memory_[address], &word, 2);
  }
  void put32(uint32_t address, uint32_t value) { std::memcpy(&memory_[address], &value, 4); }

  static uint32_t target(uint32_t vector, uint32_t handler) {
    if (vector < kFirstInt) return kFaultStubs + vector;
    return kHandlers + handler % kHandlerCount * kHandlerBytes;
  }

  /// The segments differ, so that CS shows which one was taken.
  void put_vector(uint32_t table, uint32_t vector, uint32_t address) {
    const uint32_t selector = vector * 7 % 0x100;
    put16(table + vector * 4, address - selector * 16);
    put16(table + vector * 4 + 2, selector);
  }

  void build_handlers() {
    for (uint32_t vector = 0; vector < kFirstInt; ++vector) memory_[kFaultStubs + vector] = 0xcc;
    static constexpr uint8_t kCode[kHandlerCount][12] = {
        {0xcf},                                                        // iret
        {0x43, 0xcf},                                                  // inc bx; iret
        {0x55, 0x89, 0xe5, 0x81, 0x76, 0x06, 0xd5, 0x08, 0x5d, 0xcf},  // other arithmetic flags
        {0xfb, 0x90, 0xcf},                                            // sti; nop; iret
        {0xca, 0x02, 0x00},                                            // retf 2
        {0x9c, 0x59, 0xcf},                                            // pushf; pop cx; iret
        {0x55, 0x89, 0xe5, 0x81, 0x66, 0x06, 0xff, 0xfd, 0x5d, 0xcf},  // without IF
        {0xcd, kFirstInt, 0x66, 0x40, 0xcf},                           // int; inc eax; iret
    };
    for (uint32_t i = 0; i < kHandlerCount; ++i)
      std::memcpy(&memory_[kHandlers + i * kHandlerBytes], kCode[i], sizeof kCode[i]);
  }

  /// Attributes: the second dword from bit 8 on. All are marked as accessed: see
  /// unicorn_deviations().
  void put_descriptor(uint32_t selector, uint32_t base, uint32_t limit, uint32_t attributes) {
    put32(kRealGdt + selector, (limit & 0xffff) | base << 16);
    put32(kRealGdt + selector + 4,
          (base >> 16 & 0xff) | attributes << 8 | (limit & 0xf0000) | (base & 0xff000000));
  }

  void build_descriptors() {
    for (uint32_t i = 0; i < kCaseBases; ++i)
      put_descriptor(kDataSelectors + i * 8, test_.bases[i], 0xffff, 0x0093);
    put_descriptor(kStackSelector, test_.stack_base, 0xffff, 0x0093);
    for (uint32_t i = 0; i < kCodeBases; ++i)
      put_descriptor(kCodeSelectors + i * 8, test_.code_bases[i], 0xffff, 0x009b);
    put_descriptor(kWideSelector, 0, 0xfffff, 0x8093);
    put_descriptor(kAbsentSelector, 0, 0xffff, 0x0013);
    put_descriptor(kExecuteOnlySelector, 0, 0xffff, 0x0099);
  }

  const KernelCase& test_;
  Memory& memory_;
};

}  // namespace

void build_real_memory(const KernelCase& test, Memory& memory) {
  Builder(test, memory).build();
}

uint32_t code_base(const KernelCase& test, uint16_t selector, bool protected_mode) {
  const uint32_t index = (selector - kCodeSelectors) / 8u;
  if (protected_mode && index < kCodeBases) return test.code_bases[index];
  return uint32_t{selector} << 4;
}

}  // namespace trapline::differential::kernel
