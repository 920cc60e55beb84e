#include "tests/differential/real_unicorn.h"

#include <unicorn/unicorn.h>

#include <cstring>

#include "tests/differential/assembler.h"
#include "tests/differential/real_layout.h"
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
/// Never reached.
constexpr uint64_t kUntil = kRealPrologue + 0x3f0;
constexpr uint8_t kBreakpoint = 3, kInvalidOpcode = 6, kGeneralProtection = 13;

}  // namespace

Result<std::unique_ptr<UnicornRealBackend>> UnicornRealBackend::create() {
  std::unique_ptr<UnicornRealBackend> backend(new UnicornRealBackend);
  if (!backend->set_up())
    return Error{ExitStatus::kHost, "Unicorn could not be brought into real mode."};
  return backend;
}

UnicornRealBackend::UnicornRealBackend() : memory_(std::make_unique<Memory>()) {}

UnicornRealBackend::~UnicornRealBackend() {
  for (uc_context* context : {start_, scratch_}) {
    if (context) uc_context_free(context);
  }
  if (uc_) uc_close(uc_);
}

bool UnicornRealBackend::set_up() {
  if (uc_open(UC_ARCH_X86, UC_MODE_32, &uc_) != UC_ERR_OK) return false;
  if (uc_mem_map_ptr(uc_, 0, kMemoryBytes, UC_PROT_ALL, memory_->data()) != UC_ERR_OK) return false;
  uc_hook hook;
  if (uc_hook_add(uc_, &hook, UC_HOOK_INTR, reinterpret_cast<void*>(&on_interrupt), this, 1, 0) !=
          UC_ERR_OK ||
      uc_hook_add(uc_, &hook, UC_HOOK_CODE, reinterpret_cast<void*>(&on_code), this, 1, 0) !=
          UC_ERR_OK)
    return false;
  return uc_context_alloc(uc_, &scratch_) == UC_ERR_OK && enter_real_mode() && find_pending_fault();
}

/// From flat 32-bit code by way of a 16-bit code segment, as the manual wants it.
bool UnicornRealBackend::enter_real_mode() {
  KernelCase none;
  build_real_memory(none, *memory_);
  Assembler code(kRealPrologue);
  code.put({0x0f, 0x01, 0x15});  // lgdt
  code.put32(kRealPrologue + 0x100);
  code.put({0xea});
  code.put32(code.here() + 6);
  code.put16(kCodeSelectors);
  code.put({0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0});  // clear CR0.PE
  code.put({0xea});
  code.put16(static_cast<uint16_t>(code.here() + 4));
  code.put16(0);
  code.breakpoint();
  std::memcpy(&(*memory_)[kRealPrologue], code.bytes().data(), code.size());
  write16(kRealPrologue + 0x100, kRealGdtBytes - 1);
  write16(kRealPrologue + 0x102, kRealGdt);
  interrupt_ = kNoInterrupt;
  uc_emu_start(uc_, kRealPrologue, kUntil, 0, 0);
  if (interrupt_ != kBreakpoint || (reg(UC_X86_REG_CR0) & cr0::kPe) || reg(UC_X86_REG_CS) != 0)
    return false;
  uc_x86_mmr vectors{};
  vectors.base = kVectors;
  vectors.limit = kVectorsLimit;
  uc_reg_write(uc_, UC_X86_REG_IDTR, &vectors);
  vectors = {};
  vectors.limit = 0xffff;
  uc_reg_write(uc_, UC_X86_REG_GDTR, &vectors);
  set_reg(UC_X86_REG_CR0, cr0::kEt | cr0::kNe);
  return uc_context_alloc(uc_, &start_) == UC_ERR_OK && uc_context_save(uc_, start_) == UC_ERR_OK;
}

