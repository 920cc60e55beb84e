#include "tests/differential/kernel_unicorn.h"

#include <sys/mman.h>
#include <unicorn/unicorn.h>
#include <unistd.h>

#include <cstring>

#include "vcpu/state.h"

namespace trapline::differential::kernel {
namespace {

constexpr std::array<int, 8> kGprs = {UC_X86_REG_EAX, UC_X86_REG_ECX, UC_X86_REG_EDX,
                                      UC_X86_REG_EBX, UC_X86_REG_ESP, UC_X86_REG_EBP,
                                      UC_X86_REG_ESI, UC_X86_REG_EDI};
constexpr std::array<int, 6> kSegments = {UC_X86_REG_ES, UC_X86_REG_CS, UC_X86_REG_SS,
                                          UC_X86_REG_DS, UC_X86_REG_FS, UC_X86_REG_GS};
constexpr uint32_t kNoInterrupt = ~0u;
constexpr uint32_t kMaxInstructions = 20'000;
/// Never reached. Unicorn looks the address up in the mode that it stopped in, so it has to be one
/// that user mode may execute.
constexpr uint64_t kUntil = kUserCode + 0xff0;

}  // namespace

Result<std::unique_ptr<UnicornKernelBackend>> UnicornKernelBackend::create() {
  std::unique_ptr<UnicornKernelBackend> backend(new UnicornKernelBackend);
  if (!backend->set_up())
    return Error{ExitStatus::kHost, "Unicorn could not be brought into protected mode."};
  return backend;
}

UnicornKernelBackend::UnicornKernelBackend() = default;

UnicornKernelBackend::~UnicornKernelBackend() {
  for (uc_context* context : start_) {
    if (context) uc_context_free(context);
  }
  if (scratch_) uc_context_free(scratch_);
  if (uc_) uc_close(uc_);
  if (memory_) munmap(memory_, kMemoryBytes);
  if (play_) munmap(play_, kPlayPages * kPageSize);
  if (large_) munmap(large_, kMemoryBytes);
  if (file_ >= 0) close(file_);
}

/// A shared mapping of the frames from 0 on.
uint8_t* UnicornKernelBackend::map_frames(uint32_t pages) {
  void* const got = mmap(nullptr, pages * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  return got == MAP_FAILED ? nullptr : static_cast<uint8_t*>(got);
}

/// Makes a play page's linear address show the frame that its entry names.
void UnicornKernelBackend::map_play_page(uint32_t page) {
  uint32_t entry;
  std::memcpy(&entry, &(*memory_)[play_entry(space_, page, pae_)], 4);
  const uint32_t frame = entry >> kPageShift;
  if (play_frames_[page] == frame || frame >= kFrames) return;
  mmap(play_ + page * kPageSize, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_,
       off_t{frame} * kPageSize);
  play_frames_[page] = frame;
}

void UnicornKernelBackend::map_play_pages() {
  for (uint32_t page = 0; page < kPlayPages; ++page) map_play_page(page);
}

bool UnicornKernelBackend::set_up() {
  if (uc_open(UC_ARCH_X86, UC_MODE_32, &uc_) != UC_ERR_OK) return false;
  file_ = memfd_create("frames", MFD_CLOEXEC);
  if (file_ < 0 || ftruncate(file_, kMemoryBytes) != 0) return false;
  uint8_t* const frames = map_frames(kFrames);
  memory_ = reinterpret_cast<Memory*>(frames);
  play_ = map_frames(kPlayPages);
  large_ = map_frames(kFrames);
  if (!memory_ || !play_ || !large_) return false;
  for (uint32_t page = 0; page < kPlayPages; ++page) play_frames_[page] = page;
  if (uc_mem_map_ptr(uc_, 0, kMemoryBytes, UC_PROT_ALL, frames) != UC_ERR_OK ||
      uc_mem_map_ptr(uc_, kPlayBase, kPlayPages * kPageSize, UC_PROT_ALL, play_) != UC_ERR_OK ||
      uc_mem_map_ptr(uc_, kLargeBase, kMemoryBytes, UC_PROT_ALL, large_) != UC_ERR_OK)
    return false;
  uc_hook hook;
  if (uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(&on_interrupt), this, 1, 0) !=
          UC_ERR_OK ||
      uc_hook_add(uc_, &hook, UC_HOOK_CODE, reinterpret_cast<void*>(&on_code), this, 1, 0) !=
          UC_ERR_OK)
    return false;
  // The contexts hold a fresh processor each, with nothing left over from the other one.
  uc_context* fresh = nullptr;
  if (uc_context_alloc(uc_, &fresh) != UC_ERR_OK || uc_context_save(uc_, fresh) != UC_ERR_OK)
    return false;
  bool done = run_prologue(false);
  uc_context_restore(uc_, fresh);
  done = done && run_prologue(true);
  uc_context_free(fresh);
  return done && find_pending_fault();
}

namespace {

KernelCase one_step(std::initializer_list<uint8_t> code) {
  KernelCase test;
  test.gpr[kEsp] = kStackTop;
  test.origin = kCode;
  test.steps.push_back({kCode, "probe"});
  test.code = code;
  test.end = kCode + static_cast<uint32_t>(test.code.size());
  test.code.push_back(0xcc);
  return test;
}

}  // namespace

/// Unicorn remembers the last fault for the double fault rule and forgets it when it is delivered,
/// which never happens here. The field has no name outside, so it is looked for: -1 at first, then
/// the vector of whatever fault was raised.
bool UnicornKernelBackend::find_pending_fault() {
  if (uc_context_alloc(uc_, &scratch_) != UC_ERR_OK) return false;
  const KernelCase page_fault = one_step({0x36, 0xa1, 0, 0, 0x40, 0});         // mov eax, ss:[play]
  const KernelCase not_present = one_step({0xb0, 0x30, 0xb4, 0, 0x8e, 0xd8});  // mov ds, 0x30
  const auto words_after = [&](const KernelCase& test) {
    load(test);
    if (!test.code.empty()) uc_emu_start(uc_, test.origin, kUntil, 0, 0);
    return context_words();
  };
  const std::vector<uint32_t> before = words_after(KernelCase{});
  const std::vector<uint32_t> after_page_fault = words_after(page_fault);
  const std::vector<uint32_t> after_not_present = words_after(not_present);
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] != ~0u || after_page_fault[i] != 14 || after_not_present[i] != 11) continue;
    pending_fault_ = i;
    return true;
  }
  return false;
}

