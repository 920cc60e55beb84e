#include "runtime/devices/local_apic.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr uint32_t kVersionRegister = 0x14 | 5u << 16;  // The number of the last LVT entry.

enum Register : uint32_t {
  kId = 0x020,
  kVersionNumber = 0x030,
  kTaskPriority = 0x080,
  kArbitrationPriority = 0x090,
  kProcessorPriority = 0x0a0,
  kEndOfInterrupt = 0x0b0,
  kRemoteRead = 0x0c0,
  kLogicalDestination = 0x0d0,
  kDestinationFormat = 0x0e0,
  kSpurious = 0x0f0,
  kInService = 0x100,
  kTriggerMode = 0x180,
  kRequested = 0x200,
  kErrorStatus = 0x280,
  kCommandLow = 0x300,
  kCommandHigh = 0x310,
  kFirstEntry = 0x320,
  kLastEntry = 0x370,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivide = 0x3e0,
};

namespace spurious {
constexpr uint32_t kEnable = 1u << 8, kWritable = 0x3ff;
}
namespace base {
constexpr uint64_t kBootProcessor = 1u << 8;
constexpr uint64_t kWritable = 0xffffff000 | LocalApic::kBaseEnable;
}  // namespace base
namespace lvt {
constexpr uint32_t kRemoteIrr = 1u << 14, kLevel = 1u << 15, kMasked = 1u << 16;
constexpr ApicDelivery delivery(uint32_t entry) {
  return static_cast<ApicDelivery>(entry >> 8 & 7);
}
// By entry: timer, thermal, performance, LINT0, LINT1, error.
constexpr std::array<uint32_t, 6> kWritable = {0x300ff, 0x107ff, 0x107ff,
                                               0x1a7ff, 0x1a7ff, 0x100ff};
constexpr uint32_t kExternal = 7u << 8, kNmi = 4u << 8;
}  // namespace lvt
namespace icr {
constexpr uint32_t kLogical = 1u << 11, kAssert = 1u << 14, kLevel = 1u << 15;
constexpr uint32_t kWritable = 0xccfff;
enum Shorthand : uint32_t { kNone, kSelf, kAll, kOthers };
}  // namespace icr
namespace esr {
constexpr uint8_t kSendVector = 1u << 5, kReceiveVector = 1u << 6, kRegister = 1u << 7;
constexpr uint8_t kAll = kSendVector | kReceiveVector | kRegister;
}  // namespace esr

constexpr uint8_t kFirstVector = 16;  // The ones below are illegal.
constexpr uint8_t kBroadcast = 0xff;

constexpr uint8_t priority_class(uint8_t vector) {
  return vector & 0xf0;
}

}  // namespace

LocalApic::State LocalApic::reset_state() {
  State state;
  state.base = kAddress.value | kBaseEnable | base::kBootProcessor;
  state.destination_format = ~0u;
  state.spurious = 0xff;
  state.entries.fill(lvt::kMasked);
  state.entries[kLint0] = lvt::kExternal;
  state.entries[kLint1] = lvt::kNmi;
  return state;
}

LocalApic::LocalApic(EventQueue& queue, InterruptLine& intr, InterruptSource& pic,
                     std::function<void()> on_nmi)
    : intr_(intr),
      pic_(pic),
      on_nmi_(std::move(on_nmi)),
      timer_(queue, [this] { fire(kTimer); }),
      state_(reset_state()) {}

void LocalApic::on_end_of_level(std::function<void(uint8_t)> callback) {
  on_end_of_level_ = std::move(callback);
}

bool LocalApic::software_enabled() const {
  return state_.spurious & spurious::kEnable;
}

// --- Registers ----------------------------------------------------------------------------------

uint64_t LocalApic::mmio_read(Physical address, uint32_t size) {
  if (!enabled()) return ~uint64_t{0} >> (64 - 8 * size);
  const uint32_t offset = address.offset();
  if (offset % 16 >= 4) return 0;
  const uint64_t value = read_register(offset & ~15u) >> 8 * (offset % 4);
  return value & ~uint64_t{0} >> (64 - 8 * size);
}

void LocalApic::mmio_write(Physical address, uint32_t, uint64_t value) {
  if (!enabled() || address.offset() % 16 != 0) return;
  write_register(address.offset(), static_cast<uint32_t>(value));
}