/// Unicorn remembers the last fault for the double fault rule and forgets it when it is delivered,
/// which never happens here. The field has no name outside, so it is looked for: -1 at first, then
/// 0 after a divide error, and -1 again where the context has it so.
bool UnicornRealBackend::find_pending_fault() {
  const std::vector<uint32_t> before = context_words();
  KernelCase test;
  test.origin = kRealCode;
  test.code = {0x31, 0xc9, 0xf7, 0xf1};  // xor cx, cx; div cx
  load(test);
  interrupt_ = kNoInterrupt;
  uc_emu_start(uc_, kRealCode, kUntil, 0, 0);
  if (interrupt_ != 0) return false;
  const std::vector<uint32_t> after = context_words();
  size_t found = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] != ~0u || after[i] != 0) continue;
    pending_fault_ = i;
    ++found;
  }
  return found == 1;
}

std::vector<uint32_t> UnicornRealBackend::context_words() {
  uc_context_save(uc_, scratch_);
  std::vector<uint32_t> words(uc_context_size(uc_) / 4);
  std::memcpy(words.data(), scratch_, words.size() * 4);
  return words;
}

void UnicornRealBackend::forget_fault() {
  uc_context_save(uc_, scratch_);
  constexpr uint32_t kNone = ~0u;
  std::memcpy(reinterpret_cast<uint8_t*>(scratch_) + pending_fault_ * 4, &kNone, 4);
  uc_context_restore(uc_, scratch_);
}

void UnicornRealBackend::on_interrupt(uc_struct* uc, uint32_t number, void* self) {
  static_cast<UnicornRealBackend*>(self)->interrupt_ = number;
  uc_emu_stop(uc);
}

/// Being called before each instruction keeps EIP exact.
void UnicornRealBackend::on_code(uc_struct* uc, uint64_t address, uint32_t, void* self) {
  auto& backend = *static_cast<UnicornRealBackend*>(self);
  backend.last_ = static_cast<uint32_t>(address);
  if (++backend.retired_ > kMaxInstructions) uc_emu_stop(uc);
}

uint32_t UnicornRealBackend::reg(int name) const {
  uint64_t value = 0;
  uc_reg_read(uc_, name, &value);
  return static_cast<uint32_t>(value);
}

void UnicornRealBackend::set_reg(int name, uint32_t value) {
  const uint64_t wide = value;
  uc_reg_write(uc_, name, &wide);
}

uint16_t UnicornRealBackend::read16(uint32_t address) const {
  uint16_t value = 0;
  if (address + 2 <= kMemoryBytes) std::memcpy(&value, &(*memory_)[address], 2);
  return value;
}

void UnicornRealBackend::write16(uint32_t address, uint16_t value) {
  if (address + 2 <= kMemoryBytes) std::memcpy(&(*memory_)[address], &value, 2);
}

void UnicornRealBackend::push16(uint16_t value) {
  const uint32_t esp = reg(UC_X86_REG_ESP);
  const uint32_t sp = (esp - 2) & 0xffff;
  write16((reg(UC_X86_REG_SS) << 4) + sp, value);
  set_reg(UC_X86_REG_ESP, (esp & 0xffff0000) | sp);
}

/// An interrupt in real mode. False when the table ends before its entry.
bool UnicornRealBackend::deliver(uint8_t vector, uint32_t ip) {
  uc_x86_mmr table{};
  uc_reg_read(uc_, UC_X86_REG_IDTR, &table);
  if (vector * 4u + 3 > table.limit) return false;
  const uint32_t flags = reg(UC_X86_REG_EFLAGS);
  push16(static_cast<uint16_t>(flags));
  push16(static_cast<uint16_t>(reg(UC_X86_REG_CS)));
  push16(static_cast<uint16_t>(ip));
  set_reg(UC_X86_REG_EFLAGS, flags & ~(eflags::kIf | eflags::kTf | eflags::kAc));
  const auto entry = static_cast<uint32_t>(table.base) + vector * 4u;
  set_reg(UC_X86_REG_CS, read16(entry + 2));
  set_reg(UC_X86_REG_EIP, read16(entry));
  return true;
}

