#include "runtime/machine.h"

#include "runtime/engine.h"
#include "runtime/signals.h"

namespace trapline {

class Machine::Impl {
 public:
  explicit Impl(std::unique_ptr<Engine> made) : engine(std::move(made)) {}
  std::unique_ptr<Engine> engine;
};

Machine::Machine() = default;
Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::create(const MachineOptions& options) {
  auto engine = Engine::create(options);
  if (!engine.ok()) return engine.error();
  std::unique_ptr<Machine> machine(new Machine);
  machine->impl_ = std::make_unique<Impl>(engine.take());
  return machine;
}

void Machine::read_memory(Physical address, std::span<std::byte> out) const {
  impl_->engine->memory().read(address, out);
}
void Machine::write_memory(Physical address, std::span<const std::byte> in) {
  impl_->engine->write_memory(address, in);
}
void Machine::clear_memory() {
  impl_->engine->clear_memory();
}
PhysicalMemory& Machine::memory() {
  return impl_->engine->memory();
}
void Machine::memory_map_changes() {
  impl_->engine->memory_map_changes();
}
std::optional<Physical> Machine::physical_address(Linear address) const {
  return impl_->engine->physical_address(address);
}
const CpuState& Machine::state() const {
  return impl_->engine->state();
}
void Machine::set_state(const CpuState& state) {
  impl_->engine->set_state(state);
}
Exit Machine::run(const RunLimits& limits) {
  return impl_->engine->run(limits);
}
void Machine::rest() {
  impl_->engine->rest();
}
void Machine::change_time_limit(std::chrono::nanoseconds time) {
  change_deadline(time);
}
void Machine::complete_port_read(uint32_t value) {
  impl_->engine->complete_port_read(value);
}
void Machine::inject_interrupt(uint8_t vector) {
  impl_->engine->inject_interrupt(vector);
}
void Machine::inject_nmi() {
  impl_->engine->inject_nmi();
}
bool Machine::nmi_due() const {
  return impl_->engine->nmi_due();
}
void Machine::forget_injected() {
  impl_->engine->forget_injected();
}
void Machine::set_interrupt_line(bool asserted, InterruptSource* source) {
  impl_->engine->set_interrupt_line(asserted, source);
}
void Machine::set_a20_gate(bool open) {
  impl_->engine->set_a20_gate(open);
}
void Machine::ignore_x87_errors(bool ignore) {
  impl_->engine->ignore_x87_errors(ignore);
}
void Machine::request_stop() {
  impl_->engine->request_stop();
}
void Machine::add_breakpoint(Linear address) {
  impl_->engine->set_breakpoint(address, true);
}
void Machine::remove_breakpoint(Linear address) {
  impl_->engine->set_breakpoint(address, false);
}
const CpuModel& Machine::model() const {
  return impl_->engine->model();
}
Statistics Machine::statistics() const {
  return impl_->engine->statistics();
}
uint64_t Machine::user_entries() const {
  return impl_->engine->user_entries();
}
const std::string& Machine::native_refusal() const {
  return impl_->engine->native_refusal();
}
uint64_t Machine::time_stamp() const {
  return impl_->engine->time_stamp();
}
void Machine::skip_time(uint64_t instructions) {
  impl_->engine->skip_time(instructions);
}
uint64_t Machine::state_hash() const {
  return impl_->engine->state_hash();
}

double Statistics::native_share() const {
  const uint64_t all = native_nanoseconds + translated_user_nanoseconds;
  return all == 0 ? 0 : static_cast<double>(native_nanoseconds) / static_cast<double>(all);
}

std::vector<std::pair<std::string, uint64_t>> Statistics::named() const {
  return {{"instructions", instructions},
          {"interpreted", interpreted},
          {"blocks_translated", blocks_translated},
          {"blocks_copied", blocks_copied},
          {"pages_of_code_moved", pages_of_code_moved},
          {"basic_blocks_translated", basic_blocks_translated},
          {"instructions_translated", instructions_translated},
          {"guest_bytes_translated", guest_bytes_translated},
          {"host_bytes_emitted", host_bytes_emitted},
          {"translation_nanoseconds", translation_nanoseconds},
          {"blocks_invalidated", blocks_invalidated},
          {"cache_flushes", cache_flushes},
          {"dispatches", dispatches},
          {"page_misses", page_misses},
          {"careful_instructions", careful_instructions},
          {"pages_joined", pages_joined},
          {"traced_writes", traced_writes},
          {"code_writes", code_writes},
          {"view_switches", view_switches},
          {"device_memory", device_memory},
          {"exceptions", exceptions},
          {"page_faults", page_faults},
          {"interrupts", interrupts},
          {"port_accesses", port_accesses},
          {"kicks", kicks},
          {"native_stays", native_stays},
          {"native_stays_apart", native_stays_apart},
          {"native_nanoseconds", native_nanoseconds},
          {"native_kicks", native_kicks},
          {"native_faults_hidden", native_faults_hidden},
          {"native_faults_reflected", native_faults_reflected},
          {"native_system_calls", native_system_calls},
          {"native_instructions", native_instructions},
          {"native_segment_loads", native_segment_loads},
          {"native_patch_stops", native_patch_stops},
          {"native_hidden_accesses", native_hidden_accesses},
          {"native_promotions", native_promotions},
          {"native_rests", native_rests},
          {"native_demotions", native_demotions},
          {"native_pages_fine", native_pages_fine},
          {"native_pages_sensitive", native_pages_sensitive},
          {"native_pages_unexplored", native_pages_unexplored},
          {"native_pages_patched", native_pages_patched},
          {"native_pages_rewritten", native_pages_rewritten},
          {"native_looks", native_looks},
          {"native_looks_nanoseconds", native_looks_nanoseconds},
          {"native_mappings_made", native_mappings_made},
          {"native_mappings_removed", native_mappings_removed},
          {"native_mappings_evicted", native_mappings_evicted},
          {"native_pages_mapped", native_pages_mapped},
          {"native_containers_started", native_containers_started},
          {"native_containers_recycled", native_containers_recycled},
          {"native_containers_lost", native_containers_lost},
          {"samples_user", samples_user},
          {"samples_kernel", samples_kernel},
          {"samples_engine", samples_engine}};
}

}  // namespace trapline
