#include "tests/differential/forms.h"

namespace trapline::differential {

const std::vector<Exclusion>& exclusions() {
  static const std::vector<Exclusion> rows = {
      // What they return is the host's, not the guest's.
      {ZYDIS_MNEMONIC_CPUID, "reports the host, not the CPU model"},
      {ZYDIS_MNEMONIC_RDTSC, "no two executions read the same time"},
      {ZYDIS_MNEMONIC_RDPMC, "depends on how the host's kernel sets CR4.PCE"},
      {ZYDIS_MNEMONIC_SGDT, "the host's kernel answers in the CPU's place (UMIP)"},
      {ZYDIS_MNEMONIC_SIDT, "the host's kernel answers in the CPU's place (UMIP)"},
      {ZYDIS_MNEMONIC_SLDT, "the host's kernel answers in the CPU's place (UMIP)"},
      {ZYDIS_MNEMONIC_SMSW, "the host's kernel answers in the CPU's place (UMIP)"},
      {ZYDIS_MNEMONIC_STR, "the host's kernel answers in the CPU's place (UMIP)"},
      {ZYDIS_MNEMONIC_LAR, "reads the host's descriptor tables"},
      {ZYDIS_MNEMONIC_LSL, "reads the host's descriptor tables"},
      {ZYDIS_MNEMONIC_VERR, "reads the host's descriptor tables"},
      {ZYDIS_MNEMONIC_VERW, "reads the host's descriptor tables"},
      // What they do goes through the host's descriptor tables or into its kernel.
      {ZYDIS_MNEMONIC_INT, "enters the host's kernel"},
      {ZYDIS_MNEMONIC_SYSENTER, "enters the host's kernel"},
      {ZYDIS_MNEMONIC_SYSCALL, "enters the host's kernel"},
      {ZYDIS_MNEMONIC_SYSRET, "no CPU model has it"},
      {ZYDIS_MNEMONIC_SYSEXIT, "processors differ in what it raises in compatibility mode"},
      {ZYDIS_MNEMONIC_IRET, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_IRETD, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_LDS, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_LES, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_LFS, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_LGS, "loads selectors of the host's tables"},
      {ZYDIS_MNEMONIC_LSS, "loads selectors of the host's tables"},
      // What the host's processor adds to an old encoding.
      {ZYDIS_MNEMONIC_PREFETCH, "3DNow!: not on every host, and no CPU model has it"},
      {ZYDIS_MNEMONIC_PREFETCHW, "3DNow!: not on every host, and no CPU model has it"},
      {ZYDIS_MNEMONIC_RSM, "no CPU model has system management mode"},
      {ZYDIS_MNEMONIC_UD0, "processors differ in whether it has a ModRM byte"},
  };
  return rows;
}

const char* exclusion_reason(ZydisMnemonic mnemonic) {
  for (const Exclusion& row : exclusions()) {
    if (row.mnemonic == mnemonic) return row.reason;
  }
  return nullptr;
}

}  // namespace trapline::differential
