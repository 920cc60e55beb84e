// Which address spaces are worth running natively, from what is counted anyway.
//
// Going native pays when user code computes for long between events: a stay costs what handing over
// costs, and gains a part of its own length. So an address space is promoted when it is found
// in user mode several times in a row, with few entries to the kernel in between; then it has a
// credit, which events use up and computing fills. It is demoted when the credit is gone, and each
// time for longer, until it has done well for a while.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace trapline {

/// What ended a stay, as the costs of events are told apart.
enum class NativeCause : uint8_t {
  kKick,
  kMapping,     ///< A page of data that the container did not have yet.
  kCode,        ///< A page of code, the same.
  kTranslated,  ///< Code that stays translated.
  kReflected,   ///< A page fault of the guest's.
  kAccess,      ///< A write that something has to notice, or a device.
  kSystemCall,  ///< INT 80h, or a call of code that is translated because of its SYSENTER.
  kInstruction,
  kLost,
};
inline constexpr size_t kNativeCauses = 9;
extern const std::array<const char*, kNativeCauses> kNativeCauseNames;

class NativePolicy {
 public:
  struct Counters {
    uint64_t promotions = 0;
    uint64_t demotions = 0;
    uint64_t rests = 0;  ///< Bursts of page faults, which are left to translated code.
    /// By the kind of event that cost most of the credit.
    std::array<uint64_t, kNativeCauses> demotions_by{};
  };

  // All times are nanoseconds.

  bool native(uint32_t view) {
    if (view != recent_view_) recall(view);
    return recent_native_;
  }
  /// The view's user code runs translated: an interrupt comes, or the VMM had something to do by
  /// itself. `entries` counts the guest's entries to its kernel by itself, system calls and faults,
  /// since ever.
  void look(uint32_t view, uint64_t now, uint64_t entries);
  /// A stay has ended with an event of this kind: it took so long, the host's signal and the return
  /// from it included, and handing over and looking at the event cost so much.
  void stayed(uint32_t view, uint64_t now, uint64_t time, uint64_t cost, NativeCause cause);
  /// Nothing remembers the view any more.
  void forget(uint32_t view);

  const Counters& counters() const { return counters_; }

 private:
  static constexpr uint64_t kMostSignal = 10'000;  ///< What one takes at most, with its return.

  struct Space {
    Space() { shortest.fill(kMostSignal); }
    /// Of the last stays that ended so. What a fault takes of the host, a kick does not.
    std::array<uint64_t, kNativeCauses> shortest;
    bool native = false;
    uint32_t good = 0;  ///< Looks in a row that spoke for it.
    int64_t credit = 0;
    int64_t most = 0;  ///< Credit that shows that it has done well.
    uint32_t burst = 0;
    uint64_t not_before = 0;
    uint64_t penalty = 0;                          ///< How long the next demotion is.
    std::array<uint32_t, kNativeCauses> events{};  ///< Since the promotion.
  };

  void recall(uint32_t view);

  std::unordered_map<uint32_t, Space> spaces_;
  uint32_t recent_view_ = 0;
  bool recent_native_ = false;
  uint32_t resting_view_ = 0;  ///< Translated until the next look at it.
  uint32_t looked_view_ = 0;   ///< Whom the last look found.
  uint64_t looked_at_ = 0;
  uint64_t looked_entries_ = 0;
  Counters counters_;
};

}  // namespace trapline
