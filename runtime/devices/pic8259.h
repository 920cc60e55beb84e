// One 8259A programmable interrupt controller: requests, masks, priorities and its registers. How
// two of them make up a PC's sixteen interrupts is in pic8259_pair.h.
//
// An edge-triggered request lasts as long as its input stays high, as the datasheet has it: an
// input that falls before it was acknowledged has asked for nothing. Vectors are those of the
// 8086 mode, whatever ICW4 says, and ICW1's LTIM bit is ignored in favour of the ELCR, as on PCI
// chipsets.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/devices/snapshot.h"

namespace trapline {

class Pic8259 {
 public:
  /// `slaves`: the inputs to which the outputs of other chips are connected.
  explicit Pic8259(uint8_t slaves) : slaves_(slaves) {}

  void set_input(uint8_t input, bool level);
  /// One bit for each input: level-triggered instead of edge-triggered.
  void set_level_triggered(uint8_t inputs) { state_.level_triggered = inputs; }
  uint8_t level_triggered() const { return state_.level_triggered; }

  bool output() const { return pending().has_value(); }
  /// The INTA cycle: the input that is now in service. Nothing when no request is there any more;
  /// the chip then answers for its input 7, without putting it in service.
  std::optional<uint8_t> acknowledge();
  uint8_t vector_of(uint8_t input) const {
    return static_cast<uint8_t>(state_.vector_base | input);
  }

  /// Whether the next read will be an acknowledgement.
  bool polling() const { return state_.poll; }
  uint8_t read(bool a0);
  void write(bool a0, uint8_t value);

  /// Everything is masked until it is programmed. The inputs keep their levels.
  void reset();
  void save(SnapshotWriter& out) const;
  /// Takes over what it read only when commit() is called.
  void load(SnapshotReader& in);
  void commit() { state_ = loaded_; }

 private:
  /// Which initialization command word the next write to the odd port is.
  enum class Expects : uint8_t { kMask, kIcw2, kIcw3, kIcw4 };

  struct State {
    uint8_t levels = 0;  ///< The inputs.
    uint8_t edges = 0;   ///< Rose, have not fallen since, and were not acknowledged.
    uint8_t level_triggered = 0;
    uint8_t mask = 0xff;
    uint8_t in_service = 0;
    uint8_t vector_base = 0;
    uint8_t lowest = 7;  ///< The input of the lowest priority.
    Expects expects = Expects::kMask;
    bool single = false;
    bool wants_icw4 = false;
    bool automatic_eoi = false;
    bool rotate_on_automatic_eoi = false;
    bool special_fully_nested = false;
    bool special_mask = false;
    bool read_in_service = false;
    bool poll = false;
  };

  uint8_t requests() const {
    return static_cast<uint8_t>((state_.levels & state_.level_triggered) |
                                (state_.edges & ~state_.level_triggered));
  }
  /// In-service bits that hold back their own and lower priorities.
  uint8_t blocking() const {
    return static_cast<uint8_t>(state_.in_service & (state_.special_mask ? ~state_.mask : 0xff));
  }
  uint8_t by_priority(unsigned rank) const {
    return static_cast<uint8_t>((state_.lowest + 1 + rank) & 7);
  }
  std::optional<uint8_t> pending() const;
  uint8_t read_poll();
  void write_icw1(uint8_t value);
  void write_odd(uint8_t value);
  void write_ocw2(uint8_t value);
  void write_ocw3(uint8_t value);
  void end_of_interrupt(std::optional<uint8_t> input, bool rotate);

  uint8_t slaves_;
  State state_;
  State loaded_;
};

}  // namespace trapline
