// The native runner and the generator themselves: before two sides are compared, one side must be
// right about what is known and the same twice.
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "tests/differential/amd.h"
#include "tests/differential/campaign.h"
#include "tests/differential/native_backend.h"
#include "tests/differential/text.h"
#include "tests/differential/unicorn_user.h"
#include "tests/differential/values.h"
#include "translator/instruction_table.h"

namespace trapline::differential {
namespace {

class HostRunner : public testing::Test {
 protected:
  void SetUp() override {
    fill_window(1, common_);
    auto native = NativeBackend::create(common_);
    if (!native.ok()) GTEST_SKIP() << native.error().message;
    native_ = native.take();
  }

  static Case make_case(std::initializer_list<uint8_t> code) {
    Case test;
    test.code.fill(0xcc);
    std::copy(code.begin(), code.end(), test.code.begin());
    test.initial.eip = kCodeBase + 0x123;
    test.initial.eflags = eflags::kFixed1 | eflags::kIf;
    test.initial.gpr[kEsp] = kStack.base + 0x800;
    test.initial.fpu.mxcsr = 0x1f80;
    const auto length = static_cast<uint16_t>(code.size());
    test.exits = {length, static_cast<uint16_t>(length + kExitBytes)};
    test.code_length = static_cast<uint16_t>(length + kExits * kExitBytes);
    test.instruction_count = 1;
    return test;
  }

  Outcome run(const Case& test) {
    Outcome outcome;
    native_->run(std::span(&test, 1), std::span(&outcome, 1));
    return outcome;
  }

