#include "tests/differential/native_backend.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "tests/differential/native_child.h"
#include "vcpu/assert.h"

namespace trapline::differential {

Result<std::unique_ptr<NativeBackend>> NativeBackend::create(const WindowImage& common) {
  const int file = memfd_create("native", 0);
  void* memory = MAP_FAILED;
  if (file >= 0 && ftruncate(file, sizeof(NativeShared)) == 0)
    memory = mmap(nullptr, sizeof(NativeShared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    if (file >= 0) close(file);
    return Error{ExitStatus::kHost, "The host has no memory for the native runner."};
  }
  auto* const shared = new (memory) NativeShared;
  shared->common = common;
  std::unique_ptr<NativeBackend> backend(new NativeBackend(shared, file));
  backend->start_child();
  if (backend->child_ < 0 || shared->failed) {
    return Error{ExitStatus::kHost,
                 "This host cannot run 32-bit code in a child process (it needs CONFIG_IA32_"
                 "EMULATION and free addresses below 4 GiB)."};
  }
  return backend;
}

NativeBackend::~NativeBackend() {
  stop_child();
  munmap(shared_, sizeof *shared_);
  close(file_);
}

bool NativeBackend::has_low_page() const {
  return shared_->low_page;
}
bool NativeBackend::has_segments() const {
  return shared_->segments;
}

bool NativeBackend::has_code16() const {
  return shared_->code16;
}

std::string NativeBackend::limitations() const {
  std::string out;
  if (!shared_->low_page)
    out += "16-bit addresses reach nothing: vm.mmap_min_addr is above 0x8000. ";
  if (!shared_->segments) out += "FS and GS are flat: this kernel has no modify_ldt. ";
  return out;
}

void NativeBackend::start_child() {
  shared_->request = 0;
  shared_->reply = 0;
  shared_->failed = false;
  const std::string file = std::to_string(file_);
  child_ = fork();
  if (child_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(TRAPLINE_NATIVE_CHILD, TRAPLINE_NATIVE_CHILD, file.c_str(), nullptr);
    _exit(127);
  }
  if (child_ < 0) return;
  while (shared_->reply == 0) {
    futex_wait(shared_->reply, 0, 100);
    if (waitpid(child_, nullptr, WNOHANG) == child_) child_ = -1;
    if (child_ < 0) return;
  }
}

void NativeBackend::stop_child() {
  if (child_ < 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  child_ = -1;
}

bool NativeBackend::wait_for_batch() {
  constexpr int kTick = 250;  // milliseconds
  uint32_t seen = shared_->progress;
  while (shared_->reply != shared_->request + 1) {
    futex_wait(shared_->reply, shared_->request, kTick);
    if (waitpid(child_, nullptr, WNOHANG) == child_) {
      child_ = -1;
      return false;
    }
    const uint32_t progress = shared_->progress;
    // A whole tick on one case: it loops. The signal ends it.
    if (progress == seen && shared_->reply != shared_->request + 1) kill(child_, SIGUSR1);
    seen = progress;
  }
  return true;
}

void NativeBackend::run_batch(std::span<const Case> cases, std::span<Outcome> outcomes) {
  while (!cases.empty()) {
    if (child_ < 0) start_child();
    TRAPLINE_ASSERT(child_ >= 0 && !shared_->failed);
    std::copy(cases.begin(), cases.end(), shared_->cases.begin());
    shared_->count = static_cast<uint32_t>(cases.size());
    shared_->progress = 0;
    ++shared_->request;
    futex_wake(shared_->request);
    const bool complete = wait_for_batch();
    const uint32_t done = complete ? shared_->count : shared_->progress.load();
    std::copy_n(shared_->outcomes.begin(), done, outcomes.begin());
    if (complete) return;
    // The case that killed the child is lost; the others go on in a new one.
    outcomes[done] = Outcome{};
    cases = cases.subspan(done + 1);
    outcomes = outcomes.subspan(done + 1);
  }
}

void NativeBackend::run(std::span<const Case> cases, std::span<Outcome> outcomes) {
  while (!cases.empty()) {
    const size_t count = std::min<size_t>(cases.size(), kNativeBatch);
    run_batch(cases.first(count), outcomes.first(count));
    cases = cases.subspan(count);
    outcomes = outcomes.subspan(count);
  }
}

}  // namespace trapline::differential