std::vector<uint32_t> UnicornKernelBackend::context_words() {
  uc_context_save(uc_, scratch_);
  std::vector<uint32_t> words(uc_context_size(uc_) / 4);
  std::memcpy(words.data(), scratch_, words.size() * 4);
  return words;
}

void UnicornKernelBackend::forget_fault() {
  uc_context_save(uc_, scratch_);
  constexpr uint32_t kNone = ~0u;
  std::memcpy(reinterpret_cast<uint8_t*>(scratch_) + pending_fault_ * 4, &kNone, 4);
  uc_context_restore(uc_, scratch_);
}

bool UnicornKernelBackend::run_prologue(bool pae) {
  build_memory(*memory_, pae);
  drop_translations();
  interrupt_ = kNoInterrupt;
  retired_ = 0;
  uc_emu_start(uc_, kPrologue, kUntil, 0, 0);
  if (interrupt_ != 3 || reg(UC_X86_REG_CR0) != kCr0) return false;
  start_memory_[pae] = *memory_;
  return uc_context_alloc(uc_, &start_[pae]) == UC_ERR_OK &&
         uc_context_save(uc_, start_[pae]) == UC_ERR_OK;
}

void UnicornKernelBackend::on_interrupt(uc_struct* uc, uint32_t number, void* self) {
  static_cast<UnicornKernelBackend*>(self)->interrupt_ = number;
  uc_emu_stop(uc);
}

/// Being called before each instruction keeps EIP exact.
void UnicornKernelBackend::on_code(uc_struct* uc, uint64_t address, uint32_t, void* self) {
  auto& backend = *static_cast<UnicornKernelBackend*>(self);
  backend.before_instruction(static_cast<uint32_t>(address));
  if (++backend.retired_ > kMaxInstructions) uc_emu_stop(uc);
}

void UnicornKernelBackend::before_instruction(uint32_t address) {
  if (address + 8 > kMemoryBytes) return;
  const uint8_t* const code = &(*memory_)[address];
  constexpr uint8_t kInvlpg[] = {0x36, 0x0f, 0x01, 0x3d};  // invlpg ss:[address]
  constexpr uint8_t kLoadCr3[] = {0x0f, 0x22, 0xd8};       // mov cr3, eax
  if (std::memcmp(code, kInvlpg, sizeof kInvlpg) == 0) {
    uint32_t target;
    std::memcpy(&target, code + 4, 4);
    const uint32_t page = (target - kPlayBase) >> kPageShift;
    if (page < kPlayPages) map_play_page(page);
  } else if (std::memcmp(code, kLoadCr3, sizeof kLoadCr3) == 0) {
    space_ = reg(UC_X86_REG_EAX) == root(1, pae_);
    map_play_pages();
  }
}

