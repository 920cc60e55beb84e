// The local APIC's sets of vectors, and its state in snapshots.
#include <bit>

#include "runtime/devices/local_apic.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "local-apic";
constexpr uint32_t kVersion = 2;

void save_set(SnapshotWriter& out, const VectorSet& set) {
  for (uint32_t i = 0; i < 8; ++i) out.u32(set.word(i));
}

VectorSet load_set(SnapshotReader& in) {
  VectorSet set;
  for (uint32_t i = 0; i < 8; ++i) set.set_word(i, in.u32());
  return set;
}

}  // namespace

std::optional<uint8_t> VectorSet::highest() const {
  for (uint32_t i = 8; i-- > 0;)
    if (words_[i] != 0) return static_cast<uint8_t>(32 * i + std::bit_width(words_[i]) - 1);
  return std::nullopt;
}

void LocalApic::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u64(state_.base);
  out.u32(state_.id);
  out.u32(state_.logical_destination);
  out.u32(state_.destination_format);
  out.u32(state_.spurious);
  out.u32(state_.command_low);
  out.u32(state_.command_high);
  for (const uint32_t entry : state_.entries) out.u32(entry);
  save_set(out, state_.requested);
  save_set(out, state_.in_service);
  save_set(out, state_.level);
  out.u8(state_.task_priority);
  out.u8(state_.errors);
  out.u8(state_.errors_gathered);
  out.boolean(state_.external);
  for (const bool pin : state_.pins) out.boolean(pin);
  timer_.save(out);
  out.end();
}

Result<void> LocalApic::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.base = in.u64();
  loaded.id = in.u32();
  loaded.logical_destination = in.u32();
  loaded.destination_format = in.u32();
  loaded.spurious = in.u32();
  loaded.command_low = in.u32();
  loaded.command_high = in.u32();
  for (uint32_t& entry : loaded.entries) entry = in.u32();
  loaded.requested = load_set(in);
  loaded.in_service = load_set(in);
  loaded.level = load_set(in);
  loaded.task_priority = in.u8();
  loaded.errors = in.u8();
  loaded.errors_gathered = in.u8();
  loaded.external = in.boolean();
  for (bool& pin : loaded.pins) pin = in.boolean();
  const ApicTimer::State timer = ApicTimer::read_state(in);
  if (!has_only_real_bits(loaded)) in.reject("an APIC register has bits that do not exist");
  if (auto read = in.end(); !read.ok()) return read;
  state_ = loaded;
  timer_.load(timer, state_.entries[kTimer]);
  update_intr();
  return {};
}

}  // namespace trapline
