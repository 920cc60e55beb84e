// Remembers what Zydis made of encodings. Prefixes, opcode, ModRM and SIB decide about everything
// in an instruction but the values of its displacement and immediates; so these bytes are looked
// up, and the values read, in a fraction of the time that decoding takes. Encodings that differ by
// their general registers only are made from one another.
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
  explicit DecodeMemo(const CpuModel& model);

  Decoded decode(std::span<const uint8_t> bytes, CodeSize code_size, uint32_t eip,
                 Instruction& out);
  /// The same where EIP and the values of displacement and immediates do not matter: what it is,
  /// how long, and what it does to flags. nullptr when it cannot be decoded. Valid until the next
  /// call; `room` is for what is not remembered.
  const Instruction* decode_shape(std::span<const uint8_t> bytes, CodeSize code_size,
                                  Instruction& room);

  struct Counters {
    uint64_t found = 0;
    uint64_t derived = 0;  ///< From one that has other registers.
    uint64_t decoded = 0;  ///< By Zydis.
  };
  const Counters& counters() const { return counters_; }

 private:
  static constexpr uint32_t kSlotBits = 13;
  static constexpr size_t kMostEntries = 4096;
  struct Entry {
    uint64_t key = 0;
    uint64_t general = 0;  ///< The key of all that differ by registers only; 0: none do.
    bool flags_depend_on_value = false;
    Instruction instruction;
  };
  /// The first of the two neighbours that a key may be in.
  static size_t home_of(uint64_t key) { return key * 0x9e3779b97f4a7c15u >> (64 - kSlotBits); }
  template <uint64_t Entry::*Key>
  const Entry& find(uint64_t key) const {
    const size_t home = home_of(key);
    const Entry& first = entries_[slots_[home]];
    return first.*Key == key ? first : entries_[slots_[home ^ 1]];
  }
  template <uint64_t Entry::*Key>
  void enter(uint64_t key, uint16_t number);
  Decoded decode_new(std::span<const uint8_t> bytes, CodeSize code_size, uint64_t key, uint32_t eip,
                     Instruction& out);
  void put(const Entry& entry);

  const CpuModel& model_;
  std::array<uint16_t, 1 << kSlotBits> slots_{};  ///< Indices of entries, by the key's hash.
  size_t turn_ = 0;                               ///< Which of two neighbours gives way next.
  std::vector<Entry> entries_{1};                 ///< The first one is nobody's.
  Counters counters_;
};

}  // namespace trapline
