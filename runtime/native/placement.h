// Whether the VCPU's thread and the containers take turns on one processor, or have two.
//
// On one processor each turn costs a switch between processes, some microseconds, and what it finds
// in the caches is the other's. With two, each looks at the mailbox as long as the other runs, and
// the next turn begins at once, in caches of its own. But one can look for a while only: who has
// gone to sleep is woken up by another processor, which takes longer than any switch. So two
// processors pay where turns are short, or end when they were expected to, and where nobody else
// wants the second one.
#pragma once

#include <cstdint>
#include <optional>

namespace trapline {

class Placement {
 public:
  // All times are nanoseconds.

  /// So long the thread looks on while guest code runs, if that has just been short,
  static constexpr uint64_t kThreadLooks = 500'000;
  /// else so long;
  static constexpr uint64_t kBriefLooks = 10'000;
  /// and so long a container does while guest code does not run.
  static constexpr uint64_t kContainerLooks = 300'000;

  bool apart() const { return apart_; }
  /// How long the thread looks on this time.
  uint64_t thread_looks() const {
    return !apart_ ? 0 : ran_ < kThreadLooks ? kThreadLooks : kBriefLooks;
  }
  /// Guest code goes on in this container. Whether the last one was another.
  bool goes_on(int container, uint64_t now);
  /// It has run for so long. Whether it stopped when a deadline was due.
  void stopped(uint64_t now, uint64_t ran, bool due);
  /// Whether it is time for a look at how long they have waited.
  bool wants_look(uint64_t now) const { return apart_ && now - looked_at_ >= kLookInterval; }
  /// How long the thread and this container have waited for a processor since ever, although they
  /// had something to do, if the host tells.
  void look(uint64_t now, std::optional<uint64_t> thread, int container,
            std::optional<uint64_t> containers);

 private:
  static constexpr uint32_t kTurns = 64;  ///< After so many it is thought over.
  /// A late turn loses what so many others gain,
  static constexpr uint32_t kLateCosts = 4;
  /// and fewer are enough to stay as it is.
  static constexpr uint32_t kLateCostsApart = 3;
  static constexpr uint64_t kLookInterval = 50'000'000;
  static constexpr int64_t kCrowdedPart = 4;  ///< They wait for more than that part of the time.
  static constexpr uint32_t kGoodLooks = 20;  ///< In a row: nobody else is there any more.
  static constexpr uint64_t kFirstWait = 250'000'000;
  static constexpr uint64_t kLongestWait = 4'000'000'000;

  void turn(bool late, uint64_t now);
  void be_together_for_a_while(uint64_t now);

  bool apart_ = false;
  uint32_t turns_ = 0;
  uint32_t late_ = 0;
  int container_ = 0;        ///< Whose turn was the last,
  uint64_t stopped_at_ = 0;  ///< until then,
  uint64_t ran_ = 0;         ///< for so long.
  uint64_t looked_at_ = 0;
  int looked_container_ = 0;       ///< Of the last look; 0: there was none since it is apart.
  uint64_t thread_waited_ = 0;     ///< What that said,
  uint64_t container_waited_ = 0;  ///< of that container.
  uint32_t good_ = 0;
  uint64_t not_before_ = 0;
  uint64_t wait_ = kFirstWait;
};

}  // namespace trapline
