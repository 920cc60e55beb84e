// A machine in ring 0 with flat segments, a GDT and an IDT, that tests put code into.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/machine.h"

namespace trapline {

class Ring0Machine : public ::testing::Test {
 protected:
  using Code = std::vector<uint8_t>;
  using Kind = Exit::Kind;

  static constexpr uint32_t kCode = 0x1000;
  static constexpr uint32_t kHandler = 0x2000;
  static constexpr uint32_t kStack = 0x4000;
  static constexpr uint32_t kGdt = 0x5000;
  static constexpr uint32_t kIdt = 0x6000;

  /// What runs from kCode on, and what NMIs lead to.
  void start(const Code& code, const Code& handler) {
    options.memory_bytes = 1u << 20;
    options.code_cache_bytes = 1u << 20;
    machine = Machine::create(options).take();
    put(kCode, code);
    put(kHandler, handler);
    put64(kGdt + 0x08, 0x00cf9b000000ffff);
    put64(kGdt + 0x10, 0x00cf93000000ffff);
    gate(2, kHandler);
    CpuState state = CpuState::flat32(0);
    state.eip = kCode;
    state.gpr[kEsp] = kStack;
    state.gdtr = {kGdt, 0x27};
    state.idtr = {kIdt, 0x7ff};
    machine->set_state(state);
  }
  void put(uint32_t at, const Code& bytes) {
    machine->write_memory({at}, std::as_bytes(std::span(bytes)));
  }
  void put64(uint32_t at, uint64_t value) {
    machine->write_memory({at}, std::as_bytes(std::span(&value, 1)));
  }
  uint32_t dword(uint32_t at) const {
    uint32_t value = 0;
    machine->read_memory({at}, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void gate(uint32_t vector, uint32_t to) {
    put64(kIdt + 8 * vector, 0x00008e0000080000 | (to & 0xffff));
  }
  uint32_t gpr(Gpr name) const { return machine->state().gpr[name]; }
  template <typename Change>
  void change(Change change) {
    CpuState state = machine->state();
    change(state);
    machine->set_state(state);
  }

  MachineOptions options;
  std::unique_ptr<Machine> machine;
};

}  // namespace trapline