/// Takes back what the delivery of an exception pushed. Returns the event.
KernelEvent UnicornRealBackend::undo_delivery(uint32_t stub) {
  const uint32_t esp = reg(UC_X86_REG_ESP);
  const uint32_t stack = reg(UC_X86_REG_SS) << 4;
  const uint16_t ip = read16(stack + (esp & 0xffff));
  const uint16_t selector = read16(stack + ((esp + 2) & 0xffff));
  set_reg(UC_X86_REG_ESP, (esp & 0xffff0000) | ((esp + 6) & 0xffff));
  set_reg(UC_X86_REG_CS, selector);
  return {static_cast<uint8_t>(stub), (uint32_t{selector} << 4) + ip, 0};
}

uint32_t UnicornRealBackend::cs_base(const KernelCase& test) const {
  return code_base(test, static_cast<uint16_t>(reg(UC_X86_REG_CS)), reg(UC_X86_REG_CR0) & cr0::kPe);
}

void UnicornRealBackend::load(const KernelCase& test) {
  uc_context_restore(uc_, start_);
  uc_ctl_remove_cache(uc_, uint64_t{0}, uint64_t{kMemoryBytes});
  build_real_memory(test, *memory_);
  for (size_t i = 0; i < kSegments.size(); ++i) set_reg(kSegments[i], test.selectors[i]);
  for (size_t i = 0; i < kGprs.size(); ++i) set_reg(kGprs[i], test.gpr[i]);
  set_reg(UC_X86_REG_EFLAGS, eflags::kFixed1);
  set_reg(UC_X86_REG_EIP, test.origin - (uint32_t{test.selectors[kCs]} << 4));
}

void UnicornRealBackend::run(const KernelCase& test, KernelOutcome& outcome) {
  load(test);
  run_steps(test, outcome);
  for (size_t i = 0; i < kGprs.size(); ++i) outcome.gpr[i] = reg(kGprs[i]);
  outcome.eip = reg(UC_X86_REG_EIP);
  outcome.eflags = reg(UC_X86_REG_EFLAGS);
  for (size_t i = 0; i < kSegments.size(); ++i)
    outcome.selectors[i] = static_cast<uint16_t>(reg(kSegments[i]));
  outcome.cr0 = reg(UC_X86_REG_CR0);
  outcome.memory = *memory_;
}

void UnicornRealBackend::run_steps(const KernelCase& test, KernelOutcome& outcome) {
  outcome.events.clear();
  retired_ = 0;
  for (;;) {
    interrupt_ = kNoInterrupt;
    const uc_err error = uc_emu_start(uc_, reg(UC_X86_REG_EIP), kUntil, 0, 0);
    if (interrupt_ == kNoInterrupt && retired_ > kMaxInstructions) {
      outcome.ending = Ending::kTimeout;
      return;
    }
    const uint32_t base = cs_base(test);
    const uint32_t ip = reg(UC_X86_REG_EIP);
    uint32_t now = base + ip;
    uint32_t vector = interrupt_;
    if (vector == kNoInterrupt) {
      if (error != UC_ERR_INSN_INVALID) {
        outcome.ending = Ending::kLost;
        return;
      }
      vector = kInvalidOpcode;
    }
    if (vector == kBreakpoint && now == test.end + 1) {
      outcome.ending = Ending::kEnd;
      return;
    }
    forget_fault();
    if (vector >= kFirstInt) {
      if (deliver(static_cast<uint8_t>(vector), ip)) continue;
      vector = kGeneralProtection;
      now = last_;
    }
    const uint32_t stub = now - 1 - kFaultStubs;
    const bool at_stub = vector == kBreakpoint && stub < kFirstInt;
    if (test.delivers && !at_stub) {
      if (deliver(static_cast<uint8_t>(vector), now - base)) continue;
      outcome.ending = Ending::kLost;
      return;
    }
    KernelEvent event{static_cast<uint8_t>(vector), now, 0};
    if (at_stub) event = undo_delivery(stub);
    outcome.events.push_back(event);
    if (outcome.events.size() == kMaxEvents) {
      outcome.ending = Ending::kTooManyEvents;
      return;
    }
    set_reg(UC_X86_REG_EIP, test.next_step(event.eip) - cs_base(test));
  }
}

}  // namespace trapline::differential::kernel