uint32_t LocalApic::read_register(uint32_t offset) {
  const uint32_t word = offset / 16 % 8;
  switch (offset) {
    case kCurrentCount:
      return timer_.current_count();
    case kId:
      return state_.id;
    case kVersionNumber:
      return kVersionRegister;
    case kTaskPriority:
      return state_.task_priority;
    case kArbitrationPriority:
      return arbitration_priority();
    case kProcessorPriority:
      return processor_priority();
    case kEndOfInterrupt:
    case kRemoteRead:
      return 0;
    case kLogicalDestination:
      return state_.logical_destination;
    case kDestinationFormat:
      return state_.destination_format;
    case kSpurious:
      return state_.spurious;
    case kErrorStatus:
      return state_.errors;
    case kCommandLow:
      return state_.command_low;
    case kCommandHigh:
      return state_.command_high;
    case kInitialCount:
      return timer_.initial_count();
    case kDivide:
      return timer_.divide_configuration();
    default:
      break;
  }
  if (offset >= kFirstEntry && offset <= kLastEntry)
    return state_.entries[(offset - kFirstEntry) / 16];
  if (offset >= kInService && offset < kTriggerMode) return state_.in_service.word(word);
  if (offset >= kTriggerMode && offset < kRequested) return state_.level.word(word);
  if (offset >= kRequested && offset < kErrorStatus) return state_.requested.word(word);
  raise_error(esr::kRegister);
  return 0;
}

void LocalApic::write_register(uint32_t offset, uint32_t value) {
  switch (offset) {
    case kEndOfInterrupt:
      return end_of_interrupt();
    case kTaskPriority:
      state_.task_priority = static_cast<uint8_t>(value);
      return update_intr();
    case kId:
      state_.id = value & 0xff000000;
      return;
    case kLogicalDestination:
      state_.logical_destination = value & 0xff000000;
      return;
    case kDestinationFormat:
      state_.destination_format = value | 0x0fffffff;
      return;
    case kSpurious:
      return write_spurious(value);
    case kErrorStatus:
      return latch_errors();
    case kCommandLow:
      return write_command(value);
    case kCommandHigh:
      state_.command_high = value & 0xff000000;
      return;
    case kInitialCount:
      return timer_.write_initial_count(value);
    case kDivide:
      return timer_.write_divide_configuration(value);
    default:
      break;
  }
  if (offset >= kFirstEntry && offset <= kLastEntry)
    return write_entry(static_cast<Entry>((offset - kFirstEntry) / 16), value);
  const bool read_only = (offset >= kInService && offset < kErrorStatus) ||
                         offset == kVersionNumber || offset == kArbitrationPriority ||
                         offset == kProcessorPriority || offset == kRemoteRead ||
                         offset == kCurrentCount;
  if (!read_only) raise_error(esr::kRegister);
}

void LocalApic::write_entry(Entry entry, uint32_t value) {
  uint32_t kept = value & lvt::kWritable[entry];
  if (!software_enabled()) kept |= lvt::kMasked;
  if (entry == kTimer) {
    timer_.settle();
    state_.entries[entry] = kept;
    return timer_.write_entry(kept);
  }
  if (kept & lvt::kLevel) kept |= state_.entries[entry] & lvt::kRemoteIrr;
  state_.entries[entry] = kept;
  if (entry == kLint0 || entry == kLint1) offer_level_pin(entry);
  update_intr();
}

/// While software has it disabled, all entries are masked and stay so.
void LocalApic::write_spurious(uint32_t value) {
  state_.spurious = value & spurious::kWritable;
  if (software_enabled()) return;
  for (uint32_t entry = 0; entry < kEntries; ++entry)
    write_entry(static_cast<Entry>(entry), state_.entries[entry]);
}

