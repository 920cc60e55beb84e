#include "runtime/cli/poll_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>

#include "vcpu/assert.h"

namespace trapline {

short PollPlan::events(int descriptor) const {
  for (const pollfd& each : descriptors)
    if (each.fd == descriptor) return each.revents;
  return 0;
}

PollThread::PollThread() : nudge_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  TRAPLINE_ASSERT(nudge_ >= 0);
}

PollThread::~PollThread() {
  stop();
  close(nudge_);
}

void PollThread::start(Client& client) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // A fault of the thread's own must still find its handler.
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT})
    sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // The new thread inherits it.
  thread_ = std::thread([this, &client] { run(client); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void PollThread::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  nudge();
  thread_.join();
}

void PollThread::nudge() {
  const uint64_t one = 1;
  (void)!write(nudge_, &one, sizeof one);  // Fails only when a nudge is already there.
}

void PollThread::run(Client& client) {
  PollPlan plan;
  while (!stopping_.load()) {
    plan.descriptors.clear();
    plan.milliseconds = -1;
    plan.watch(nudge_, POLLIN);
    client.plan(plan);
    const int ready = poll(plan.descriptors.data(), plan.descriptors.size(), plan.milliseconds);
    if (plan.descriptors.front().revents & POLLIN) {
      uint64_t nudges = 0;
      (void)!read(nudge_, &nudges, sizeof nudges);
    }
    if (ready > 0) client.serve(plan);
  }
}

}  // namespace trapline
