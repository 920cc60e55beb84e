#include <algorithm>
#include <cstring>

#include "tests/differential/generator.h"
#include "tests/differential/values.h"

namespace trapline::differential {
namespace {

/// Where the code starts: mostly anywhere, sometimes across the page boundary, and now and then so
/// near the end that the instruction runs out of the mapped pages.
uint32_t pick_code_address(uint32_t length, Random& random) {
  const uint32_t room = kCodeBytes - 64;
  switch (random.below(32)) {
    case 0:
      return kCodeBase + kCodeBytes - 1 - random.below(length);
    case 1:
    case 2:
    case 3:
      return kCodeBase + kPageSize - 1 - random.below(length);
    default:
      return kCodeBase + random.below(room);
  }
}

void aim_relative_branch(Case& test, const Encoded& encoded, uint32_t target) {
  const auto& raw = encoded.decoded.instruction.raw.imm[0];
  if (!raw.is_relative) return;
  const uint32_t distance = target - encoded.length;
  std::memcpy(&test.code[raw.offset], &distance, raw.size / 8);
}

}  // namespace

Generator::Generator(uint64_t seed, const std::vector<Form>& forms, CodeSize size)
    : seed_(seed), forms_(forms), size_(size), decoder_(make_decoder(size)) {
  for (uint32_t i = 0; i < forms.size(); ++i) {
    switch (forms[i].category) {
      case ZYDIS_CATEGORY_COND_BR:
      case ZYDIS_CATEGORY_UNCOND_BR:
      case ZYDIS_CATEGORY_CALL:
      case ZYDIS_CATEGORY_RET:
      case ZYDIS_CATEGORY_IO:
      case ZYDIS_CATEGORY_IOSTRINGOP:
      case ZYDIS_CATEGORY_SYSTEM:
      case ZYDIS_CATEGORY_INTERRUPT:
        continue;  // Control flow is made by the block generator; the rest always faults.
      default:
        break;
    }
    const ZydisMnemonic mnemonic = forms[i].mnemonic;
    if (forms[i].illegal_lock || mnemonic == ZYDIS_MNEMONIC_UD1 || mnemonic == ZYDIS_MNEMONIC_UD2 ||
        mnemonic == ZYDIS_MNEMONIC_CLI || mnemonic == ZYDIS_MNEMONIC_STI ||
        mnemonic == ZYDIS_MNEMONIC_POPF || mnemonic == ZYDIS_MNEMONIC_POPFD)
      continue;
    block_forms_.push_back(i);
  }
}

Case Generator::single(uint64_t number, uint32_t form, uint32_t attempt) const {
  Random random = this->random(number, attempt);
  Case test;
  test.number = number;
  test.form = form;
  test.size = size_;
  Encoded encoded = encode(forms_[form], decoder_, random);

  CpuImage& cpu = test.initial;
  for (uint32_t& gpr : cpu.gpr) gpr = interesting_integer(random);
  cpu.eflags = random_eflags(random);
  random_fpu(random, FpuMood::kAny, cpu.fpu);
  cpu.eip = pick_code_address(encoded.length, random);

  test.exits = {encoded.length, static_cast<uint16_t>(encoded.length + kExitBytes)};
  test.code_length = static_cast<uint16_t>(encoded.length + kExits * kExitBytes);
  test.code.fill(0xcc);
  const uint32_t landing = test.exit_address(1) - (size_ == CodeSize::k16 ? kCode16Base : 0);
  if (encoded.valid) {
    const Steering steering = steer(encoded, cpu.gpr, landing, Caution::kNone, random);
    for (const Assignment& assignment : steering.registers)
      cpu.gpr[assignment.gpr] = assignment.value;
    for (const auto& content : steering.content) test.patch(content.address, content.bytes);
  }
  std::copy_n(encoded.bytes.begin(), encoded.length, test.code.begin());
  if (encoded.valid) aim_relative_branch(test, encoded, test.exits[1]);
  test.instruction_count = 1;
  return test;
}

}  // namespace trapline::differential
