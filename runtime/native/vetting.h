// Whether a page's code may run natively: whether the processor does with it what the guest's
// would.
//
// What faults outside ring 0 may: the fault is an event, and the instruction is then emulated. The
// question is about instructions that silently do something else (SGDT, loads and stores of segment
// registers). Bytes that look like one are everywhere, so they count only where they do not lie
// inside an instruction that is known: one that is reached, inside the page, from where the guest
// is known to have executed, or that all ways to decode what comes before agree on. Nor do they
// count where what follows shows that nobody executes them, as with data. A jump into the middle of
// a known instruction is not noticed; what that runs is a fidelity gap, never one of safety.
//
// Where all such instructions are found, execution may be stopped at them instead: by breakpoints,
// or by a copy of the page that has another byte where they begin. The latter must be certain of
// where they begin, or it would change another instruction.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/native/instruction_effects.h"
#include "runtime/native/instruction_lengths.h"
#include "vcpu/address.h"
#include "vcpu/cpu_model.h"

namespace trapline {

enum class Vetted : uint8_t {
  kFine,
  kSensitive,   ///< A known instruction would silently differ.
  kUnexplored,  ///< Bytes that look like one lie where no instruction is known.
  kPatched,     ///< It is fine in a copy.
};

/// What is to be vetted, and what is known of it.
struct CodePage {
  std::span<const uint8_t> bytes;     ///< A page.
  std::span<const uint8_t> head;      ///< What precedes it in memory, as far as that is known.
  std::span<const uint8_t> tail;      ///< What follows it in memory, as far as that is known.
  std::span<const uint16_t> entries;  ///< Offsets that were executed.
  bool sse = false;                   ///< The guest's kernel lets SSE instructions execute.
  /// A selector that user code loads is either refused natively or seen at the next event.
  bool loads_are_noticed = false;
};

class PageVetter {
 public:
  explicit PageVetter(const CpuModel& model) : model_(model), effects_(model) {}
  /// CPUID is an event, not what the host's processor says.
  void let_cpuid_fault() { cpuid_faults_ = true; }

  /// Execution can be stopped at so many places of a page.
  void watch() { most_watched_ = kMostWatched; }

  /// A page may run from a copy in which other bytes are where instructions begin.
  void let_patch() { patches_ = true; }

  Vetted vet(const CodePage& page);
  /// Offsets in the last page where execution must be stopped: it is fine if it is.
  std::span<const uint16_t> watched() const { return watched_; }
  /// Of a page that is kPatched: offsets of the instructions that must be patched besides. Of one
  /// that is kFine: those of watched() that can be patched instead.
  std::span<const uint16_t> patched() const { return patched_; }
  /// Whether an instruction may begin in the last page and go on in its tail: what is said of it
  /// holds as long as the tail is the same.
  bool goes_on();
  /// What keeps the last page from being kFine, by name: "sysenter", "mov segment", "far jmp".
  std::string culprit() const;

  static constexpr size_t kMostWatched = 4;
  static constexpr size_t kMostPatched = 64;

 private:
  static constexpr size_t kLongest = InstructionForm::kLongest;
  /// Decoding towards a byte begins at each of so many in a row, so far before.
  static constexpr uint32_t kStarts = 16;
  static constexpr uint32_t kDistance = 112;
  /// So many of them must lead to a place for it to be certain that an instruction begins there.
  static constexpr uint32_t kCertain = kStarts / 4;
  /// So many instructions are looked at to find out that a place leads nowhere.
  static constexpr uint32_t kLongestWay = 64;
  // Offsets are those in the page, plus kHead.
  static constexpr uint32_t kHead = kStarts + kDistance;
  static constexpr uint32_t kEnd = kHead + kPageSize;

