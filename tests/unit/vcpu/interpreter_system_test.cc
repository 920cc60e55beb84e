#include "interpreter_fixture.h"

namespace trapline {
namespace {

TEST_F(Interpreter, ControlRegisters) {
  eax() = 0x12345000;
  done({0x0f, 0x22, 0xd8});
  EXPECT_EQ(state.cr3, 0x12345000u);
  done({0x0f, 0x22, 0xd0});
  done({0x0f, 0x20, 0xd1});  // mov ecx,cr2
  EXPECT_EQ(state.gpr[kEcx], 0x12345000u);
  done({0x0f, 0x20, 0xc0});
  EXPECT_EQ(eax(), state.cr0);
  done({0x0f, 0x20, 0xe0});
  EXPECT_EQ(eax(), state.cr4);
  eax() = 1u << 31;
  faults({0x0f, 0x22, 0xc0}, kGp);
  ring(3);
  faults({0x0f, 0x20, 0xc0}, kGp);
}

TEST_F(Interpreter, DebugRegisters) {
  eax() = 0x12345678;
  done({0x0f, 0x23, 0xc0});  // mov dr0,eax
  EXPECT_EQ(state.dr[0], 0x12345678u);
  eax() = 0;
  done({0x0f, 0x23, 0xf0});  // mov dr6,eax
  EXPECT_EQ(state.dr[6], 0xffff0ff0u);
  done({0x0f, 0x23, 0xe8});  // mov dr5,eax: DR7
  EXPECT_EQ(state.dr[7], 0x400u);
  done({0x0f, 0x21, 0xf9});  // mov ecx,dr7
  EXPECT_EQ(state.gpr[kEcx], 0x400u);
  state.cr4 |= cr4::kDe;
  faults({0x0f, 0x21, 0xe0}, 6);  // dr4
  ring(3);
  faults({0x0f, 0x21, 0xf8}, kGp);
  ring(0);
  state.dr[7] |= 1u << 13;
  const StepResult result = step({0x0f, 0x21, 0xf8});
  EXPECT_EQ(result.step, Step::kFault);
  EXPECT_EQ(result.fault, Fault::plain(Vector::kDebug));
  EXPECT_TRUE(state.dr[6] & 1u << 13);
}

TEST_F(Interpreter, TableRegisters) {
  memory.poke<uint16_t>(0x20000, 0x1ff);
  memory.poke<uint32_t>(0x20002, 0x89abcdef);
  done({0x0f, 0x01, 0x1d, 0, 0, 2, 0});  // lidt
  EXPECT_EQ(state.idtr.limit, 0x1ff);
  EXPECT_EQ(state.idtr.base, 0x89abcdefu);
  done({0x66, 0x0f, 0x01, 0x15, 0, 0, 2, 0});  // lgdt, 24 bits
  EXPECT_EQ(state.gdtr.base, 0xabcdefu);
  done({0x0f, 0x01, 0x05, 0x10, 0, 2, 0});  // sgdt
  EXPECT_EQ(memory.peek<uint16_t>(0x20010), 0x1ff);
  EXPECT_EQ(memory.peek<uint32_t>(0x20012), 0xabcdefu);
  done({0x0f, 0x01, 0x0d, 0x10, 0, 2, 0});  // sidt
  EXPECT_EQ(memory.peek<uint32_t>(0x20012), 0x89abcdefu);
  ring(3);
  faults({0x0f, 0x01, 0x1d, 0, 0, 2, 0}, kGp);
  done({0x0f, 0x01, 0x0d, 0x10, 0, 2, 0});
  memory.make_absent(0x21);
  faults({0x0f, 0x01, 0x0d, 0xfc, 0x0f, 2, 0}, 14, page_fault::kWrite | page_fault::kUser);
}

TEST_F(Interpreter, LdtrAndTr) {
  eax() = 0;
  done({0x0f, 0x00, 0xd0});  // lldt ax
  EXPECT_TRUE(state.ldtr.unusable());
  eax() = kLdtSelector;
  done({0x0f, 0x00, 0xd0});
  eax() = ~0u;
  done({0x0f, 0x00, 0xc0});  // sldt eax
  EXPECT_EQ(eax(), kLdtSelector);
  done({0x0f, 0x00, 0xc8});  // str eax
  EXPECT_EQ(eax(), kTssSelector);
  memory.poke<uint32_t>(0x20000, ~0u);
  done({0x0f, 0x00, 0x0d, 0, 0, 2, 0});
  EXPECT_EQ(memory.peek<uint32_t>(0x20000), 0xffff0000u | kTssSelector);
  faults({0x0f, 0x00, 0xd8}, kGp, kTssSelector);  // ltr ax: busy
  ring(3);
  faults({0x0f, 0x00, 0xd0}, kGp);
  done({0x0f, 0x00, 0xc0});
  real_mode();
  faults({0x0f, 0x00, 0xc0}, 6);
}

TEST_F(Interpreter, MachineStatusWord) {
  done({0x0f, 0x01, 0xe0});  // smsw eax
  EXPECT_EQ(eax(), state.cr0);
  eax() = 0xe;
  done({0x0f, 0x01, 0xf0});  // lmsw ax
  EXPECT_EQ(state.cr0 & 0xf, 0xfu);
  done({0x0f, 0x06});  // clts
  EXPECT_EQ(state.cr0 & 0xf, 0x7u);
  ring(3);
  faults({0x0f, 0x06}, kGp);
  faults({0x0f, 0x01, 0xf0}, kGp);
}

TEST_F(Interpreter, CachesAndTlb) {
  state.gpr[kEbx] = 0x1234567;
  done({0x0f, 0x01, 0x3b});
  EXPECT_EQ(events.invalidated, std::vector<uint32_t>{0x1234567});
  done({0x0f, 0x08});
  done({0x0f, 0x09});
  done({0xf3, 0x0f, 0x09});
  ring(3);
  faults({0x0f, 0x01, 0x3b}, kGp);
  faults({0x0f, 0x09}, kGp);
}

TEST_F(Interpreter, Halt) {
  EXPECT_EQ(step({0xf4}).step, Step::kHalt);
  EXPECT_TRUE(state.halted);
  EXPECT_EQ(state.eip, kCode + 1);
  ring(3);
  state.halted = false;
  faults({0xf4}, kGp);
}

TEST_F(Interpreter, IdentityAndTime) {
  eax() = 0;
  done({0x0f, 0xa2});
  EXPECT_EQ(state.gpr[kEbx], 0x756e6547u);
  state.tsc_offset = uint64_t{1} << 32;
  done({0x0f, 0x31});
  EXPECT_EQ(eax(), 1000u);
  EXPECT_EQ(state.gpr[kEdx], 1u);
  ring(3);
  done({0x0f, 0x31});
  state.cr4 |= cr4::kTsd;
  faults({0x0f, 0x31}, kGp);
  faults({0x0f, 0x33}, kGp);
  state.cr4 |= cr4::kPce;
  state.gpr[kEcx] = 1;
  done({0x0f, 0x33});
  state.gpr[kEcx] = 2;
  faults({0x0f, 0x33}, kGp);
}

TEST_F(Interpreter, Msrs) {
  state.gpr[kEcx] = 0x174;
  eax() = 0x60;
  done({0x0f, 0x30});
  eax() = 0;
  done({0x0f, 0x32});
  EXPECT_EQ(eax(), 0x60u);
  state.gpr[kEcx] = 0xdead;
  faults({0x0f, 0x32}, kGp);
  ring(3);
  state.gpr[kEcx] = 0x174;
  faults({0x0f, 0x32}, kGp);
}

TEST_F(Interpreter, ProtectionQueries) {
  struct Row {
    uint64_t raw;
    uint8_t cpl, selector_rpl;
    bool lar, lsl, verr, verw;
  };
  const Row rows[] = {
      {descriptor(0, 0x12345, kAccessData), 0, 0, true, true, true, true},
      {descriptor(0, 0x12345, kAccessData), 0, 3, false, false, false, false},
      {descriptor(0, 0x12345, kAccessData), 3, 0, false, false, false, false},
      {descriptor(0, 0x12345, kAccessData | dpl(3)), 3, 3, true, true, true, true},
      {descriptor(0, 0x12345, kAccessReadOnly), 0, 0, true, true, true, false},
      {descriptor(0, 0x12345, kAccessCode), 0, 0, true, true, true, false},
      {descriptor(0, 0x12345, kAccessExecuteOnly), 0, 0, true, true, false, false},
      {descriptor(0, 0x12345, kAccessConforming), 3, 3, true, true, true, false},
      {descriptor(0, 0x12345, kAccessTss32, 0), 0, 0, true, true, false, false},
      {descriptor(0, 0x12345, kAccessLdt, 0), 0, 0, true, true, false, false},
      {gate(kCode0, 0, kCall32), 0, 0, true, false, false, false},
      {gate(kCode0, 0, kTask), 0, 0, true, false, false, false},
      {gate(kCode0, 0, kInterrupt32), 0, 0, false, false, false, false},
      {gate(kCode0, 0, kTrap16), 0, 0, false, false, false, false},
      {descriptor(0, 0, 0x80, 0), 0, 0, false, false, false, false},
  };
  for (size_t i = 0; i < std::size(rows); ++i) {
    const Row& row = rows[i];
    SCOPED_TRACE(i);
    set(kFree, row.raw);
    ring(row.cpl);
    state.gpr[kEbx] = uint32_t{kFree} | row.selector_rpl;
    const auto query = [&](const std::vector<uint8_t>& code, bool expected) {
      eax() = 0xdeadbeef;
      done(code);
      EXPECT_EQ((state.eflags & eflags::kZf) != 0, expected) << int{code[1]} << " " << int{code[2]};
      return expected;
    };
    const bool loaded = query({0x0f, 0x02, 0xc3}, row.lar);
    EXPECT_EQ(eax(), loaded ? static_cast<uint32_t>(row.raw >> 32) & 0xffff00 : 0xdeadbeef);
    if (query({0x0f, 0x03, 0xc3}, row.lsl)) {
      EXPECT_EQ(eax(), row.raw >> 52 & 8 ? 0x12345fffu : 0x12345u);
    }
    query({0x0f, 0x00, 0xe3}, row.verr);
    query({0x0f, 0x00, 0xeb}, row.verw);
  }
  ring(0);
  for (uint32_t nothing : {0u, 3u, 0x100u}) {
    state.gpr[kEbx] = nothing;
    state.eflags |= eflags::kZf;
    done({0x0f, 0x02, 0xc3});
    EXPECT_FALSE(state.eflags & eflags::kZf);
  }
  real_mode();
  faults({0x0f, 0x02, 0xc3}, 6);
}

TEST_F(Interpreter, Lar16AndMemory) {
  memory.poke<uint16_t>(0x20000, kData0);
  eax() = ~0u;
  done({0x66, 0x0f, 0x02, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(eax(), 0xffff9300u);
  done({0x66, 0x0f, 0x03, 0x05, 0, 0, 2, 0});
  EXPECT_EQ(eax(), 0xffffffffu);
}

TEST_F(Interpreter, Arpl) {
  eax() = 0x10;
  state.gpr[kEbx] = 0x23;
  done({0x63, 0xd8});  // arpl ax,bx
  EXPECT_EQ(eax(), 0x13u);
  EXPECT_TRUE(state.eflags & eflags::kZf);
  done({0x63, 0xd8});
  EXPECT_FALSE(state.eflags & eflags::kZf);
  memory.make_read_only(0x20);
  memory.poke<uint16_t>(0x20000, 0x13);
  done({0x63, 0x1d, 0, 0, 2, 0});  // Nothing to write.
}

}  // namespace
}  // namespace trapline
