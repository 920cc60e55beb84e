// Where the code for an address is: found, copied from another address, or translated.
#include <algorithm>
#include <cstring>

#include "runtime/engine.h"

namespace trapline {

namespace {
constexpr uint32_t kBlockRoom = 0x10000;  ///< No block is larger.

/// The cache and the translator may not know each other, and name the same things.
template <typename To, typename From>
std::span<const To> same_shape(std::span<const From> items) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> &&
                std::is_trivially_copyable_v<From>);
  return {reinterpret_cast<const To*>(items.data()), items.size()};
}
static_assert(offsetof(CodeRecord, guest) == offsetof(Record, guest) &&
              offsetof(CodeRecord, esp_pending) == offsetof(Record, esp_pending) &&
              offsetof(CodeRecord, index) == offsetof(Record, index) &&
              offsetof(CodeRecord, flags_saved) == offsetof(Record, flags_saved));
static_assert(offsetof(NewExit, jump) == offsetof(ExitSite, jump) &&
              offsetof(NewExit, stub) == offsetof(ExitSite, stub) &&
              offsetof(NewExit, flags_saved) == offsetof(ExitSite, flags_saved) &&
              offsetof(NewExit, variant) == offsetof(ExitSite, variant));
static_assert(offsetof(CodeReference, to) == offsetof(Reference, to) &&
              static_cast<int>(CodeReference::To::kHot) == static_cast<int>(Reference::To::kHot) &&
              static_cast<int>(CodeReference::To::kExit) == static_cast<int>(Reference::To::kExit));
}  // namespace

/// False when it has been so before.
bool Engine::set_slot(uint32_t page, uint64_t frame) {
  EntryTable& table = cache_->table(frame, page, mode_id_);
  refresh_mode();  // Resolving may have activated or recycled something.
  return execution_views_->set(*execution_view_, table);
}

/// Pages whose code may run natively have no slot in a companion: who goes there asks.
void Engine::fill_slot(EntryTable& table) {
  if (!companion_ || native_stays_translated(table.page))
    execution_views_->set(*execution_view_, table);
}

/// By EIP, in the current mode and view; nullptr when it was not found lately.
const Block* Engine::known_block(Variant variant) {
  const CpuState& state = context_->cpu;
  const FoundBlock& slot = found_blocks_[(state.eip ^ state.eip >> 8) % found_blocks_.size()];
  const bool good = slot.block && slot.eip == state.eip && slot.variant == variant &&
                    slot.mode == mode_id_ && slot.view == execution_view_->view &&
                    slot.epoch == mapping_epoch_ && !slot.block->dead;
  return good ? slot.block : nullptr;
}

void Engine::remember_block(const Block& block, Variant variant) {
  const uint32_t eip = context_->cpu.eip;
  found_blocks_[(eip ^ eip >> 8) % found_blocks_.size()] = {
      eip, mode_id_, execution_view_->view, variant, mapping_epoch_, &block};
}

OrFault<Resolution> Engine::resolve_code(Linear address) {
  return mmu_->resolve(current_view(), address, Access::kExecute);
}

OrFault<Engine::CodePlace> Engine::code_place() {
  const CpuState& state = context_->cpu;
  const Segment& cs = state.segment[kCs];
  if (state.eip > cs.limit) return Fault::general_protection();
  if (!cache_->has_room(kBlockRoom)) flush_code();
  refresh_mode();  // Emitted code may have changed CS.
  const Linear linear{state.eip + cs.base};
  TRAPLINE_TRY_LET(code, resolve_code(linear));
  EntryTable& table = cache_->table(code.address.frame(), linear.page(), mode_id_);
  refresh_mode();  // Resolving may have activated or recycled something.
  fill_slot(table);
  return CodePlace{code, &table, static_cast<uint16_t>(linear.offset())};
}

OrFault<Block*> Engine::find_block(Variant variant) {
  TRAPLINE_TRY_LET(place, code_place());
  if (Block* block = cache_->find(*place.table, place.offset, static_cast<uint8_t>(variant)))
    return block;
  if (Block* block = copy_block(*place.table, place.offset, variant)) return block;
  return translate_block(*place.table, place.code, variant);
}

OrFault<uint64_t> Engine::find_entry(Variant variant) {
  TRAPLINE_TRY_LET(place, code_place());
  Block* block = nullptr;
  if (variant == Variant::kNormal) {
    // Not by way of the block: most pages that a new address space enters have their code already.
    const uint64_t entry = place.table->entry[place.offset].saved;
    if (entry != thunks_.miss_saved) return entry;
  } else {
    block = cache_->find(*place.table, place.offset, static_cast<uint8_t>(variant));
  }
  if (!block) block = copy_block(*place.table, place.offset, variant);
  if (!block) {
    TRAPLINE_TRY_LET(made, translate_block(*place.table, place.code, variant));
    block = made;
  }
  if (variant == Variant::kSingle) remember_block(*block, variant);
  return uint64_t{block->saved_entry};
}

/// Processes have the same code at different addresses: what one has translated, others need not.
Block* Engine::copy_block(EntryTable& table, uint16_t offset, Variant variant) {
  if (!options_.switches.copy_blocks || !breakpoints_.empty()) return nullptr;
  Block* block = cache_->copy_for(table, offset, static_cast<uint8_t>(variant));
  if (!block) return nullptr;
  deny_code_writes(table.frame);
  refresh_mode();  // Denying writes may have taken the window away.
  return block;
}