void LocalApic::write_command(uint32_t value) {
  state_.command_low = value & icr::kWritable;
  const auto vector = static_cast<uint8_t>(value);
  const ApicDelivery delivery = lvt::delivery(value);
  const bool has_vector =
      delivery == ApicDelivery::kFixed || delivery == ApicDelivery::kLowestPriority;
  if (has_vector && vector < kFirstVector) return raise_error(esr::kSendVector);
  // The end of an INIT's level: it only sets arbitration IDs.
  if (delivery == ApicDelivery::kInit && (value & icr::kLevel) && !(value & icr::kAssert)) return;

  ApicMessage message{.destination = static_cast<uint8_t>(state_.command_high >> 24),
                      .logical = (value & icr::kLogical) != 0,
                      .level = false,
                      .delivery = delivery,
                      .vector = vector};
  switch (value >> 18 & 3) {
    case icr::kNone:
      break;
    case icr::kSelf:
      if (!has_vector) return;
      [[fallthrough]];
    case icr::kAll:
      message.logical = false;
      message.destination = kBroadcast;
      break;
    default:
      return;
  }
  deliver(message);
}

void LocalApic::end_of_interrupt() {
  const auto vector = state_.in_service.highest();
  if (!vector) return;
  state_.in_service.erase(*vector);
  if (state_.level.contains(*vector)) {
    for (const Entry entry : {kLint0, kLint1}) {
      uint32_t& lint = state_.entries[entry];
      if ((lint & 0xff) != *vector || !(lint & lvt::kRemoteIrr)) continue;
      lint &= ~lvt::kRemoteIrr;
      offer_level_pin(entry);
    }
    if (on_end_of_level_) on_end_of_level_(*vector);
  }
  update_intr();
}

void LocalApic::latch_errors() {
  state_.errors = state_.errors_gathered;
  state_.errors_gathered = 0;
}

void LocalApic::raise_error(uint8_t bit) {
  if (state_.errors_gathered & bit) return;
  state_.errors_gathered |= bit;
  const uint32_t entry = state_.entries[kError];
  const auto vector = static_cast<uint8_t>(entry);
  if (entry & lvt::kMasked) return;
  if (vector < kFirstVector)
    state_.errors_gathered |= esr::kReceiveVector;
  else
    accept(vector, false);
}

// --- What comes in ------------------------------------------------------------------------------

bool LocalApic::accept(uint8_t vector, bool level) {
  if (!enabled() || !software_enabled()) return false;
  if (vector < kFirstVector) {
    raise_error(esr::kReceiveVector);
    return false;
  }
  state_.requested.insert(vector);
  if (level)
    state_.level.insert(vector);
  else
    state_.level.erase(vector);
  update_intr();
  return true;
}

bool LocalApic::is_destination(const ApicMessage& message) const {
  if (message.destination == kBroadcast) return true;
  if (!message.logical) return message.destination == state_.id >> 24;
  const auto own = static_cast<uint8_t>(state_.logical_destination >> 24);
  if (state_.destination_format >> 28 == 0xf) return own & message.destination;
  // The cluster model: the upper halves must be the same.
  return (own ^ message.destination) < 0x10 && (own & message.destination & 0xf);
}

bool LocalApic::deliver(const ApicMessage& message) {
  if (!enabled() || !is_destination(message)) return false;
  switch (message.delivery) {
    case ApicDelivery::kFixed:
    case ApicDelivery::kLowestPriority:
      return accept(message.vector, message.level);
    case ApicDelivery::kNmi:
      on_nmi_();
      return true;
    case ApicDelivery::kInit:
      if (on_init_) on_init_();
      return true;
    case ApicDelivery::kExternal:
      state_.external = true;
      update_intr();
      return true;
    default:
      return false;
  }
}

/// An edge at one of the APIC's own sources.
void LocalApic::fire(Entry index) {
  const uint32_t entry = state_.entries[index];
  if (!enabled() || (entry & lvt::kMasked)) return;
  const bool plain = index == kTimer || index == kError;
  switch (plain ? ApicDelivery::kFixed : lvt::delivery(entry)) {
    case ApicDelivery::kFixed:
      accept(static_cast<uint8_t>(entry), false);
      break;
    case ApicDelivery::kNmi:
      on_nmi_();
      break;
    case ApicDelivery::kInit:
      if (on_init_) on_init_();
      break;
    default:
      break;
  }
}

void LocalApic::pin_changed(Entry entry, bool asserted) {
  bool& pin = state_.pins[entry - kLint0];
  const bool rose = asserted && !pin;
  pin = asserted;
  const bool level_triggered = (state_.entries[entry] & lvt::kLevel) &&
                               lvt::delivery(state_.entries[entry]) == ApicDelivery::kFixed;
  if (rose && !enabled() && entry == kLint1) on_nmi_();
  if (rose && !level_triggered) fire(entry);
  offer_level_pin(entry);
  update_intr();
}

