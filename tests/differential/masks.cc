// Fields that are not compared after certain instructions, each with its reason. A row masks
// fields, never cases.
#include "tests/differential/campaign.h"

namespace trapline::differential {
namespace {

struct MaskRow {
  ZydisMnemonic mnemonic;
  uint32_t eflags;
  bool fpu_pointers;
  const char* reason;
};

constexpr std::array<MaskRow, 0> kRows{};

void merge(FieldMask& mask, ZydisMnemonic mnemonic) {
  for (const MaskRow& row : kRows) {
    if (row.mnemonic != mnemonic) continue;
    mask.eflags |= row.eflags;
    mask.fpu_pointers |= row.fpu_pointers;
    mask.reason += row.reason;
  }
}

}  // namespace

FieldMask mask_for(const Case& test, const std::vector<Form>& forms) {
  FieldMask mask;
  if (test.form != kNoForm) merge(mask, forms[test.form].mnemonic);
  return mask;
}

}  // namespace trapline::differential
