// Remembers what Zydis made of encodings. Prefixes, opcode, ModRM and SIB decide about everything
// in an instruction but the values of its displacement and immediates; so these bytes are looked
// up, and the values read, in a fraction of the time that decoding takes.
//
// Invariants:
//  D1  decode() gives what trapline::decode() gives, for any bytes.
//  D2  An entry holds for one CPU model and one kind of code: the first because the memo belongs to
//      the model, the second because it is part of the key.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "translator/decoder.h"
#include "translator/instruction.h"
#include "vcpu/cpu_model.h"

namespace trapline {

class DecodeMemo {
 public:
  explicit DecodeMemo(const CpuModel& model) : model_(model) {}

  Decoded decode(std::span<const uint8_t> bytes, CodeSize code_size, uint32_t eip,
                 Instruction& out);
  /// The same where EIP and the values of displacement and immediates do not matter: what it is,
  /// how long, and what it does to flags. nullptr when it cannot be decoded. Valid until the next
  /// call; `room` is for what is not remembered.
  const Instruction* decode_shape(std::span<const uint8_t> bytes, CodeSize code_size,
                                  Instruction& room);

  struct Counters {
    uint64_t found = 0;
    uint64_t decoded = 0;  ///< By Zydis.
  };
  const Counters& counters() const { return counters_; }

 private:
  static constexpr uint32_t kSlotBits = 12;
  struct Entry {
    uint64_t key = 0;
    bool flags_depend_on_value = false;
    Instruction instruction;
  };
  uint16_t& slot_of(uint64_t key) { return slots_[key * 0x9e3779b97f4a7c15u >> (64 - kSlotBits)]; }
  void remember(uint16_t& slot, uint64_t key, std::span<const uint8_t> bytes,
                const Instruction& in);

  const CpuModel& model_;
  std::array<uint16_t, 1 << kSlotBits> slots_{};  ///< Indices of entries, by the key's hash.
  std::vector<Entry> entries_{1};                 ///< The first one is nobody's.
  Counters counters_;
};

}  // namespace trapline