/// A level-triggered LINT pin interrupts again after each end of interrupt while it is asserted.
void LocalApic::offer_level_pin(Entry index) {
  uint32_t& entry = state_.entries[index];
  const bool offers = enabled() && state_.pins[index - kLint0] && (entry & lvt::kLevel) &&
                      !(entry & (lvt::kMasked | lvt::kRemoteIrr)) &&
                      lvt::delivery(entry) == ApicDelivery::kFixed;
  if (offers && accept(static_cast<uint8_t>(entry), true)) entry |= lvt::kRemoteIrr;
}

// --- What goes to the CPU -----------------------------------------------------------------------

uint8_t LocalApic::processor_priority() const {
  const uint8_t serving = state_.in_service.highest().value_or(0);
  if (priority_class(state_.task_priority) >= priority_class(serving)) return state_.task_priority;
  return priority_class(serving);
}

uint8_t LocalApic::arbitration_priority() const {
  const uint8_t asking = priority_class(state_.requested.highest().value_or(0));
  const uint8_t serving = priority_class(state_.in_service.highest().value_or(0));
  if (state_.task_priority >= asking && priority_class(state_.task_priority) > serving)
    return state_.task_priority;
  return std::max(asking, serving);
}

bool LocalApic::external_waiting() const {
  if (!enabled()) return state_.pins[0];
  const uint32_t entry = state_.entries[kLint0];
  const bool wired = !(entry & lvt::kMasked) && lvt::delivery(entry) == ApicDelivery::kExternal;
  return (wired && state_.pins[0]) || state_.external;
}

/// By its class alone: within the class of what runs already, nothing interrupts.
std::optional<uint8_t> LocalApic::deliverable() const {
  if (!enabled()) return std::nullopt;
  const auto vector = state_.requested.highest();
  if (!vector || priority_class(*vector) <= priority_class(processor_priority()))
    return std::nullopt;
  return vector;
}

uint8_t LocalApic::acknowledge() {
  uint8_t vector = static_cast<uint8_t>(state_.spurious);
  if (external_waiting()) {
    vector = pic_.acknowledge();
    // The I/O APIC's pin and LINT0 are the same wire; it may have more to say.
    state_.external = state_.external && state_.pins[0];
  } else if (const auto next = deliverable()) {
    vector = *next;
    state_.requested.erase(vector);
    state_.in_service.insert(vector);
    if (vector == static_cast<uint8_t>(state_.entries[kTimer])) timer_.interrupt_taken();
  }
  update_intr();
  return vector;
}

void LocalApic::update_intr() {
  const bool level = external_waiting() || deliverable();
  if (level == intr_level_) return;
  intr_level_ = level;
  intr_.set(level);
}

// --- The whole device ---------------------------------------------------------------------------

bool LocalApic::has_only_real_bits(const State& state) {
  constexpr uint32_t kTop = 0xff000000;
  constexpr uint64_t kBase = base::kWritable | base::kBootProcessor;
  for (uint32_t i = 0; i < kEntries; ++i)
    if (state.entries[i] & ~(lvt::kWritable[i] | lvt::kRemoteIrr)) return false;
  return !(state.base & ~kBase) && !(state.id & ~kTop) && !(state.logical_destination & ~kTop) &&
         (~state.destination_format & ~0xf0000000) == 0 && !(state.command_high & ~kTop) &&
         !(state.command_low & ~icr::kWritable) && !(state.spurious & ~spurious::kWritable) &&
         !((state.errors | state.errors_gathered) & ~esr::kAll);
}

/// Disabling forgets everything, as if the APIC were reset when it is enabled again.
void LocalApic::set_base_msr(uint64_t value) {
  const bool was_enabled = enabled();
  if (was_enabled && !(value & kBaseEnable)) reset();
  state_.base = (value & base::kWritable) | base::kBootProcessor;
  update_intr();
}

void LocalApic::reset() {
  const auto pins = state_.pins;
  state_ = reset_state();
  state_.pins = pins;
  timer_.reset();
  update_intr();
}

}  // namespace trapline
