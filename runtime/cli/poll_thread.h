// A thread that waits for descriptors of the host, so that the machine's thread need not.
#pragma once

#include <poll.h>

#include <atomic>
#include <thread>
#include <vector>

namespace trapline {

/// What to wait for.
struct PollPlan {
  std::vector<pollfd> descriptors;
  int milliseconds = -1;  ///< At most; -1: for ever.

  void watch(int descriptor, short events) { descriptors.push_back({descriptor, events, 0}); }
  /// What has happened to a descriptor that is watched; 0 for others.
  short events(int descriptor) const;
};

/// No signal from outside is ever handled on its thread.
class PollThread {
 public:
  class Client {
   public:
    virtual ~Client() = default;
    /// On the thread, in turns: what to wait for, and what to do after it.
    virtual void plan(PollPlan& plan) = 0;
    virtual void serve(const PollPlan& plan) = 0;
  };

  PollThread();
  /// Ends the thread, after what it serves.
  ~PollThread();
  PollThread(const PollThread&) = delete;
  PollThread& operator=(const PollThread&) = delete;

  /// Once. The client must live until stop() or the end of this.
  void start(Client& client);
  void stop();
  /// Plan again. From any thread.
  void nudge();

 private:
  void run(Client& client);

  int nudge_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace trapline