  /// A set of bytes of the page and what is before it.
  class ByteSet {
   public:
    bool has(uint32_t at) const { return words_[at / 64] >> at % 64 & 1; }
    // Some bytes in a row, kLongest at most.
    bool any(uint32_t at, uint32_t count) const {
      return (words_[at / 64] & low(at, count)) || (words_[at / 64 + 1] & high(at, count));
    }
    bool all(uint32_t at, uint32_t count) const {
      return (words_[at / 64] & low(at, count)) == low(at, count) &&
             (words_[at / 64 + 1] & high(at, count)) == high(at, count);
    }
    void add(uint32_t at, uint32_t count) {
      words_[at / 64] |= low(at, count);
      words_[at / 64 + 1] |= high(at, count);
    }
    void remove(uint32_t at, uint32_t count) {
      words_[at / 64] &= ~low(at, count);
      words_[at / 64 + 1] &= ~high(at, count);
    }
    /// Those of 64 bytes from `at` on, a multiple of 64.
    uint64_t word(uint32_t at) const { return words_[at / 64]; }

   private:
    static uint64_t mask(uint32_t count) { return (uint64_t{1} << count) - 1; }
    static uint64_t low(uint32_t at, uint32_t count) { return mask(count) << at % 64; }
    static uint64_t high(uint32_t at, uint32_t count) { return mask(count) >> 1 >> (63 - at % 64); }

    std::array<uint64_t, kEnd / 64 + 1> words_{};
  };

  /// Where execution must be stopped.
  struct Place {
    uint16_t at = 0;
    bool watchable = false;
    bool known = false;
  };

  /// Where the flow may go on, and how odd what it has come by is.
  struct Way {
    uint32_t at = 0;
    uint32_t odd = 0;
  };

  std::span<const uint8_t> from(uint32_t at) const {
    return std::span(bytes_).subspan(at, count_ - at);
  }
  bool differs(InstructionEffect effect) const;
  bool matters(InstructionEffect effect) const;
  bool matters_at(uint32_t at);
  int32_t distance(uint32_t at, InstructionEffect effect) const;
  uint16_t target(uint32_t at, InstructionEffect effect) const;
  bool may_differ(uint32_t opcode) const;
  uint8_t length(uint32_t at);
  void follow(uint16_t entry);
  bool look_for_patterns();
  bool leads_nowhere(uint32_t begin);
  bool stop(uint32_t at, InstructionEffect effect, bool known);
  bool stop_at_prefix(uint32_t opcode);
  bool can_watch(uint32_t at, InstructionEffect effect, bool known);
  bool patchable(uint32_t at, InstructionEffect effect, bool known);
  bool executed(uint32_t at);
  bool overlapped(uint32_t at, InstructionEffect effect);
  bool telling(uint32_t at) const;
  Vetted choose_stops();
  template <typename Meet>
  uint32_t approach(uint32_t from, Meet meet);
  bool agreed(uint32_t from);
  bool begins_surely(uint32_t from);

  const CpuModel& model_;
  bool cpuid_faults_ = false;
  size_t most_watched_ = 0;
  bool patches_ = false;
  std::span<const uint16_t> entries_;
  std::vector<Place> places_;
  std::vector<uint16_t> watched_;
  std::vector<uint16_t> patched_;
  bool sse_ = false;
  bool loads_are_noticed_ = false;
  bool sensitive_ = false;
  uint32_t culprit_ = 0;  ///< Where the instruction begins that is not fine, or would.
  std::array<uint8_t, kEnd + kLongest> bytes_{};
  uint32_t first_ = 0;  ///< Of bytes, the first and the last that is known.
  uint32_t count_ = 0;
  InstructionEffects effects_;
  InstructionLengths known_lengths_;
  std::array<uint8_t, kEnd> lengths_{};  ///< 0: not looked at.
  ByteSet known_;                        ///< In instructions that are known,
  ByteSet begins_;                       ///< and their first ones.
  ByteSet followed_;            ///< Each place once, or code that overlaps may go on for ever.
  std::vector<uint16_t> open_;  ///< Still to be followed.
  std::vector<Way> ways_;       ///< The same, of a place that may lead nowhere.
};

}  // namespace trapline