  WindowImage common_;
  std::unique_ptr<NativeBackend> native_;
};

TEST_F(HostRunner, EndsWithTheStateThatTheCodeLeft) {
  Case test = make_case({0x01, 0xd8});  // add eax, ebx
  test.initial.gpr[kEax] = 0x7fffffff;
  test.initial.gpr[kEbx] = 1;
  const Outcome outcome = run(test);
  EXPECT_EQ(outcome.event, Event::kEnd);
  EXPECT_EQ(outcome.final.gpr[kEax], 0x80000000u);
  EXPECT_EQ(outcome.final.eip, test.exit_address(0));
  EXPECT_EQ(outcome.final.eflags & eflags::kArithmetic,
            eflags::kOf | eflags::kSf | eflags::kAf | eflags::kPf);
  EXPECT_EQ(outcome.change_count, 0u);
}

TEST_F(HostRunner, ReportsAPageFaultWithItsAddress) {
  Case test = make_case({0x89, 0x03});  // mov [ebx], eax
  test.initial.gpr[kEbx] = kReadOnly.base + 0x10;
  Outcome outcome = run(test);
  EXPECT_EQ(outcome.event, Event::kException);
  EXPECT_EQ(outcome.vector, 14);
  EXPECT_EQ(outcome.error_code, 7u);
  EXPECT_EQ(outcome.cr2, kReadOnly.base + 0x10);
  EXPECT_EQ(outcome.final.eip, test.initial.eip);
  test.initial.gpr[kEbx] = kReadOnly.end();
  outcome = run(test);
  EXPECT_EQ(outcome.error_code, 6u);
  EXPECT_EQ(outcome.cr2, kReadOnly.end());
}

TEST_F(HostRunner, ReportsDivideErrorsAndRecordsMemory) {
  const Case divide = make_case({0xf7, 0xf1});  // div ecx
  EXPECT_EQ(run(divide).vector, 0);
  Case store = make_case({0xa3, 0x40, 0, 0, 0x20});  // mov [0x20000040], eax
  store.initial.gpr[kEax] = 0x12345678;
  const Outcome outcome = run(store);
  ASSERT_EQ(outcome.change_count, 1u);
  EXPECT_EQ(outcome.changes[0].offset, 0x40u);
  EXPECT_EQ(static_cast<uint32_t>(outcome.changes[0].value), 0x12345678u);
  EXPECT_EQ(run(make_case({0x90})).change_count, 0u) << "the window was not restored";
}

TEST_F(HostRunner, SurvivesLoops) {
  const Case loop = make_case({0xeb, 0xfe});
  EXPECT_EQ(run(loop).event, Event::kTimeout);
  EXPECT_EQ(run(make_case({0x90})).event, Event::kEnd);
}

TEST_F(HostRunner, SegmentsHaveBasesAndLimits) {
  if (!native_->has_segments()) GTEST_SKIP() << native_->limitations();
  const Outcome based = run(make_case({0x64, 0xa1, 0x10, 0x40, 0, 0}));  // mov eax, fs:[0x4010]
  uint32_t expected;
  std::memcpy(&expected, &common_.bytes[0x10], 4);
  EXPECT_EQ(based.final.gpr[kEax], expected);
  const Outcome beyond = run(make_case({0x65, 0xa1, 0xfd, 0x1f, 0, 0}));  // mov eax, gs:[0x1ffd]
  EXPECT_EQ(beyond.vector, 13);
}

TEST_F(HostRunner, DoesTheSameTwice) {
  const std::vector<Form> forms = derive_forms();
  for (const bool blocks : {false, true}) {
    CampaignOptions options;
    options.cases = blocks ? 3000 : forms.size() * 4;
    options.blocks = blocks;
    Campaign campaign(options, forms, *native_, *native_);
    campaign.run();
    const FormCount total = campaign.total();
    EXPECT_EQ(total.failed, 0u);
    EXPECT_EQ(total.compared + total.not_compared, options.cases);
  }
}

/// Where Unicorn is not to be asked.
/// Whatever the instruction table has for user mode is generated, or left out for a stated reason.
TEST(Forms, CoverTheInstructionTable) {
  std::set<uint16_t> generated;
  for (const Form& form : derive_forms()) generated.insert(static_cast<uint16_t>(form.mnemonic));
  for (const InstructionRow& row : instruction_table()) {
    if (row.oracle == OracleUse::kSystem || row.oracle == OracleUse::kVolatile) continue;
    const auto mnemonic = static_cast<ZydisMnemonic>(row.mnemonic);
    EXPECT_TRUE(generated.contains(row.mnemonic) || exclusion_reason(mnemonic))
        << ZydisMnemonicGetString(mnemonic);
  }
}

/// Nor is anything generated that the table does not know.
TEST(Forms, AreAllInTheInstructionTable) {
  for (const Form& form : derive_forms()) {
    if (form.illegal_lock) continue;
    EXPECT_NE(find_row(static_cast<uint16_t>(form.mnemonic)), nullptr) << form.name;
  }
}

bool unicorn_deviates(const Form& form) {
  // Its NEG with LOCK keeps the flags of something else.
  if (form.mnemonic == ZYDIS_MNEMONIC_NEG && form.name.starts_with("lock")) return true;
  // BSWAP of a 16-bit register is undefined, and defined as nothing there.
  if (form.mnemonic == ZYDIS_MNEMONIC_BSWAP) return true;
  // Its selectors, FS and GS are not ours.
  return form.name.find("sreg") != std::string::npos || form.name.find("seg ") != std::string::npos;
}

bool unicorn_knows(const Form& form) {
  if (form.illegal_lock || unicorn_deviates(form)) return false;
  switch (form.isa_set) {
    case ZYDIS_ISA_SET_I86:
    case ZYDIS_ISA_SET_I186:
    case ZYDIS_ISA_SET_I386:
    case ZYDIS_ISA_SET_I486REAL:
    case ZYDIS_ISA_SET_CMOV:
      return true;
    default:
      return false;
  }
}

/// A double shift of 16 bits by more than that, whose result is undefined.
bool double_shift_beyond_operand(const Case& test) {
  const auto decoded = decode_at(test, 0);
  if (!decoded) return false;
  const ZydisMnemonic mnemonic = decoded->instruction.mnemonic;
  if (mnemonic != ZYDIS_MNEMONIC_SHLD && mnemonic != ZYDIS_MNEMONIC_SHRD) return false;
  const ZydisDecodedOperand& by = decoded->operands[2];
  const uint64_t count =
      by.type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? by.imm.value.u : test.initial.gpr[kEcx];
  return (count & 31) > decoded->operands[0].size;
}

/// Compares only what Unicorn is good for; the point is the runner, not Unicorn.
TEST_F(HostRunner, AgreesWithUnicornOnIntegerInstructions) {
  auto unicorn = UnicornUserBackend::create(common_);
  ASSERT_TRUE(unicorn.ok()) << unicorn.error().message;
  const std::vector<Form> forms = derive_forms();
  const Generator generator(7, forms, CodeSize::k32);
  uint32_t compared = 0;
  for (uint32_t form = 0; form < forms.size(); ++form) {
    if (!unicorn_knows(forms[form])) continue;
    for (uint32_t n = 0; n < 8; ++n) {
      const Case test = generator.single(form * 8 + n, form);
      const Outcome host = run(test);
      Outcome other;
      unicorn.value()->run(std::span(&test, 1), std::span(&other, 1));
      if (host.event != Event::kEnd || other.event != Event::kEnd) continue;
      if (amd_differs(test, host) || double_shift_beyond_operand(test)) continue;
      ++compared;
      FieldMask mask;
      mask.eflags = undefined_flags(test.code.data(), 15) | eflags::kIf | eflags::kId;
      mask_amd(test, host, mask);
      other.final.fpu = host.final.fpu;
      const std::string difference = differences(host, other, mask);
      EXPECT_TRUE(difference.empty()) << forms[form].name << "\n"
                                      << listing(test) << describe_initial(test) << difference;
    }
  }
  EXPECT_GT(compared, 4000u);
}

}  // namespace
}  // namespace trapline::differential
