#include "tests/differential/unicorn_user.h"

#include <unicorn/unicorn.h>

#include "tests/differential/forms.h"

namespace trapline::differential {
namespace {

constexpr std::array<int, 8> kGprs = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX,
                                      UC_X86_REG_EBX, UC_X86_REG_ESP, UC_X86_REG_EBP,
                                      UC_X86_REG_ESI, UC_X86_REG_EDI};
constexpr uint32_t kNoInterrupt = ~0u;

}  // namespace

Result<std::unique_ptr<UnicornUserBackend>> UnicornUserBackend::create(const WindowImage& common) {
  std::unique_ptr<UnicornUserBackend> backend(new UnicornUserBackend(common));
  if (!backend->set_up())
    return Error{ExitStatus::kHost, "Unicorn could not be set up for 32-bit code."};
  return backend;
}

UnicornUserBackend::UnicornUserBackend(const WindowImage& common)
    : common_(common), memory_(std::make_unique<WindowImage>(common)) {
  for (uint32_t page = 0; page < kWindowPages; ++page)
    window_[page] = &memory_->bytes[page * kPageSize];
}

UnicornUserBackend::~UnicornUserBackend() {
  if (uc_) uc_close(uc_);
}

bool UnicornUserBackend::set_up() {
  if (uc_open(UC_ARCH_X86, UC_MODE_32, &uc_) != UC_ERR_OK) return false;
  if (uc_mem_map(uc_, kCodeBase, kCodeBytes, UC_PROT_READ | UC_PROT_EXEC) != UC_ERR_OK)
    return false;
  for (const Region& region : kRegions) {
    const uint32_t rights = region.writable ? UC_PROT_READ | UC_PROT_WRITE : UC_PROT_READ;
    if (uc_mem_map_ptr(uc_, region.base, region.pages * kPageSize, rights,
                       window_[region.first_page]) != UC_ERR_OK)
      return false;
  }
  uc_hook hook;
  return uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(&on_interrupt), this, 1,
                     0) == UC_ERR_OK;
}

void UnicornUserBackend::on_interrupt(uc_struct* uc, uint32_t number, void* self) {
  static_cast<UnicornUserBackend*>(self)->interrupt_ = number;
  uc_emu_stop(uc);
}

void UnicornUserBackend::run(std::span<const Case> cases, std::span<Outcome> outcomes) {
  for (size_t i = 0; i < cases.size(); ++i) run_case(cases[i], outcomes[i]);
}

void UnicornUserBackend::run_case(const Case& test, Outcome& outcome) {
  outcome = Outcome{};
  apply_patches(test, window_);
  std::array<uint8_t, kCodeBytes> code;
  fill_code_pages(test, code);
  uc_mem_write(uc_, kCodeBase, code.data(), code.size());
  uc_ctl_remove_cache(uc_, uint64_t{kCodeBase}, uint64_t{kCodeBase} + kCodeBytes);
  for (size_t i = 0; i < kGprs.size(); ++i) uc_reg_write(uc_, kGprs[i], &test.initial.gpr[i]);
  uc_reg_write(uc_, UC_X86_REG_EFLAGS, &test.initial.eflags);
  interrupt_ = kNoInterrupt;
  constexpr uint64_t kMicroseconds = 500'000;
  const uc_err error = uc_emu_start(uc_, test.initial.eip, ~uint64_t{0}, kMicroseconds, 0);
  for (size_t i = 0; i < kGprs.size(); ++i) uc_reg_read(uc_, kGprs[i], &outcome.final.gpr[i]);
  uc_reg_read(uc_, UC_X86_REG_EFLAGS, &outcome.final.eflags);
  uc_reg_read(uc_, UC_X86_REG_EIP, &outcome.final.eip);
  outcome.event =
      error == UC_ERR_OK && interrupt_ == kNoInterrupt ? Event::kTimeout : Event::kException;
  outcome.vector = static_cast<uint8_t>(interrupt_);
  for (uint32_t i = 0; i < kExits; ++i) {
    if (interrupt_ != 3 || outcome.final.eip != test.exit_address(i) + 1) continue;
    outcome.event = Event::kEnd;
    outcome.vector = 0;
    outcome.final.eip = test.exit_address(i);
  }
  collect_changes(window_, common_, outcome);
  normalise(outcome);
}

uint32_t undefined_flags(const uint8_t* code, size_t length) {
  const ZydisDecoder decoder = make_decoder();
  Decoded decoded;
  if (!ZYAN_SUCCESS(
          ZydisDecoderDecodeFull(&decoder, code, length, &decoded.instruction, decoded.operands)))
    return 0;
  const ZydisAccessedFlags* const flags = decoded.instruction.cpu_flags;
  uint32_t out = flags ? flags->undefined : 0;
  const auto category = decoded.instruction.meta.category;
  if (category == ZYDIS_CATEGORY_SHIFT || category == ZYDIS_CATEGORY_ROTATE)
    out |= eflags::kOf | eflags::kAf | eflags::kCf;
  return out & eflags::kArithmetic;
}

}  // namespace trapline::differential
