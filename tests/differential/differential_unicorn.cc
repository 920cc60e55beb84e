// Compares the engine with Unicorn on sequences of kernel-mode steps. See
// docs/differential-testing.md.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "tests/differential/kernel_machine.h"
#include "tests/differential/kernel_unicorn.h"
#include "tests/differential/real_layout.h"
#include "tests/differential/real_machine.h"
#include "tests/differential/real_unicorn.h"
#include "tests/differential/switch_options.h"
#include "tests/differential/text.h"

namespace {

using namespace trapline;
using namespace trapline::differential;
using namespace trapline::differential::kernel;

struct Options {
  uint64_t seed = 1;
  uint64_t first = 0;
  uint64_t cases = 20'000;
  uint32_t reports = 5;
  bool random_seed = false;
  bool list = false;
  bool code16 = false;
  std::string left = "unicorn";
  std::string right = "engine";
  std::vector<std::string> left_switches, right_switches;
};

template <typename Backend>
std::unique_ptr<KernelBackend> taken(Result<std::unique_ptr<Backend>> backend) {
  if (backend.ok()) return backend.take();
  std::fprintf(stderr, "%s\n", backend.error().message.c_str());
  return nullptr;
}

std::unique_ptr<KernelBackend> make_backend(const std::string& name,
                                            const std::vector<std::string>& settings, bool code16) {
  if (name == "unicorn")
    return code16 ? taken(UnicornRealBackend::create()) : taken(UnicornKernelBackend::create());
  Switches switches;
  switches.exact_flags = true;
  if (!apply_switches(settings, switches)) return nullptr;
  return code16 ? taken(MachineRealBackend::create(switches))
                : taken(MachineKernelBackend::create(switches));
}

class Run {
 public:
  explicit Run(const Options& options) : options_(options) {}

  /// False when a backend cannot be had.
  bool make_backends() {
    left_ = make_backend(options_.left, options_.left_switches, options_.code16);
    right_ =
        left_ ? make_backend(options_.right, options_.right_switches, options_.code16) : nullptr;
    return right_ != nullptr;
  }

  bool run() {
    // After some 80 000 cases an instance of Unicorn no longer notices self-modifying code.
    constexpr uint64_t kCasesOfOne = 20'000;
    for (uint64_t i = 0; i < options_.cases; ++i) {
      if (i % kCasesOfOne == kCasesOfOne - 1 && !make_backends()) return false;
      const uint64_t number = options_.first + i;
      judge(options_.code16 ? make_real_case(options_.seed, number)
                            : make_kernel_case(options_.seed, number));
    }
    std::printf("%llu cases compared, %llu steps, %llu events, %llu differ\n", ull(options_.cases),
                ull(steps_), ull(events_), ull(failed_));
    return failed_ == 0;
  }

 private:
  bool differ(const KernelCase& test) {
    for (int i = 0; i < 4; ++i) {
      left_->run(test, left_outcome_);
      right_->run(test, right_outcome_);
      const bool left_late = left_outcome_.ending == Ending::kTimeout;
      if (left_late == (right_outcome_.ending == Ending::kTimeout)) break;
      // Perhaps one side was not scheduled.
    }
    return left_outcome_.ending == Ending::kLost || right_outcome_.ending == Ending::kLost ||
           !kernel_differences(test, left_outcome_, right_outcome_).empty();
  }

  void judge(const KernelCase& test) {
    const bool different = differ(test);
    steps_ += test.steps.size();
    events_ += left_outcome_.events.size();
    if (!different) return;
    if (++failed_ <= options_.reports) report(minimise(test));
  }

  /// The fewest steps from the first one on that still differ. Nothing is left out in between:
  /// where segments and code lie depends on it.
  KernelCase shorten(const KernelCase& test) {
    for (size_t count = 1; count < test.steps.size(); ++count) {
      KernelCase attempt = test;
      attempt.end = test.steps[count].address;
      attempt.steps.resize(count);
      attempt.code.resize(attempt.end - test.origin);
      attempt.code.push_back(0xcc);
      if (differ(attempt)) return attempt;
    }
    return test;
  }

  /// Replaces whole steps by NOPs as long as the outcomes still differ.
  KernelCase minimise(const KernelCase& test) {
    if (test.code16) return shorten(test);
    KernelCase best = test;
    for (size_t i = test.steps.size(); i-- > 0;) {
      KernelCase attempt = best;
      const uint32_t start = test.steps[i].address - test.origin;
      const uint32_t end =
          (i + 1 < test.steps.size() ? test.steps[i + 1].address : test.end) - test.origin;
      std::fill(attempt.code.begin() + start, attempt.code.begin() + end, uint8_t{0x90});
      if (differ(attempt)) best = attempt;
    }
    return best;
  }

  void report(const KernelCase& test) {
    const bool again = differ(test);
    std::printf("=== differ: differential_unicorn --seed %llu --first %llu --cases 1%s\n%s",
                ull(options_.seed), ull(test.number), test.code16 ? " --code16" : "",
                again ? "" : "(not when run again)\n");
    std::printf("%s | %s:\n%s", left_->name().c_str(), right_->name().c_str(),
                kernel_differences(test, left_outcome_, right_outcome_).c_str());
    std::printf("%s%s:\n%s%s:\n%s\n", without_nops(describe(test)).c_str(), left_->name().c_str(),
                describe(left_outcome_).c_str(), right_->name().c_str(),
                describe(right_outcome_).c_str());
  }

  static std::string without_nops(const std::string& text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      const std::string line = text.substr(at, end - at + 1);
      if (line.find(" 90 ") == std::string::npos) out += line;
      at = end + 1;
    }
    return out;
  }

  const Options& options_;
  std::unique_ptr<KernelBackend> left_, right_;
  KernelOutcome left_outcome_, right_outcome_;
  uint64_t steps_ = 0, events_ = 0, failed_ = 0;
};

int run(Options& options) {
  if (options.list) {
    for (const Deviation& row : unicorn_deviations())
      std::printf("%s: %s\n", row.field, row.reason);
    return 0;
  }
  if (options.random_seed) options.seed = std::random_device{}();
  Run campaign(options);
  if (!campaign.make_backends()) return 71;
  std::printf("seed %llu\n", ull(options.seed));
  const auto start = std::chrono::steady_clock::now();
  const bool same = campaign.run();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  std::printf("%.1f s, %.0f cases per second\n", taken.count(),
              static_cast<double>(options.cases) / taken.count());
  return same ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Runs sequences of kernel-mode steps on two backends and compares what they do.");
  const auto backends = CLI::IsMember({"unicorn", "engine"});
  app.add_option("--seed", options.seed, "Decides everything random")->capture_default_str();
  app.add_flag("--random-seed", options.random_seed, "Take a new seed and print it");
  app.add_option("--cases", options.cases, "How many")->capture_default_str();
  app.add_option("--first", options.first, "Number of the first case");
  app.add_option("--reports", options.reports, "Failures to print in full")->capture_default_str();
  app.add_option("--left", options.left, "Backend")->check(backends)->capture_default_str();
  app.add_option("--right", options.right, "Backend")->check(backends)->capture_default_str();
  app.add_option("--left-switch", options.left_switches, "NAME=on|off, when left is the engine");
  app.add_option("--right-switch", options.right_switches, "NAME=on|off, when right is the engine");
  app.add_flag("--code16", options.code16, "16-bit code in real mode and in protected mode");
  app.add_flag("--list", options.list, "Print what is not compared, and why");
  CLI11_PARSE(app, argc, argv);
  return run(options);
}