std::span<const uint8_t> Engine::page_bytes(const Resolution& code) {
  if (code.host) {
    const auto* page = reinterpret_cast<const uint8_t*>(code.host) - code.address.offset();
    return {page, kPageSize};
  }
  // No memory there, or a device: the bus gives what it gives.
  for (uint32_t i = 0; i < kPageSize; i += 4) {
    const auto word =
        static_cast<uint32_t>(mmu_->load({(code.address.value & ~uint64_t{kPageMask}) + i}, 4));
    std::memcpy(&straddle_buffer_[i], &word, 4);
  }
  return {reinterpret_cast<const uint8_t*>(straddle_buffer_.data()), kPageSize};
}

OrFault<Block*> Engine::translate_block(EntryTable& table, const Resolution& code,
                                        Variant variant) {
  const uint64_t begin = HostTicks::now();
  const CpuState& state = context_->cpu;
  const Segment& cs = state.segment[kCs];
  TranslationRequest request;
  request.eip = state.eip;
  request.linear = state.eip + cs.base;
  request.mode = mode_;
  request.variant = variant;
  request.mxcsr_mask = model_.mxcsr_mask();
  request.mutation = options_.mutation;
  request.limit_left = uint64_t{cs.limit} - state.eip + 1;
  // Before it is read: a container may run on, and what is read twice must be the same.
  deny_code_writes(table.frame);
  request.page = page_bytes(code);
  request.guest_breakpoints = guest_breakpoints();
  request.first_exit = cache_->next_exit();
  request.code_address = cache_->next_address();
  if (!breakpoints_.empty())
    request.is_breakpoint = [this](uint32_t linear) {
      const bool passed =
          step_over_breakpoint_ && linear == breakpoint_at_ + context_->cpu.segment[kCs].base;
      return breakpoints_.contains(linear) && !passed;
    };
  const Translation* made = &translator_->translate(request);
  uint64_t second_frame = SecondPage::kNone;
  if (made->status == Translation::Status::kPastLimit) return Fault::general_protection();
  if (made->status == Translation::Status::kNeedsNextPage) {
    const Linear next{(request.linear | kPageMask) + 1};
    TRAPLINE_TRY_LET(next_code, resolve_code(next));
    deny_code_writes(next_code.address.frame());
    const auto first_bytes = request.page;
    if (first_bytes.data() != reinterpret_cast<const uint8_t*>(straddle_buffer_.data()))
      std::memcpy(straddle_buffer_.data(), first_bytes.data(), kPageSize);
    for (uint32_t i = 0; i < 15; ++i)
      straddle_buffer_[kPageSize + i] =
          next_code.host ? next_code.host[i]
                         : static_cast<std::byte>(mmu_->load(next_code.address + i, 1));
    ++table.uses;  // It stays this page's meanwhile.
    EntryTable& next_table = cache_->table(next_code.address.frame(), next.page(), mode_id_);
    --table.uses;
    refresh_mode();
    execution_views_->set(*execution_view_, next_table);
    request.page = {reinterpret_cast<const uint8_t*>(straddle_buffer_.data()), kPageSize + 15};
    request.straddle_entry = slot_of(next_table);
    made = &translator_->translate(request);
    if (made->status == Translation::Status::kPastLimit) return Fault::general_protection();
    second_frame = next_code.address.frame();
  }
  Block& block = insert_block(table, request, *made, second_frame);
  counters_.translation_ticks += HostTicks::now() - begin;
  return &block;
}

Block& Engine::insert_block(EntryTable& table, const TranslationRequest& request,
                            const Translation& made, uint64_t second_frame) {
  NewBlock in;
  in.eip = request.eip;
  in.offset = static_cast<uint16_t>(request.linear & kPageMask);
  in.variant = static_cast<uint8_t>(request.variant);
  in.code = made.code;
  in.cold_start = made.cold_start;
  in.references = same_shape<CodeReference>(made.references);
  in.movable = made.movable;
  in.host_entry = made.host_entry;
  in.saved_entry = made.saved_entry;
  in.instructions = made.instructions;
  in.exits = same_shape<NewExit>(std::span(made.exits));
  in.records = same_shape<CodeRecord>(std::span(made.records));
  const uint32_t here = std::min<uint32_t>(made.guest_bytes, kPageSize - in.offset);
  new_ranges_.clear();
  new_ranges_.push_back({in.offset, static_cast<uint16_t>(here)});
  for (const GuestRange& range : made.lookahead)
    new_ranges_.push_back(
        {static_cast<uint16_t>(in.offset + range.start), static_cast<uint16_t>(range.length)});
  in.ranges = new_ranges_;
  if (made.straddles) in.second = {second_frame, static_cast<uint16_t>(made.guest_bytes - here)};
  Block& block = cache_->insert(table, in);
  deny_code_writes(table.frame);  // Once more: a device's page may have been read meanwhile.
  if (made.straddles) deny_code_writes(second_frame);
  ++counters_.blocks_translated;
  counters_.basic_blocks_translated += made.basic_blocks;
  counters_.instructions_translated += made.instructions;
  counters_.guest_bytes_translated += made.guest_bytes;
  counters_.host_bytes_emitted += made.code.size();
  refresh_mode();  // Denying writes may have taken the window away.
  return block;
}

void Engine::deny_code_writes(uint64_t frame) {
  if (memory_->frame(frame).kind == FrameKind::kRam) mmu_->deny_writes(frame, denial::kCode);
}

}  // namespace trapline