uint32_t UnicornKernelBackend::reg(int name) const {
  uint64_t value = 0;
  uc_reg_read(uc_, name, &value);
  return static_cast<uint32_t>(value);
}

/// Forgets translated code. This looks an address up, and so sets accessed bits.
void UnicornKernelBackend::drop_translations() {
  uc_ctl_remove_cache(uc_, uint64_t{kCode}, uint64_t{kMemoryBytes});
}

void UnicornKernelBackend::load(const KernelCase& test) {
  uc_context_restore(uc_, start_[test.pae]);
  *memory_ = start_memory_[test.pae];
  pae_ = test.pae;
  // Only the guest itself can empty the TLB: a write of CR3 from outside does not, and the call
  // that is meant for it takes a second.
  const uint32_t cr3 = root(0, test.pae);
  uc_reg_write(uc_, UC_X86_REG_EAX, &cr3);
  uc_emu_start(uc_, kFlush, kUntil, 0, 0);
  drop_translations();
  if (!test.code.empty()) std::memcpy(&(*memory_)[test.origin], test.code.data(), test.code.size());
  if (!test.user_code.empty())
    std::memcpy(&(*memory_)[kUserCode], test.user_code.data(), test.user_code.size());
  for (size_t i = 0; i < kGprs.size(); ++i) uc_reg_write(uc_, kGprs[i], &test.gpr[i]);
  const uint32_t flags = eflags::kFixed1;
  uc_reg_write(uc_, UC_X86_REG_EFLAGS, &flags);
}

void UnicornKernelBackend::run(const KernelCase& test, KernelOutcome& outcome) {
  load(test);
  run_steps(test, outcome);
  capture(outcome);
}

void UnicornKernelBackend::run_steps(const KernelCase& test, KernelOutcome& outcome) {
  outcome.events.clear();
  uint32_t eip = test.origin;
  for (;;) {
    interrupt_ = kNoInterrupt;
    retired_ = 0;
    const uc_err error = uc_emu_start(uc_, eip, kUntil, 0, 0);
    if (interrupt_ == kNoInterrupt && retired_ > kMaxInstructions) {
      outcome.ending = Ending::kTimeout;
      return;
    }
    const uint32_t now = reg(UC_X86_REG_EIP);
    KernelEvent event;
    if (interrupt_ != kNoInterrupt)
      event = {static_cast<uint8_t>(interrupt_), now, 0};
    else if (error == UC_ERR_INSN_INVALID)
      event = {6, now, 0};
    else {
      outcome.ending = Ending::kLost;
      return;
    }
    if (event.vector == 3 && now == test.end + 1) {
      outcome.ending = Ending::kEnd;
      return;
    }
    if (event.vector == 14) event.cr2 = reg(UC_X86_REG_CR2);
    outcome.events.push_back(event);
    const bool user = (reg(UC_X86_REG_CS) & 3) == 3;
    if (user || outcome.events.size() == kMaxEvents) {
      outcome.ending = user ? Ending::kUser : Ending::kTooManyEvents;
      return;
    }
    forget_fault();
    eip = test.next_step(now);
  }
}

void UnicornKernelBackend::capture(KernelOutcome& outcome) {
  for (size_t i = 0; i < kGprs.size(); ++i) outcome.gpr[i] = reg(kGprs[i]);
  outcome.eip = reg(UC_X86_REG_EIP);
  outcome.eflags = reg(UC_X86_REG_EFLAGS);
  for (size_t i = 0; i < kSegments.size(); ++i)
    outcome.selectors[i] = static_cast<uint16_t>(reg(kSegments[i]));
  uc_x86_mmr table{};
  uc_reg_read(uc_, UC_X86_REG_LDTR, &table);
  outcome.ldtr = table.selector;
  uc_reg_read(uc_, UC_X86_REG_TR, &table);
  outcome.tr = table.selector;
  outcome.cr0 = reg(UC_X86_REG_CR0);
  outcome.cr2 = reg(UC_X86_REG_CR2);
  outcome.cr3 = reg(UC_X86_REG_CR3);
  outcome.cr4 = reg(UC_X86_REG_CR4);
  outcome.memory = *memory_;
}

}  // namespace trapline::differential::kernel
